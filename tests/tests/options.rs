//! What changes the inside of an image: the site's modules, and Pyxis' options where a site has them.

use anyhow::{Result, ensure};
use std::fs;
use std::io::Write as _;
use tests::caller::ALICE;
use tests::install::CONF;
use tests::slurm::{Plugin, submit};
use tests::{Cluster, Plan, on_a_machine};

#[test]
fn privileged_a_site_offers_modules_and_a_user_selects_them() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let image = cluster.pull_busybox(&ALICE)?.reference;
        fs::create_dir_all("/srv/tools")?;
        fs::write("/srv/tools/list", "")?;
        let modules = "module_tools_siteFs = /srv/tools:/tools\n\
                       module_tools_siteEnv = TOOLS=/tools\n\
                       module_other_siteEnv = OTHER=1\n\
                       module_other_conflict = tools\n\
                       defaultModules = other\n";
        fs::File::options().append(true).open(CONF)?.write_all(modules.as_bytes())?;
        let inside = "echo \"$TOOLS $OTHER $(ls /tools 2>/dev/null)\"";
        let option = format!("--image={image}");
        for (module, shown) in
            [(None, " 1 \n"), (Some("tools"), "/tools  list\n"), (Some("none"), "  \n")]
        {
            let module = module.map(|names| format!("--module={names}"));
            let words = |command: &[&str]| -> Vec<String> {
                let front = command.iter().map(ToString::to_string);
                front.chain([option.clone()]).chain(module.clone()).collect()
            };
            for command in [&["srun"][..], &["gantry"]] {
                let words = words(command);
                let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
                words.extend(["sh", "-c", inside]);
                let said = ALICE.run(&words)?.ok()?;
                ensure!(said == shown, "{words:?}: {said:?}");
            }
            // A step has what the job has.
            let script = ALICE.script("job.sh", &format!("#!/bin/sh\nsrun sh -c '{inside}'\n"))?;
            let mut words = words(&[]);
            words.push(script.display().to_string());
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let said = submit(&ALICE, &words)?.completed()?;
            ensure!(said == shown, "{words:?}: {said:?}");
        }
        for (module, reason) in
            [("tools,other", "cannot be used together"), ("nosuch", "no enabled module `nosuch`")]
        {
            let refused = ALICE.run(&["srun", &option, &format!("--module={module}"), "true"])?;
            ensure!(refused.stderr.contains(reason), "{refused}");
            refused.failed_with(125)?;
        }
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_a_script_written_for_pyxis_runs_unchanged() -> Result<()> {
    on_a_machine(|machine| {
        let plugin = Plugin::Required("pyxis_options=yes".to_string());
        let mut cluster = Cluster::start(machine, Plan { plugin, ..Plan::default() })?;
        let image = cluster.pull_busybox(&ALICE)?.reference;
        let image = image.trim_start_matches("docker:").replacen('/', "#", 1);
        fs::create_dir_all("/srv/data")?;
        fs::write("/srv/data/list", "")?;
        let text = format!(
            "#!/bin/sh\n#SBATCH --nodes=2\nexport PATH=/mine:$PATH\n\
             srun --container-image={image} --container-mounts=/srv/data:/mnt:ro,/srv/data \
             --container-workdir=/mnt --container-env=PATH --container-readonly \
             sh -c 'grep ^ID= /etc/os-release; pwd; ls /srv/data; echo ${{PATH%%:*}}; touch x 2>&1'\n"
        );
        let script = ALICE.script("job.sh", &text)?;
        let ended = submit(&ALICE, &[&script.display().to_string()])?.wait()?;
        for line in ["ID=gantry-test", "/mnt", "list", "/mine"] {
            let count = ended.output.lines().filter(|shown| *shown == line).count();
            ensure!(count == 2, "{line}: {ended:?}");
        }
        ensure!(ended.output.contains("Read-only file system"), "{ended:?}");
        let file = ALICE.run(&["srun", "--container-image=/shared/app.sqsh", "true"])?;
        ensure!(file.stderr.contains("hint: `imgctl import FILE"), "{file}");
        file.failed()?;
        cluster.check_nothing_left()
    })
}
