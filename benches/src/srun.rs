//! `./bench srun`: what the plugin and an image cost a step of a running job.
//!
//! One cluster, one allocation without an image, and `srun true` in it in turn: without the plugin, with it, with an
//! image. Slurm reads plugstack.conf in every srun and in every slurmstepd, so the plugin comes and goes by that file.

use ::tests::caller::ALICE;
use ::tests::cluster::{Cluster, Plan};
use ::tests::slurm::{Job, submit};
use ::tests::{Machine, images};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::report::{Report, Target, row};
use crate::statistics::{paired, spread};

/// Runs it all.
///
/// # Errors
/// Where the cluster does not start, or a step fails.
pub(crate) fn run(machine: &Machine) -> Result<Report> {
    let mut report = Report::begin("bench srun: `srun true` in a running job")?;
    let mut cluster = Cluster::start(machine, Plan { nodes: 1, ..Plan::default() })?;
    let pushed = cluster.pull_busybox(&ALICE)?;
    let job = submit(&ALICE, &["--wrap", "sleep 1h", "-n", "1"])?;
    job.wait_until("RUNNING")?;
    let image = format!("--image={}", pushed.reference);
    check_image(job, &image)?;
    let plugged =
        fs::read_to_string(PLUGSTACK).with_context(|| format!("cannot read {PLUGSTACK}"))?;
    // By its digest, as every task of a job that was submitted with --image has it.
    let digest = [("GANTRY_IMAGE", pushed.digest.as_str())];
    let ways = [
        Way { name: "no plugin", plugged: "", options: &[], environment: &[] },
        Way { name: "plugin, no image", plugged: &plugged, options: &[], environment: &[] },
        Way { name: "srun --image", plugged: &plugged, options: &[&image], environment: &[] },
        Way { name: "image of the job", plugged: &plugged, options: &[], environment: &digest },
    ];
    eprintln!("bench: {RUNS} steps of each, in turn");
    let mut walls: [Vec<f64>; 4] = Default::default();
    for number in 0..RUNS + WARM {
        for (way, walls) in ways.iter().zip(&mut walls) {
            let wall = way.step(job)?;
            if number >= WARM {
                walls.push(wall);
            }
        }
    }
    ALICE.run(&["scancel", &job.id.to_string()])?.ok()?;
    cluster.slurm.wait_until_idle()?;
    report.line(&format!("{}; n={RUNS} each, interleaved, one node", version()?));
    let mut rows = vec![row(&["step", "wall ms"])];
    for (way, walls) in ways.iter().zip(&walls) {
        rows.push(vec![way.name.into(), spread(walls, |wall| wall * 1000.0)?]);
    }
    report.table(&rows);
    let [none, plain, image, inherited] = &walls;
    report.key("image_over_plain", paired(image, plain, |wall| *wall)?, Target::AtMost(1.1))?;
    report.key("loaded_over_plain", paired(plain, none, |wall| *wall)?, Target::AtMost(1.05))?;
    let inherited = paired(inherited, plain, |wall| *wall)?;
    report.line(&format!("image of the job over plugin without image: {inherited:.3}"));
    Ok(report)
}

/// A way to run a step.
struct Way<'a> {
    name: &'static str,
    plugged: &'a str,
    options: &'a [&'a str],
    environment: &'a [(&'a str, &'a str)],
}

impl Way<'_> {
    /// Runs `true` as a step: seconds until srun has ended.
    fn step(&self, job: Job) -> Result<f64> {
        fs::write(PLUGSTACK, self.plugged)?;
        let mut command = srun(job, self.options, &["true"]);
        command.envs(self.environment.iter().copied());
        let begun = Instant::now();
        let ended = command.output().context("cannot run srun")?;
        let wall = begun.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        ensure!(ended.status.success(), "srun failed ({}): {said}", self.name);
        Ok(wall)
    }
}

/// srun in `job`, as its user.
fn srun(job: Job, options: &[&str], command: &[&str]) -> Command {
    let mut srun = Command::new("/usr/bin/srun");
    srun.args([&format!("--jobid={}", job.id), "--overlap", "-n1"])
        .args(options)
        .args(command)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", ALICE.home())
        .env("USER", ALICE.name)
        .current_dir(ALICE.home())
        .stdin(Stdio::null())
        .uid(ALICE.uid)
        .gid(ALICE.uid);
    srun
}

/// Fails where a step with the image does not run in it.
fn check_image(job: Job, image: &str) -> Result<()> {
    let output = srun(job, &[image], &["cat", "/etc/os-release"]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.contains(images::PRETTY_NAME), "the step did not run in the image: {output:?}");
    Ok(())
}

fn version() -> Result<String> {
    let output = Command::new("srun").arg("--version").output().context("cannot run srun")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

const PLUGSTACK: &str = "/etc/slurm/plugstack.conf";

/// Steps that count, of each.
const RUNS: usize = 60;

/// Steps before them.
const WARM: usize = 3;
