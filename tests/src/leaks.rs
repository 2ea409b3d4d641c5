//! What jobs must not leave behind: loop devices of our images, mounts, processes.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::caller::ROOT;
use crate::install::IMAGES;
use crate::slurm::Slurm;
use crate::wait;

/// What was there before the first job.
#[derive(Debug)]
pub struct Before {
    things: BTreeSet<String>,
}

impl Before {
    /// Looks at the machine and its nodes.
    ///
    /// # Errors
    /// Where a node cannot be looked at.
    pub fn look(slurm: &Slurm) -> Result<Self> {
        Ok(Self { things: things(slurm)? })
    }

    /// Gives what ends by itself the time to do so, and returns what is still there then.
    ///
    /// # Errors
    /// Where a node cannot be looked at.
    pub fn wait_until_gone(&self, slurm: &Slurm) -> Result<Vec<String>> {
        let mut left = Vec::new();
        let gone = wait::until("everything to be gone", PATIENCE, || {
            left = things(slurm)?.difference(&self.things).cloned().collect();
            Ok(left.is_empty().then_some(()))
        });
        // Only the wait itself may fail here; what is left is the answer.
        gone.or_else(|late| if left.is_empty() { Err(late) } else { Ok(()) })?;
        Ok(left)
    }
}

/// The loop devices that hold an image of this machine, as `losetup` names them.
///
/// Loop devices are the kernel's, not the machine's: those of other tests are told apart by device and inode.
///
/// # Errors
/// Where losetup fails.
pub fn loop_devices() -> Result<Vec<String>> {
    let mut ours = BTreeSet::new();
    for entry in fs::read_dir(IMAGES).context("cannot list the image directory")? {
        let facts = entry?.metadata()?;
        ours.insert(facts.ino().to_string());
    }
    let list =
        ["losetup", "--list", "--noheadings", "--raw", "--output", "BACK-INO,NAME,BACK-FILE"];
    let listed = ROOT.run(&list)?.ok()?;
    // An image that was removed while it was mounted is in no directory any more, but keeps its path.
    let is_ours = |line: &&str| {
        let inode = line.split_whitespace().next().unwrap_or_default();
        line.contains(IMAGES) && (ours.contains(inode) || line.contains("deleted"))
    };
    Ok(listed.lines().filter(is_ours).map(str::to_string).collect())
}

fn things(slurm: &Slurm) -> Result<BTreeSet<String>> {
    let mut things: BTreeSet<String> =
        loop_devices()?.into_iter().map(|line| format!("loop device {line}")).collect();
    for node in slurm.nodes() {
        let mounts = slurm.on_node(&node, &["cat", "/proc/self/mountinfo"])?.ok()?;
        things.extend(mounts.lines().map(|line| format!("mount on {node}: {}", without_ids(line))));
        let jobs = slurm.on_node(&node, &["find", "/run/gantry", "-mindepth", "1"])?.ok()?;
        let kept = |path: &&str| path.starts_with("/run/gantry/jobs/");
        things.extend(jobs.lines().filter(kept).map(|path| format!("on {node}: {path}")));
    }
    for entry in fs::read_dir("/proc")?.flatten() {
        things.extend(left_over_process(&entry.file_name().to_string_lossy()));
    }
    Ok(things)
}

/// Names the process `pid` if it belongs to a job or to Gantry's own work on a node.
fn left_over_process(pid: &str) -> Option<String> {
    pid.parse::<u32>().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let (name, state, uid) = (value("Name:")?, value("State:")?, value("Uid:")?);
    let uid: u32 = uid.split_whitespace().next()?.parse().ok()?;
    let of_a_user = (6401..6500).contains(&uid);
    let of_a_job = of_a_user || name.starts_with("slurmstepd") || name.starts_with("gantry-suid");
    // A dead one that nobody has waited for holds nothing but its number.
    (of_a_job && !state.starts_with('Z')).then(|| format!("process {pid} {name} of user {uid}"))
}

/// A line of mountinfo without mount ids, which differ from look to look.
fn without_ids(line: &str) -> String {
    line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ")
}

/// Loop devices are freed by the kernel a moment after the last mount is gone.
const PATIENCE: Duration = Duration::from_secs(20);
