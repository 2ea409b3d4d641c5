//! What a task is inside the image, and what is left when it is over.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use tests::caller::{ALICE, ROOT, SCIENCE};
use tests::slurm::submit;
use tests::{Cluster, Plan, leaks, on_a_machine, wait};

#[test]
fn privileged_the_image_is_mounted_on_every_node_before_the_scripts_first_line() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let image = cluster.pull_busybox(&ALICE)?;
        let text = format!(
            "#!/bin/sh\n#SBATCH --image={}\n#SBATCH --nodes=3\n\
             while [ ! -e $HOME/go-on ]; do sleep 0.1; done\n",
            image.reference
        );
        let script = ALICE.script("job.sh", &text)?;
        let job = submit(&ALICE, &[&script.display().to_string()])?;
        job.wait_until("RUNNING")?;
        let place = format!("/run/gantry/jobs/{}", job.id);
        for node in cluster.slurm.nodes() {
            wait::until(&format!("the image to be mounted on {node}"), wait::START, || {
                let mounts = cluster.slurm.on_node(&node, &["cat", "/proc/self/mounts"])?.ok()?;
                let mounted = |line: &str| line.contains(&place) && line.contains(" squashfs ro");
                Ok(mounts.lines().any(mounted).then_some(()))
            })?;
        }
        ensure!(!leaks::loop_devices()?.is_empty(), "the leak check sees no loop device");
        ALICE.script("go-on", "")?;
        job.completed()?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_p12_a_task_inside_is_the_caller_and_nothing_more() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        let status = ALICE.run(&["srun", &option, "cat", "/proc/self/status"])?.ok()?;
        let field = |key: &str| -> Result<Vec<&str>> {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            Ok(line.with_context(|| format!("no {key}"))?.split_whitespace().collect())
        };
        ensure!(field("Uid:")? == ["6401"; 4] && field("Gid:")? == ["6401"; 4], "{status}");
        let mut groups = field("Groups:")?;
        groups.retain(|group| *group != "6401");
        ensure!(groups == [SCIENCE.to_string()], "{status}");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            ensure!(field(set)? == ["0000000000000000"], "{set} {status}");
        }
        ensure!(field("NoNewPrivs:")? == ["1"], "{status}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_nothing_inside_gives_privileges_or_can_be_changed() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        let elevated = ALICE.run(&["srun", &option, "/opt/elevate/id", "-u"])?.ok()?;
        ensure!(elevated == "6401\n", "{elevated}");
        let modes =
            ALICE.run(&["srun", &option, "stat", "-c", "%a %u", "/opt/elevate/id"])?.ok()?;
        ensure!(modes == "755 0\n", "{modes}");
        for place in ["/etc/os-release", "/bin/new", "/new", "/usr/new"] {
            let attempt = format!("echo x > {place}");
            let refused = ALICE.run(&["srun", &option, "sh", "-c", &attempt])?;
            ensure!(refused.code != 0, "{place} can be written: {refused}");
        }
        let mounts = ALICE.run(&["srun", &option, "cat", "/proc/self/mountinfo"])?.ok()?;
        let root = mounts.lines().find(|line| line.split_whitespace().nth(4) == Some("/"));
        let root = root.with_context(|| format!("no root in {mounts}"))?;
        let options: Vec<&str> =
            root.split_whitespace().nth(5).unwrap_or_default().split(',').collect();
        ensure!(["ro", "nosuid", "nodev"].iter().all(|it| options.contains(it)), "{root}");
        let remount = ["srun", &option, "mount", "-o", "remount,rw", "/"];
        ensure!(ALICE.run(&remount)?.code != 0);
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_p08_nothing_is_left_after_a_task_is_killed() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let mut client = start_sleeper(&cluster)?;
        for pid in processes("sleep")? {
            kill(pid, Signal::SIGKILL)?;
        }
        client.wait()?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_p09_nothing_is_left_after_slurmstepd_is_killed() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let mut client = start_sleeper(&cluster)?;
        for pid in processes("slurmstepd")? {
            kill(pid, Signal::SIGKILL).ok();
        }
        // With it goes all that Slurm knows of the tasks: they are an administrator's to end, and Gantry's not to hold.
        for pid in processes("sleep")? {
            kill(pid, Signal::SIGKILL).ok();
        }
        ROOT.run(&["scancel", "--user=alice"])?.ok()?;
        kill(Pid::from_raw(i32::try_from(client.id())?), Signal::SIGKILL).ok();
        client.wait()?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_p08_nothing_is_left_after_a_job_is_cancelled() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let image = cluster.pull_busybox(&ALICE)?.reference;
        let text = format!("#!/bin/sh\n#SBATCH --image={image} -N3\nsrun sleep 1000\n");
        let script = ALICE.script("job.sh", &text)?;
        let job = submit(&ALICE, &[&script.display().to_string()])?;
        wait::until("three tasks to run", wait::JOB, || {
            Ok((processes("sleep")?.len() == 3).then_some(()))
        })?;
        ALICE.run(&["scancel", &job.id.to_string()])?.ok()?;
        let ended = job.wait()?;
        ensure!(ended.state == "CANCELLED", "{ended:?}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_the_same_image_is_entered_from_a_shell() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        for program in ["gantry", "shifter"] {
            let look = [program, &option, "--", "sh", "-c", "grep ^ID= /etc/os-release; id -u"];
            let output = ALICE.run(&look)?.ok()?;
            ensure!(output == "ID=gantry-test\n6401\n", "{program}: {output}");
        }
        ALICE.run(&["gantry", &option, "--", "sh", "-c", "exit 9"])?.failed_with(9)?;
        cluster.check_nothing_left()
    })
}

/// Starts `srun` with a task on each node that sleeps, and waits until all three do.
fn start_sleeper(cluster: &Cluster) -> Result<std::process::Child> {
    let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
    let client = ALICE
        .command(&["srun", "-N3", &option, "sleep", "1000"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    wait::until("three tasks to run", wait::JOB, || {
        Ok((processes("sleep")?.len() == 3).then_some(()))
    })?;
    Ok(client)
}

/// The live processes that run a program of this name.
fn processes(name: &str) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let is_named = status.lines().next().is_some_and(|line| line == format!("Name:\t{name}"));
        if is_named && !status.contains("State:\tZ") {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}
