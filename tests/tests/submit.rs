//! From a submission to tasks inside the image: sbatch, srun and salloc, as people use them.

use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::thread;
use tests::caller::{ALICE, ROOT};
use tests::cluster::layers;
use tests::images::{PRETTY_NAME, busybox_with, noise};
use tests::slurm::submit;
use tests::{Cluster, Plan, on_a_machine, wait};

#[test]
fn privileged_a_batch_job_runs_its_steps_inside_the_image_on_every_node() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let image = cluster.pull_busybox(&ALICE)?.reference;
        let text = format!(
            "#!/bin/bash\n#SBATCH --image={image}\n#SBATCH --nodes=3\n\
             echo \"script: $(grep ^PRETTY_NAME /etc/os-release)\"\n\
             srun sh -c 'grep ^PRETTY_NAME /etc/os-release; echo uid $(id -u) on $SLURMD_NODENAME'\n\
             srun --image=none sh -c 'echo \"without: $(grep ^PRETTY_NAME /etc/os-release)\"'\n"
        );
        let script = ALICE.script("job.sh", &text)?;
        let output = submit(&ALICE, &[&script.display().to_string()])?.completed()?;
        let lines: Vec<&str> = output.lines().collect();
        let inside = format!("PRETTY_NAME=\"{PRETTY_NAME}\"");
        ensure!(lines.iter().filter(|line| **line == inside).count() == 3, "{output}");
        let on_nodes: BTreeSet<&str> =
            lines.iter().filter_map(|line| line.strip_prefix("uid 6401 on ")).collect();
        ensure!(on_nodes == BTreeSet::from(["node1", "node2", "node3"]), "{output}");
        let script_on_host = lines.iter().find(|line| line.starts_with("script: "));
        ensure!(script_on_host.is_some_and(|line| line.contains("Debian GNU/Linux")), "{output}");
        let without = lines.iter().filter(|line| line.starts_with("without: "));
        ensure!(without.clone().count() == 3, "{output}");
        ensure!(without.clone().all(|line| line.contains("Debian GNU/Linux")), "{output}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_an_image_that_is_not_there_yet_is_pulled_at_submission() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let image = tests::images::busybox(&tests::cluster::layers())?;
        let reference = cluster.push("fresh:1", &image)?.reference;
        let option = format!("--image={reference}");
        let output =
            ALICE.run(&["srun", "-N3", &option, "grep", "^ID=", "/etc/os-release"])?.ok()?;
        ensure!(output == "ID=gantry-test\nID=gantry-test\nID=gantry-test\n", "{output}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_salloc_gives_its_image_to_the_steps_inside() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        let inner = "grep ^ID= /etc/os-release; srun grep ^ID= /etc/os-release";
        let output = ALICE.run(&["salloc", "-N2", &option, "sh", "-c", inner])?.ok()?;
        ensure!(output == "ID=debian\nID=gantry-test\nID=gantry-test\n", "{output}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_a_step_may_choose_another_image_than_its_job() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let first = cluster.pull_busybox(&ALICE)?.reference;
        let other = tests::images::busybox_with(&tests::cluster::layers(), |tree| {
            tree.file("etc/os-release", 0o644, b"ID=other\n").map(drop)
        })?;
        let other = cluster.push("other:1", &other)?.reference;
        let inner =
            format!("srun grep ^ID= /etc/os-release; srun --image={other} cat /etc/os-release");
        let option = format!("--image={first}");
        let output = ALICE.run(&["salloc", "-N1", &option, "sh", "-c", &inner])?.ok()?;
        ensure!(output == "ID=gantry-test\nID=other\n", "{output}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_p05_the_image_survives_export_none() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let image = cluster.pull_busybox(&ALICE)?.reference;
        let script = ALICE.script("job.sh", "#!/bin/sh\nsrun grep ^ID= /etc/os-release\n")?;
        let script = script.display().to_string();
        let option = format!("--image={image}");
        let job = submit(&ALICE, &["--export=NONE", &option, &script])?;
        let output = job.completed()?;
        ensure!(output == "ID=gantry-test\n", "{output}");
        let words = ["srun", "--export=NONE", &option, "grep", "^ID=", "/etc/os-release"];
        ensure!(ALICE.run(&words)?.ok()? == "ID=gantry-test\n");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_a_volume_of_the_user_is_there_inside() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let image = cluster.pull_busybox(&ALICE)?.reference;
        let (option, volume) = (format!("--image={image}"), "--volume=/home/alice/data:/data");
        ALICE.run(&["mkdir", "data"])?.ok()?;
        let words = ["srun", &option, volume, "sh", "-c", "id -u > /data/uid"];
        ALICE.run(&words)?.ok()?;
        ensure!(ALICE.run(&["cat", "data/uid"])?.ok()? == "6401\n");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_p10_a_job_without_an_image_is_left_alone() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        cluster.gateway.stop()?;
        let output = ALICE.run(&["srun", "-N3", "grep", "^ID=", "/etc/os-release"])?.ok()?;
        ensure!(output == "ID=debian\nID=debian\nID=debian\n", "{output}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_the_exit_code_of_a_command_inside_is_the_steps() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        ALICE.run(&["srun", &option, "sh", "-c", "exit 7"])?.failed_with(7)?;
        let said = ALICE.run(&["srun", &option, "nosuchcommand"])?.failed_with(127)?;
        ensure!(said.contains("nosuchcommand"), "{said}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_a_job_may_be_submitted_while_its_image_is_still_being_made() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let large = busybox_with(&layers(), |tree| {
            tree.file("opt/noise", 0o644, &noise(6, 64 << 20)).map(drop)
        })?;
        let option = format!("--image={}", cluster.push("large:1", &large)?.reference);
        let script = ALICE.script("job.sh", "#!/bin/sh\nsrun -N2 grep ^ID= /etc/os-release\n")?;
        let script = script.display().to_string();
        let job = thread::scope(|scope| {
            let stopping = scope.spawn(|| {
                wait::until("the converter to be there and stopped", wait::JOB, || {
                    Ok((ROOT.run(&["pkill", "-STOP", "-x", "gantry-convert"])?.code == 0)
                        .then_some(()))
                })
            });
            let job = submit(&ALICE, &["-N2", "--image-wait=no", &option, &script])?;
            stopping.join().map_err(|_| anyhow::anyhow!("the watch broke off"))??;
            anyhow::Ok(job)
        })?;
        job.wait_until("RUNNING")?;
        ensure!(ALICE.run(&["imgctl", "resolve", &option["--image=".len()..]])?.code != 0);
        ROOT.run(&["pkill", "-CONT", "-x", "gantry-convert"])?.ok()?;
        let said = job.completed()?;
        ensure!(said == "ID=gantry-test\nID=gantry-test\n", "{said}");
        cluster.check_nothing_left()
    })
}
