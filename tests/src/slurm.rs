//! A Slurm cluster on one machine: slurmctld and a slurmd for each node.
//!
//! Every slurmd has a mount namespace with `/run/gantry`, `/tmp` and `/dev/shm` of its own, as every node of a real
//! cluster has. They share the network, the processes and all other directories.

mod conf;

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;
use std::time::Duration;

use crate::caller::{Caller, Outcome, ROOT, finish};
use crate::daemon::Daemon;
use crate::machine::Machine;
use crate::wait;

pub use conf::{Plugin, SlurmPlan};

/// A running cluster.
#[derive(Debug)]
pub struct Slurm {
    plan: SlurmPlan,
    controller: Option<Daemon>,
    nodes: BTreeMap<String, Daemon>,
}

impl Slurm {
    /// Starts a cluster and waits until all its nodes are idle. A munged must be running.
    ///
    /// # Errors
    /// Where a daemon ends or the nodes do not become idle, with the daemons' logs.
    pub fn start(_machine: &Machine, plan: SlurmPlan) -> Result<Self> {
        conf::write(&plan)?;
        let id =
            |flag| -> Result<u32> { Ok(ROOT.run(&["id", flag, "slurm"])?.ok()?.trim().parse()?) };
        let (uid, gid) = (id("-u")?, id("-g")?);
        for directory in [conf::STATE, conf::SPOOL] {
            fs::create_dir_all(directory)?;
        }
        chown(conf::STATE, Some(uid), Some(gid))?;
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid",
                "slurm",
                "--regid",
                "slurm",
                "--init-groups",
                "slurmctld",
                "-D",
                "-i",
            ])
            .current_dir("/");
        let controller = Daemon::start("slurmctld", &mut command)?;
        let mut slurm = Self { plan, controller: Some(controller), nodes: BTreeMap::new() };
        for number in 1..=slurm.plan.nodes {
            slurm.start_node(&format!("node{number}"))?;
        }
        slurm.wait_until_idle()?;
        Ok(slurm)
    }

    /// Starts the slurmd of `node`.
    ///
    /// # Errors
    /// Where it cannot be run.
    pub fn start_node(&mut self, node: &str) -> Result<()> {
        let plugstack = match self.plan.bare {
            Some(bare) if bare == node => "mount --bind /dev/null /etc/slurm/plugstack.conf",
            _ => "true",
        };
        let program = format!(
            "{plugstack} || exit 1; for own in /run/gantry /tmp /dev/shm; do \
               mkdir -p $own && mount -t tmpfs -o mode=1777 {node} $own || exit 1; done; \
             chmod 0755 /run/gantry && exec slurmd -D -N {node}"
        );
        fs::create_dir_all(format!("{}/{node}", conf::SPOOL))?;
        let mut command = Command::new("env");
        if self.plan.own_tmp {
            // Slurm binds the mount namespace of a job to a file, which the kernel refuses where that is not younger
            // than slurmd's own. On Linux 6.18 only those made on one processor are in the order of their age.
            command.args(["taskset", "--cpu-list", "0"]);
        }
        command
            .args(["unshare", "--mount", "--propagation", "private"])
            .args(["bash", "-c", &program])
            .current_dir("/");
        self.nodes
            .insert(node.to_string(), Daemon::start(&format!("slurmd-{node}"), &mut command)?);
        Ok(())
    }

    /// The names of the nodes.
    pub fn nodes(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    /// Waits until every node is idle: no job runs or is being cleaned up after.
    ///
    /// # Errors
    /// Where that takes too long, with the states seen last.
    pub fn wait_until_idle(&mut self) -> Result<()> {
        let mut seen = String::new();
        wait::until("all nodes to be idle", wait::JOB, || {
            for daemon in self.controller.iter_mut().chain(self.nodes.values_mut()) {
                daemon.check_alive()?;
            }
            let states = node_states().unwrap_or_default();
            seen = format!("{states:?}");
            let idle = states.len() == self.plan.nodes && states.values().all(|it| it == "IDLE");
            Ok(idle.then_some(()))
        })
        .with_context(|| format!("the nodes were {seen}"))
    }

    /// Fails where a node is drained or down: what no user's mistake may do.
    ///
    /// # Errors
    /// With the states and reasons that Slurm gives.
    pub fn check_no_node_drained(&self) -> Result<()> {
        let shown = ROOT.run(&["scontrol", "--oneliner", "show", "node"])?.ok()?;
        let bad = |line: &&str| line.contains("DRAIN") || line.contains("DOWN");
        let drained: Vec<&str> = shown.lines().filter(bad).collect();
        ensure!(drained.is_empty(), "nodes are drained or down:\n{}", drained.join("\n"));
        Ok(())
    }

    /// Runs a command as root where `node` sees its mounts.
    ///
    /// # Errors
    /// Where there is no such node or the command cannot be run.
    pub fn on_node(&self, node: &str, words: &[&str]) -> Result<Outcome> {
        let daemon = self.nodes.get(node).with_context(|| format!("there is no node {node}"))?;
        let pid = daemon.pid().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--mount", "--"]).args(words);
        finish(&format!("{node}# {}", words.join(" ")), &mut command)
    }

    /// The daemon of `node`.
    ///
    /// # Errors
    /// Where there is no such node.
    pub fn node(&self, node: &str) -> Result<&Daemon> {
        self.nodes.get(node).with_context(|| format!("there is no node {node}"))
    }
}

/// Submits a script that `caller` owns; options come before it.
///
/// # Errors
/// Where sbatch refuses.
pub fn submit(caller: &Caller, words: &[&str]) -> Result<Job> {
    let line: Vec<&str> =
        ["sbatch", "--parsable"].into_iter().chain(words.iter().copied()).collect();
    let said = caller.run(&line)?.ok()?;
    let id = said.trim().parse().with_context(|| format!("sbatch said {said:?}"))?;
    Ok(Job { id, owner: *caller })
}

/// A submitted job.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Its number.
    pub id: u32,
    owner: Caller,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// `COMPLETED`, `FAILED` and so on.
    pub state: String,
    /// The batch script's exit code.
    pub code: i32,
    /// What the batch script and its steps wrote.
    pub output: String,
}

impl Job {
    /// The job's state now.
    ///
    /// # Errors
    /// Where Slurm does not know the job.
    pub fn state(&self) -> Result<String> {
        let shown = self.shown()?;
        Ok(field(&shown, "JobState")?.to_string())
    }

    /// Waits until the job is in `state`.
    ///
    /// # Errors
    /// Where it ends otherwise or does not get there in time.
    pub fn wait_until(&self, state: &str) -> Result<()> {
        wait::until(&format!("job {} to be {state}", self.id), wait::JOB, || {
            let now = self.state()?;
            if now != state && !matches!(now.as_str(), "PENDING" | "CONFIGURING" | "RUNNING") {
                bail!("job {} is {now} instead of {state}:\n{}", self.id, self.output());
            }
            Ok((now == state).then_some(()))
        })
    }

    /// Waits for the job's end.
    ///
    /// # Errors
    /// Where it does not end in time.
    pub fn wait(&self) -> Result<Ended> {
        let what = format!("the end of job {}", self.id);
        let shown = wait::until(&what, wait::JOB, || {
            let shown = self.shown()?;
            let running = ["PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED"];
            let ended = !running.contains(&field(&shown, "JobState")?);
            Ok(ended.then_some(shown))
        })
        .with_context(|| self.output())?;
        let code = field(&shown, "ExitCode")?.split(':').next().unwrap_or_default().parse()?;
        Ok(Ended { state: field(&shown, "JobState")?.to_string(), code, output: self.output() })
    }

    /// Waits for the job's end, which must be a good one, and returns its output.
    ///
    /// # Errors
    /// Where it failed, with its output.
    pub fn completed(&self) -> Result<String> {
        let ended = self.wait()?;
        ensure!(
            ended.state == "COMPLETED",
            "job {} is {}:\n{}",
            self.id,
            ended.state,
            ended.output
        );
        Ok(ended.output)
    }

    /// What it has written so far, to the file that sbatch chooses by default.
    pub fn output(&self) -> String {
        let path = self.owner.home().join(format!("slurm-{}.out", self.id));
        let bytes = fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn shown(&self) -> Result<String> {
        ROOT.run(&["scontrol", "--oneliner", "show", "job", &self.id.to_string()])?.ok()
    }
}

/// The state of every node, without the marks that Slurm adds to it.
fn node_states() -> Result<BTreeMap<String, String>> {
    let shown = ROOT.run(&["timeout", "10", "scontrol", "--oneliner", "show", "node"])?.ok()?;
    let mut states = BTreeMap::new();
    for line in shown.lines().filter(|line| line.contains("NodeName=")) {
        states.insert(field(line, "NodeName")?.to_string(), field(line, "State")?.to_string());
    }
    Ok(states)
}

/// The value of `key=value` in a line of scontrol.
fn field<'a>(line: &'a str, key: &str) -> Result<&'a str> {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        .with_context(|| format!("scontrol shows no {key}: {line}"))
}

/// How long Slurm is given to notice that something died.
pub const NOTICE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let line = "JobId=7 JobName=x ExitCode=0:0 DerivedExitCode=1:0 JobState=FAILED Reason=None";
        assert_eq!(field(line, "ExitCode").unwrap(), "0:0");
        assert_eq!(field(line, "JobState").unwrap(), "FAILED");
        assert!(field(line, "State").is_err());
    }
}
