//! Devices by CDI specification files: those that somebody names, and those that a site gives to tasks with GPUs.
//!
//! The vendor is made up and its device is `/dev/null`: no machine that runs this has a GPU.

use anyhow::{Result, ensure};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use tests::caller::ALICE;
use tests::slurm::{Plugin, submit};
use tests::{Cluster, Plan, on_a_machine};

const SPECIFICATION: &str = r#"cdiVersion: 0.5.0
kind: vendor.test/gpu
devices:
  - name: all
    containerEdits:
      deviceNodes: [{path: /dev/null}]
  - name: gone
    containerEdits:
      deviceNodes: [{path: /dev/no-such-gpu}]
containerEdits:
  env: [VENDOR=here]
  mounts:
    - hostPath: /srv/driver/libvendor.so.1.2
      containerPath: /usr/lib/vendor/libvendor.so.1.2
      options: [ro, bind]
    - {hostPath: /srv/driver/etc, containerPath: /etc/vendor}
  hooks:
    - hookName: createContainer
      path: /usr/bin/nvidia-cdi-hook
      args: [nvidia-cdi-hook, create-symlinks, --link, "libvendor.so.1::/usr/lib/vendor/libvendor.so"]
    - hookName: createContainer
      path: /usr/bin/nvidia-cdi-hook
      args: [nvidia-cdi-hook, update-ldcache, --folder, /usr/lib/vendor]
    - {hookName: createRuntime, path: /srv/driver/hook, args: [hook]}
"#;

/// Shows what the vendor's file gives: nothing but blanks without it.
const LOOK: &str = "echo \"$VENDOR $LD_LIBRARY_PATH\" $(for name in so.1.2 so.1 so; do \
                    cat $LD_LIBRARY_PATH/libvendor.$name 2>/dev/null; done)";

const SHOWN: &str = "here /.gantry-devices/lib0 driver driver driver\n";

#[test]
fn privileged_a_device_brings_its_libraries_and_variables_and_runs_no_hook() -> Result<()> {
    on_a_machine(|machine| {
        let plugin = Plugin::Required("gpu_devices=vendor.test/gpu=all".to_string());
        let mut cluster = Cluster::start(machine, Plan { plugin, ..Plan::default() })?;
        let image = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        fs::create_dir_all("/srv/driver/etc")?;
        fs::write("/srv/driver/libvendor.so.1.2", "driver\n")?;
        symlink("libvendor.so.1.2", "/srv/driver/libvendor.so.1")?;
        fs::write("/srv/driver/hook", "#!/bin/sh\ntouch /srv/driver/hook-was-run\n")?;
        fs::set_permissions("/srv/driver/hook", fs::Permissions::from_mode(0o755))?;
        fs::create_dir_all("/etc/cdi")?;
        fs::write("/etc/cdi/vendor.yaml", SPECIFICATION)?;
        let device = "--device=vendor.test/gpu=all";
        for program in ["gantry", "srun"] {
            let said = ALICE.run(&[program, &image, device, "sh", "-c", LOOK])?.ok()?;
            ensure!(said == SHOWN, "{program}: {said:?}");
            let said = ALICE.run(&[program, &image, "sh", "-c", LOOK])?.ok()?;
            ensure!(said.trim().is_empty(), "{program} without a device: {said:?}");
            let gone =
                ALICE.run(&[program, &image, "--device=vendor.test/gpu=gone", "sh", "-c", LOOK])?;
            ensure!(gone.stderr.contains("cannot use the device node /dev/no-such-gpu"), "{gone}");
            gone.failed_with(125)?;
        }
        // A step has what the job has; the explicit way, too.
        let script = ALICE.script(
            "job.sh",
            &format!("#!/bin/sh\nsrun sh -c '{LOOK}'\nsrun gantry sh -c '{LOOK}'\nsrun --device=none sh -c '{LOOK}'\n"),
        )?;
        let script = script.display().to_string();
        let said = submit(&ALICE, &[&image, device, &script])?.completed()?;
        // srun itself may say that it waits for the step before.
        let shown: Vec<&str> = said.lines().filter(|line| !line.starts_with("srun: ")).collect();
        ensure!(shown == [SHOWN.trim_end(), SHOWN.trim_end(), " "], "{said:?}");
        // What Slurm sets where it grants GPUs.
        let granted = [("CUDA_VISIBLE_DEVICES", "0")];
        let said = ALICE.run_with(&["srun", &image, "sh", "-c", LOOK], &granted)?.ok()?;
        ensure!(said == SHOWN, "by gpu_devices=: {said:?}");
        let none = ["srun", &image, "--device=none", "sh", "-c", LOOK];
        let said = ALICE.run_with(&none, &granted)?.ok()?;
        ensure!(said.trim().is_empty(), "with none: {said:?}");
        let told = ALICE.run(&["gantry", "--verbose", &image, device, "true"])?;
        for note in ["the hook `/srv/driver/hook` is not run", "/etc/vendor is left out"] {
            ensure!(told.stderr.contains(note), "{note}: {told}");
        }
        ensure!(!fs::exists("/srv/driver/hook-was-run")?, "a hook was run");
        cluster.check_nothing_left()
    })
}
