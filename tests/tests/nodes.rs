//! The plugin on the nodes, with and without an image: the catalogue's P03, P06, P07, P08, P10 and P12.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::{Command, Stdio};
use tests::caller::{ALICE, BOB, ROOT};
use tests::daemon::Daemon;
use tests::slurm::submit;
use tests::{Cluster, Plan, leaks, on_a_machine, wait};

#[test]
fn privileged_p03_a_node_without_its_configuration_fails_the_task_and_is_not_drained() -> Result<()>
{
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        cluster
            .slurm
            .on_node("node2", &["mount", "-t", "tmpfs", "-o", "mode=0755", "none", "/etc/gantry"])?
            .ok()?;
        let look = "echo $SLURMD_NODENAME $(grep ^ID= /etc/os-release)";
        let outcome = ALICE.run(&["srun", "-N3", "-l", &option, "sh", "-c", look])?;
        let ran = |node: &str| outcome.stdout.contains(&format!("{node} ID=gantry-test"));
        ensure!(ran("node1") && ran("node3") && !outcome.stdout.contains("node2"), "{outcome}");
        let told = "cannot open /etc/gantry/udiRoot.conf: no such file";
        ensure!(outcome.stderr.contains(told), "{outcome}");
        outcome.failed_with(125)?;
        cluster.slurm.check_no_node_drained()?;
        cluster.slurm.on_node("node2", &["umount", "/etc/gantry"])?.ok()?;
        BOB.run(&["srun", "-N3", &option, "true"])?.ok()?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_p06_a_directory_that_the_image_has_not_is_told_and_the_task_starts_in_the_root()
-> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        ROOT.run(&["install", "-d", "-o", "alice", "/srv/work"])?.ok()?;
        let outcome = ALICE.run(&["srun", "--chdir=/srv/work", &option, "pwd"])?;
        ensure!(outcome.stdout == "/\n", "{outcome}");
        let told = "gantry: the working directory /srv/work is not in the image, starting in /";
        ensure!(outcome.stderr.contains(told), "{outcome}");
        outcome.ok()?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_p07_inside_tmp_is_the_jobs_own_where_slurm_gives_it_one() -> Result<()> {
    on_a_machine(|machine| {
        let plan = Plan { nodes: 1, own_tmp: true, ..Plan::default() };
        let mut cluster = Cluster::start(machine, plan)?;
        let image = cluster.pull_busybox(&ALICE)?.reference;
        let text = format!(
            "#!/bin/sh\n#SBATCH --image={image}\necho of the job > /tmp/mine\n\
             srun sh -c 'grep ^ID= /etc/os-release; cat /tmp/mine; echo of the step > /tmp/mine'\ncat /tmp/mine\n"
        );
        let script = ALICE.script("job.sh", &text)?.display().to_string();
        let output = submit(&ALICE, &[&script])?.completed()?;
        ensure!(output == "ID=gantry-test\nof the job\nof the step\n", "{output}");
        let seen = cluster.slurm.on_node("node1", &["ls", "/tmp"])?.ok()?;
        ensure!(!seen.contains("mine"), "the node's own /tmp has it: {seen}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_p08_64_tasks_share_one_loop_device_and_one_that_dies_takes_no_other_along()
-> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan { nodes: 1, ..Plan::default() })?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        let mut client = ALICE
            .command(&["srun", "-N1", "-n64", "--overcommit", &option, "sleep", "1000"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let running = |wanted: usize| {
            wait::until(&format!("{wanted} tasks to run"), wait::JOB, || {
                let pids = sleepers()?;
                Ok((pids.len() == wanted).then_some(pids))
            })
        };
        let tasks = running(64)?;
        let devices = leaks::loop_devices()?;
        ensure!(devices.len() == 1, "{devices:?}");
        kill(*tasks.first().context("there are 64")?, Signal::SIGKILL)?;
        // Slurm knows of its end when the step has one task less; the others are the same as before.
        let left = running(63)?;
        ensure!(left.iter().all(|pid| tasks.contains(pid)), "{left:?} are not of {tasks:?}");
        ensure!(leaks::loop_devices()? == devices);
        ROOT.run(&["scancel", "--user=alice"])?.ok()?;
        wait::until("the end of srun", wait::JOB, || Ok(client.try_wait()?))?;
        cluster.check_nothing_left()
    })
}

/// The processes of Alice's whose program is `sleep`.
fn sleepers() -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let is_alices = status.contains(&format!("\nUid:\t{}\t", ALICE.uid));
        if status.starts_with("Name:\tsleep\n") && is_alices && !status.contains("State:\tZ") {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

#[test]
fn privileged_p10_for_a_job_without_an_image_root_makes_no_call_more() -> Result<()> {
    on_a_machine(|machine| {
        let plan = Plan { nodes: 1, prolog: false, ..Plan::default() };
        let mut cluster = Cluster::start(machine, plan)?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        let without = calls_of_the_plugin(&cluster, &["srun", "true"])?;
        ensure!(without.is_empty(), "for a job without an image:\n{}", without.join("\n"));
        // The look sees the plugin: with an image it starts the runtime.
        let with = calls_of_the_plugin(&cluster, &["srun", &option, "true"])?;
        ensure!(with.iter().any(|call| call.contains("recvmsg")), "{}", with.join("\n"));
        cluster.check_nothing_left()
    })
}

/// Every system call in slurmd and all that it starts in which the plugin is on the stack, while Alice runs `words`.
fn calls_of_the_plugin(cluster: &Cluster, words: &[&str]) -> Result<Vec<String>> {
    let trace = "/srv/trace";
    let slurmd = cluster.slurm.node("node1")?.pid().to_string();
    let mut command = Command::new("strace");
    let tracer = Daemon::start("strace", command.args(["-f", "-k", "-o", trace, "-p", &slurmd]))?;
    wait::until("strace to be attached", wait::START, || {
        Ok(tracer.log().contains("attached").then_some(()))
    })?;
    let ran = ALICE.run(words)?;
    tracer.stop()?;
    ran.ok()?;
    let (mut found, mut call) = (Vec::new(), None);
    let text = fs::read_to_string(trace)?;
    fs::remove_file(trace)?;
    ensure!(text.contains("spank_gantry.so"), "the plugin was not loaded");
    for line in text.lines() {
        if !line.starts_with(" > ") {
            call = Some(line.to_string());
        } else if line.contains("spank_gantry.so") {
            // Once for each call, however deep.
            found.extend(call.take());
        }
    }
    Ok(found)
}

#[test]
fn privileged_p12_the_groups_of_a_job_are_those_inside() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let image = cluster.pull_busybox(&ALICE)?.reference;
        let look = "grep -E ^(Uid|Gid|Groups): /proc/self/status";
        let as_it_is = |option: &str| {
            format!("srun {option} {}", look.replace("^(Uid|Gid|Groups):", "'^(Uid|Gid|Groups):'"))
        };
        for group in ["alice", "science"] {
            let run = |option: &str| -> Result<String> {
                ALICE.run(&["sg", group, "-c", &as_it_is(option)])?.ok()
            };
            let (outside, inside) = (run("--image=none")?, run(&format!("--image={image}"))?);
            ensure!(outside == inside, "as {group} outside\n{outside}inside\n{inside}");
            let gid = if group == "alice" { ALICE.uid } else { tests::caller::SCIENCE };
            ensure!(inside.contains(&format!("Gid:\t{gid}\t{gid}\t{gid}\t{gid}\n")), "{inside}");
        }
        cluster.check_nothing_left()
    })
}
