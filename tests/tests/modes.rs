//! The plugin's modes other than the default one, and progress on a terminal.

use anyhow::{Result, ensure};
use tests::caller::ALICE;
use tests::cluster::layers;
use tests::images::busybox;
use tests::slurm::{Plugin, submit};
use tests::{Cluster, Plan, on_a_machine};

#[test]
fn privileged_enter_explicit_leaves_steps_on_the_host_until_they_say_gantry_or_shifter()
-> Result<()> {
    on_a_machine(|machine| {
        let plugin = Plugin::Required("enter=explicit".to_string());
        let mut cluster = Cluster::start(machine, Plan { plugin, ..Plan::default() })?;
        let image = cluster.pull_busybox(&ALICE)?.reference;
        let text = format!(
            "#!/bin/sh\n#SBATCH --image={image}\nsrun grep ^ID= /etc/os-release\n\
             srun gantry grep ^ID= /etc/os-release\nsrun shifter grep ^ID= /etc/os-release\n"
        );
        let script = ALICE.script("job.sh", &text)?;
        let output = submit(&ALICE, &[&script.display().to_string()])?.completed()?;
        ensure!(output == "ID=debian\nID=gantry-test\nID=gantry-test\n", "{output}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_a_script_written_for_shifter_runs_unchanged() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let image = cluster.pull_busybox(&ALICE)?.reference;
        let text = format!(
            "#!/bin/sh\n#SBATCH --image={image}\nsrun shifter grep ^ID= /etc/os-release\n\
             srun gantry --env=A=1 sh -c 'echo $A; grep ^ID= /etc/os-release'\n"
        );
        let script = ALICE.script("job.sh", &text)?;
        let output = submit(&ALICE, &[&script.display().to_string()])?.completed()?;
        ensure!(output == "ID=gantry-test\n1\nID=gantry-test\n", "{output}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_enter_all_puts_the_batch_script_inside() -> Result<()> {
    on_a_machine(|machine| {
        let plugin = Plugin::Required("enter=all".to_string());
        let mut cluster = Cluster::start(machine, Plan { plugin, ..Plan::default() })?;
        let image = cluster.pull_busybox(&ALICE)?.reference;
        let text = format!("#!/bin/sh\n#SBATCH --image={image}\ngrep ^ID= /etc/os-release\n");
        let script = ALICE.script("job.sh", &text)?;
        let output = submit(&ALICE, &[&script.display().to_string()])?.completed()?;
        ensure!(output == "ID=gantry-test\n", "{output}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_gantry_alone_joins_the_image_of_the_job() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        let text = "#!/bin/sh\ngrep ^ID= /etc/os-release\ngantry grep ^ID= /etc/os-release\n";
        let script = ALICE.script("job.sh", text)?;
        let output = submit(&ALICE, &[&option, &script.display().to_string()])?.completed()?;
        ensure!(output == "ID=debian\nID=gantry-test\n", "{output}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_progress_on_a_terminal_is_drawn_in_place() -> Result<()> {
    on_a_machine(|machine| {
        let cluster = Cluster::start(machine, Plan::default())?;
        let pushed = cluster.push("busybox:1", &busybox(&layers())?)?;
        let pull = format!("imgctl pull {}", pushed.reference);
        let words = ["env", "TERM=xterm", "script", "--quiet", "--return", "--command", &pull];
        let words: Vec<&str> = words.into_iter().chain(["/dev/null"]).collect();
        let shown = ALICE.run(&words)?.ok()?;
        ensure!(shown.contains("\x1b["), "nothing is drawn:\n{shown:?}");
        ensure!(shown.contains(&pushed.digest), "no digest:\n{shown:?}");
        Ok(())
    })
}
