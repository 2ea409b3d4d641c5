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
    let image = format!("--image={}", pushed.reference);
    let plain = submit(&ALICE, &["--wrap", "sleep 1h", "-n1"])?;
    let script = ALICE.script("held", "#!/bin/sh\nexec sleep 3600\n")?;
    let held = submit(&ALICE, &["-n1", &image, &script.display().to_string()])?;
    for job in [plain, held] {
        job.wait_until("RUNNING")?;
    }
    let plugged =
        fs::read_to_string(PLUGSTACK).with_context(|| format!("cannot read {PLUGSTACK}"))?;
    // What the steps of a job that was submitted with --image inherit: for the image that
    // the job has, no step asks the gateway.
    let digest = [
        ("GANTRY_IMAGE", pushed.digest.as_str()),
        ("GANTRY_IMAGE_REQUEST", pushed.reference.as_str()),
        // Without it srun begins anew, which steps of such a job need not.
        ("SLURM_TASK_PROLOG", GUARD),
    ];
    let bare = Way { name: "no plugin", job: plain, plugged: "", options: &[], environment: &[] };
    let loaded = Way { name: "plugin, no image", plugged: &plugged, ..bare };
    let ways = [
        Way {
            name: "image of the job",
            job: held,
            options: &[&image],
            environment: &digest,
            ..loaded
        },
        Way { name: "the same, the gateway asked", job: held, options: &[&image], ..loaded },
        Way { name: "image of the step alone", options: &[&image], ..loaded },
        Way { name: "the guard, no image", environment: &digest[2..], ..loaded },
        loaded,
        bare,
    ];
    for (number, way) in ways.iter().enumerate() {
        way.check_inside(number < 3)?;
    }
    eprintln!("bench: {RUNS} steps of each, in turn");
    let mut walls: [Vec<f64>; 6] = Default::default();
    for number in 0..RUNS + WARM {
        for (way, walls) in ways.iter().zip(&mut walls) {
            let wall = way.step()?;
            if number >= WARM {
                walls.push(wall);
            }
        }
    }
    ALICE.run(&["scancel", &plain.id.to_string(), &held.id.to_string()])?.ok()?;
    cluster.slurm.wait_until_idle()?;
    report.line(&format!("{}; n={RUNS} each, interleaved, one node", version()?));
    let mut rows = vec![row(&["step", "wall ms"])];
    for (way, walls) in ways.iter().zip(&walls) {
        rows.push(vec![way.name.into(), spread(walls, |wall| wall * 1000.0)?]);
    }
    report.table(&rows);
    let [image, _, _, _, plain, none] = &walls;
    report.key("image_over_plain", paired(image, plain, |wall| *wall)?, Target::AtMost(1.1))?;
    report.key("loaded_over_plain", paired(plain, none, |wall| *wall)?, Target::AtMost(1.05))?;
    Ok(report)
}

/// A way to run a step.
#[derive(Clone, Copy)]
struct Way<'a> {
    name: &'static str,
    job: Job,
    plugged: &'a str,
    options: &'a [&'a str],
    environment: &'a [(&'a str, &'a str)],
}

impl Way<'_> {
    /// Runs `true` as a step: seconds until srun has ended.
    fn step(&self) -> Result<f64> {
        let mut command = self.srun(&["true"])?;
        let begun = Instant::now();
        let ended = command.output().context("cannot run srun")?;
        let wall = begun.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        ensure!(ended.status.success(), "srun failed ({}): {said}", self.name);
        Ok(wall)
    }

    /// srun in the job, as its user.
    fn srun(&self, command: &[&str]) -> Result<Command> {
        fs::write(PLUGSTACK, self.plugged)?;
        let mut srun = Command::new("/usr/bin/srun");
        srun.args([&format!("--jobid={}", self.job.id), "--overlap", "-n1"])
            .args(self.options)
            .args(command)
            .env_clear()
            .envs(self.environment.iter().copied())
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", ALICE.home())
            .env("USER", ALICE.name)
            .env("SLURM_JOB_ID", self.job.id.to_string())
            .current_dir(ALICE.home())
            .stdin(Stdio::null())
            .uid(ALICE.uid)
            .gid(ALICE.uid);
        Ok(srun)
    }

    /// Fails where the step does not run in the image, or does without one.
    fn check_inside(&self, inside: bool) -> Result<()> {
        let output = self.srun(&["cat", "/etc/os-release"])?.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            said.contains(images::PRETTY_NAME) == inside,
            "the step of `{}` was in the wrong place: {output:?}",
            self.name
        );
        Ok(())
    }
}

fn version() -> Result<String> {
    let output = Command::new("srun").arg("--version").output().context("cannot run srun")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

const GUARD: &str = "/usr/libexec/gantry/gantry-guard";

const PLUGSTACK: &str = "/etc/slurm/plugstack.conf";

/// Steps that count, of each.
const RUNS: usize = 60;

/// Steps before them.
const WARM: usize = 3;
