//! What goes wrong, and that the user is told in one sentence, with an exit code, at no node's cost.

use anyhow::{Result, ensure};
use std::fs;
use tests::caller::{ALICE, BOB, Outcome};
use tests::cluster::layers;
use tests::images::{busybox, push};
use tests::install::IMAGES;
use tests::munged::Munged;
use tests::registry::WRONG_LOGIN;
use tests::slurm::{Plugin, submit};
use tests::{Cluster, Plan, on_a_machine};

#[test]
fn privileged_a_wrong_tag_is_told_at_submission() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        cluster.pull_busybox(&ALICE)?;
        let image = format!("docker:{}/busybox:nosuchtag", cluster.registry.name());
        check_refused(&image, &["nosuchtag"])?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_p01_a_reference_that_is_none_is_told_at_submission() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        check_refused("docker:UPPER CASE:1", &["UPPER CASE"])?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_a_registry_that_is_down_is_told_at_submission() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let pushed = cluster.push("busybox:1", &busybox(&layers())?)?;
        let name = cluster.registry.name();
        cluster.registry.stop()?;
        check_refused(&pushed.reference, &[&name])?;
        cluster.registry.resume()?;
        // The failure is not remembered.
        ALICE.run(&["srun", &format!("--image={}", pushed.reference), "true"])?.ok()?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_a_wrong_password_is_told_at_submission() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let pushed = push(&cluster.locked, "private:1", &busybox(&layers())?)?;
        let name = cluster.locked.name();
        check_refused(&pushed.reference, &[&name])?;
        cluster.locked.log_in(&ALICE, WRONG_LOGIN)?;
        check_refused(&pushed.reference, &[&name])?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_a_gateway_that_is_down_is_told_at_submission() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let pushed = cluster.push("busybox:1", &busybox(&layers())?)?;
        cluster.gateway.stop()?;
        check_refused(&pushed.reference, &["gateway"])?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_an_image_that_is_there_runs_while_the_gateway_is_down() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        cluster.gateway.stop()?;
        let output =
            ALICE.run(&["srun", "-N3", &option, "grep", "^ID=", "/etc/os-release"])?.ok()?;
        ensure!(output == "ID=gantry-test\nID=gantry-test\nID=gantry-test\n", "{output}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_a_munged_that_is_down_is_told_by_the_command() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let pushed = cluster.push("busybox:1", &busybox(&layers())?)?;
        if let Some(munged) = cluster.munged.take() {
            munged.stop()?;
        }
        let pulled = ALICE.run(&["imgctl", "pull", &pushed.reference])?;
        check_one_sentence(&pulled, &["munge"])?;
        let refused = ALICE.run(&["srun", &format!("--image={}", pushed.reference), "true"])?;
        ensure!(refused.stderr.contains("munge"), "{refused}");
        refused.failed()?;
        cluster.munged = Some(Munged::start(machine)?);
        ALICE.run(&["srun", &format!("--image={}", pushed.reference), "true"])?.ok()?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_an_image_removed_before_the_job_starts_fails_the_step_and_drains_nothing()
-> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let image = cluster.pull_busybox(&ALICE)?.reference;
        check_removed_image(&mut cluster, &image)
    })
}

#[test]
fn privileged_an_optional_plugin_never_lets_a_task_run_on_the_host() -> Result<()> {
    on_a_machine(|machine| {
        let plan = Plan { plugin: Plugin::Optional(String::new()), ..Plan::default() };
        let mut cluster = Cluster::start(machine, plan)?;
        let image = cluster.pull_busybox(&ALICE)?.reference;
        check_removed_image(&mut cluster, &image)
    })
}

#[test]
fn privileged_an_image_missing_on_one_node_fails_there_alone() -> Result<()> {
    on_a_machine(|machine| {
        let plan =
            Plan { plugin: Plugin::Optional(String::new()), prolog: false, ..Plan::default() };
        let mut cluster = Cluster::start(machine, plan)?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        let hide = ["mount", "-t", "tmpfs", "none", IMAGES];
        cluster.slurm.on_node("node2", &hide)?.ok()?;
        let look = "echo $SLURMD_NODENAME $(grep ^ID= /etc/os-release)";
        let outcome = ALICE.run(&["srun", "-N3", "-l", &option, "sh", "-c", look])?;
        ensure!(
            !outcome.stdout.contains("node2") && !outcome.stdout.contains("debian"),
            "{outcome}"
        );
        ensure!(outcome.stderr.contains("node2"), "{outcome}");
        outcome.failed()?;
        cluster.slurm.on_node("node2", &["umount", IMAGES])?.ok()?;
        cluster.check_nothing_left()
    })
}

/// Submits a job, takes the image away before it starts, and checks that no step of it runs.
fn check_removed_image(cluster: &mut Cluster, image: &str) -> Result<()> {
    let text = format!(
        "#!/bin/sh\n#SBATCH --image={image}\nsrun sh -c 'echo ran in $(grep ^ID= /etc/os-release)'\n"
    );
    let script = ALICE.script("job.sh", &text)?;
    let words = ["--hold", "--nodes=3", &script.display().to_string()];
    let job = submit(&ALICE, &words)?;
    for entry in fs::read_dir(IMAGES)? {
        let path = entry?.path();
        if path.is_file() {
            fs::remove_file(path)?;
        }
    }
    ALICE.run(&["scontrol", "release", &job.id.to_string()])?.ok()?;
    let ended = job.wait()?;
    ensure!(ended.state == "FAILED" && ended.code > 0, "{ended:?}");
    ensure!(!ended.output.contains("ran in"), "a task ran on the host: {ended:?}");
    ensure!(ended.output.contains("gantry"), "the user is not told why: {ended:?}");
    cluster.check_nothing_left()?;
    // The cluster is as good as before.
    BOB.run(&["srun", "-N3", "true"])?.ok().map(drop)
}

/// Every way to submit must refuse `image` and say these words.
fn check_refused(image: &str, words: &[&str]) -> Result<()> {
    let script = ALICE.script("refused.sh", "#!/bin/sh\necho this must not run\n")?;
    let script = script.display().to_string();
    let option = format!("--image={image}");
    check_one_sentence(&ALICE.run(&["imgctl", "pull", image])?, words)?;
    for line in [
        &["sbatch", &option, &script][..],
        &["srun", &option, "true"],
        &["salloc", &option, "true"],
    ] {
        check_one_sentence(&ALICE.run(line)?, words)?;
    }
    let queued = ALICE.run(&["squeue", "--noheader"])?.ok()?;
    ensure!(queued.is_empty(), "a refused job is queued: {queued}");
    Ok(())
}

/// One sentence that says why, perhaps with a hint below, and an exit code that is not 0.
fn check_one_sentence(outcome: &Outcome, words: &[&str]) -> Result<()> {
    ensure!(outcome.code > 0 && outcome.code != 124, "{outcome}");
    let noise =
        |line: &&str| line.trim().is_empty() || BESIDE.iter().any(|beside| line.contains(beside));
    let said: Vec<&str> = outcome.stderr.lines().filter(|line| !noise(line)).collect();
    let sentences = said.iter().filter(|line| !line.contains("hint: ")).count();
    ensure!(sentences == 1, "{sentences} sentences instead of one: {outcome}");
    for word in words {
        ensure!(outcome.stderr.contains(word), "`{word}` is not mentioned: {outcome}");
    }
    Ok(())
}

/// What may stand beside the reason: how far the pull got, and that nothing was submitted, in our words and Slurm's.
const BESIDE: [&str; 5] = [
    "imgctl: waiting: ",
    "imgctl: pulling: ",
    "nothing was submitted",
    "Invalid --image argument",
    "Plug-in initialization failed",
];
