//! Never on the host by accident, also on a node whose plugstack.conf lacks the plugin's line.

use anyhow::{Result, ensure};
use tests::caller::{ALICE, Outcome};
use tests::slurm::submit;
use tests::{Cluster, Plan, on_a_machine};

/// A cluster in which the third node knows nothing of the plugin.
fn plan() -> Plan {
    Plan { bare: Some("node3"), ..Plan::default() }
}

/// What says where a task runs: the image's name or the host's.
const WHERE: &str = "grep ^ID= /etc/os-release";

#[test]
fn privileged_a_node_without_the_plugin_runs_no_task_on_the_host() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, plan())?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        for line in [
            format!("srun -N3 {option} {WHERE}"),
            format!("srun -N3 --export=NONE {option} {WHERE}"),
            format!("srun -N3 --export=A=1 {option} {WHERE}"),
            format!("salloc -N3 {option} srun {WHERE}"),
            format!("salloc -N3 {option} srun --export=NONE {WHERE}"),
        ] {
            check_guarded(&line, &ALICE.run(&line.split(' ').collect::<Vec<_>>())?)?;
        }
        for export in ["--export=ALL", "--export=NONE"] {
            let script = ALICE.script("job.sh", &format!("#!/bin/sh\nsrun {WHERE}\n"))?;
            let script = script.display().to_string();
            let ended = submit(&ALICE, &["-N3", export, &option, &script])?.wait()?;
            ensure!(ended.state == "FAILED", "{export}: {ended:?}");
            check_lines(export, &ended.output)?;
        }
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_a_batch_script_on_a_node_without_the_plugin_starts_no_step_on_the_host() -> Result<()>
{
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, plan())?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        // This srun has no plugin, and tells no node of an image.
        let script = ALICE.script("job.sh", &format!("#!/bin/sh\nsrun -N1 -w node3 {WHERE}\n"))?;
        let script = script.display().to_string();
        let ended = submit(&ALICE, &["-N1", "-w", "node3", &option, &script])?.wait()?;
        ensure!(ended.state == "FAILED", "{ended:?}");
        ensure!(!ended.output.contains("ID="), "{ended:?}");
        ensure!(ended.output.contains("node3 did not put the task into the image"), "{ended:?}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_a_node_without_gantry_runs_no_task_on_the_host() -> Result<()> {
    on_a_machine(|machine| {
        // Such a node has no Prolog of Gantry's either.
        let mut cluster = Cluster::start(machine, Plan { prolog: false, ..plan() })?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        cluster
            .slurm
            .on_node("node3", &["mount", "-t", "tmpfs", "none", "/usr/libexec/gantry"])?
            .ok()?;
        let line = format!("srun -w node3 {option} {WHERE}");
        let said = ALICE.run(&line.split(' ').collect::<Vec<_>>())?;
        ensure!(!said.stdout.contains("ID="), "{said}");
        said.failed()?;
        cluster.slurm.on_node("node3", &["umount", "/usr/libexec/gantry"])?.ok()?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_tasks_that_want_no_image_run_on_any_node() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, plan())?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        let host = "ID=debian\n".repeat(3);
        let plain = format!("srun -N3 {WHERE}");
        let none = format!("salloc -N3 {option} srun --image=none {WHERE}");
        for line in [plain, none] {
            let said = ALICE.run(&line.split(' ').collect::<Vec<_>>())?.ok()?;
            ensure!(said == host, "{line}: {said}");
        }
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_a_task_prolog_of_the_users_own_still_runs() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        let prolog = ALICE.script("prolog", "#!/bin/sh\necho export GREETING=hello\n")?;
        let prolog = prolog.display().to_string();
        let words = ["srun", &option, "sh", "-c", "echo $GREETING; grep ^ID= /etc/os-release"];
        let said = ALICE.run_with(&words, &[("SLURM_TASK_PROLOG", &prolog)])?.ok()?;
        ensure!(said == "hello\nID=gantry-test\n", "{said}");
        let by_option = format!("--task-prolog={prolog}");
        let refused = ALICE.run(&["srun", &by_option, &option, "true"])?;
        ensure!(refused.stderr.contains("hint: export SLURM_TASK_PROLOG"), "{refused}");
        refused.failed()?;
        cluster.check_nothing_left()
    })
}

/// Two tasks inside, none on the host, and the third node's reason.
fn check_guarded(line: &str, said: &Outcome) -> Result<()> {
    check_lines(line, &format!("{}{}", said.stdout, said.stderr))?;
    ensure!(said.code != 0, "{line} ended well: {said}");
    Ok(())
}

fn check_lines(line: &str, output: &str) -> Result<()> {
    ensure!(!output.contains("ID=debian"), "{line}: a task ran on the host:\n{output}");
    let reason = "node node3 did not put the task into the image";
    ensure!(output.contains(reason), "{line}: no reason:\n{output}");
    Ok(())
}
