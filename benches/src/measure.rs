//! What a piece of work costs: time, processor, memory and disk, looked at while it runs.

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::statvfs::statvfs;
use nix::sys::time::TimeValLike;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::processes;

/// What a piece of work cost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cost {
    /// Seconds on the wall.
    pub(crate) wall: f64,
    /// Seconds of processor time, user and system, of all processes.
    pub(crate) cpu: f64,
    /// The system part, where it was told apart.
    pub(crate) system: f64,
    /// The most memory and disk at once.
    pub(crate) peaks: Peaks,
}

/// The most that was in use at once, in bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peaks {
    /// Memory: proportional set sizes of all processes together.
    pub(crate) memory: u64,
    /// Memory: resident set sizes of all processes together; shared pages count several times.
    pub(crate) resident: u64,
    /// Memory: the high-water mark of each process, by name, the largest of each name.
    pub(crate) high_water: BTreeMap<String, u64>,
    /// Disk, beyond what was in use before.
    pub(crate) disk: u64,
    /// Disk still in use at the end, beyond what was in use before.
    pub(crate) disk_left: u64,
}

/// Where disk use is looked at.
#[derive(Clone, Debug)]
pub(crate) enum Disk {
    /// These directories, by a walk, and files without a name that the processes hold open. For few files.
    Directories(Vec<PathBuf>),
    /// The whole file system that this lies on: exact where nobody else writes to it.
    FileSystem(PathBuf),
}

impl Disk {
    /// Bytes in use, with those of files without a name that these processes hold open.
    pub(crate) fn in_use(&self, pids: &[i32]) -> u64 {
        match self {
            Self::Directories(directories) => {
                let named: u64 = directories.iter().map(|path| allocated(path)).sum();
                named + processes::unnamed_files(pids)
            }
            Self::FileSystem(path) => statvfs(path.as_path())
                .map(|facts| (facts.blocks() - facts.blocks_free()) * facts.fragment_size())
                .unwrap_or_default(),
        }
    }
}

/// Looks at a process tree every [`PERIOD`] until it is told to stop, but never for more than a twentieth of the time.
#[derive(Debug)]
pub(crate) struct Watch {
    root: i32,
    disk: Disk,
    before: u64,
    stop: Arc<AtomicBool>,
    peaks: Arc<Mutex<Peaks>>,
    thread: thread::JoinHandle<()>,
}

impl Watch {
    /// Starts looking at `root`, all that descends from it, and a place on disk, where `before` bytes were in use before
    /// the work began.
    pub(crate) fn start(root: i32, disk: Disk, before: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let peaks = Arc::new(Mutex::new(Peaks::default()));
        let thread = thread::spawn({
            let (stop, peaks, disk) = (Arc::clone(&stop), Arc::clone(&peaks), disk.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    look(
                        root,
                        &disk,
                        before,
                        &mut peaks.lock().unwrap_or_else(PoisonError::into_inner),
                    );
                    // Counting the pages of a large process takes time that the process could use.
                    let took = begun.elapsed();
                    thread::sleep(PERIOD.saturating_sub(took).max((took * SHARE).min(LONGEST)));
                }
            }
        });
        Self { root, disk, before, stop, peaks, thread }
    }

    /// The peaks so far; looks no more.
    ///
    /// # Errors
    /// Where nothing was ever seen.
    pub(crate) fn stop(self) -> Result<Peaks> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the watch broke off")?;
        let mut peaks = self.peaks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        peaks.disk_left = self.disk.in_use(&processes::tree(self.root)).saturating_sub(self.before);
        peaks.disk = peaks.disk.max(peaks.disk_left);
        ensure!(peaks.memory > 0, "no memory of process {} was seen", self.root);
        Ok(peaks)
    }
}

fn look(root: i32, disk: &Disk, before: u64, peaks: &mut Peaks) {
    let pids = processes::tree(root);
    let (mut proportional, mut resident) = (0, 0);
    for pid in &pids {
        let Some(memory) = processes::memory(*pid) else { continue };
        proportional += memory.proportional;
        resident += memory.resident;
        let name = processes::name(*pid).unwrap_or_default();
        let mark = peaks.high_water.entry(name).or_default();
        *mark = memory.high_water.max(*mark);
    }
    peaks.memory = proportional.max(peaks.memory);
    peaks.resident = resident.max(peaks.resident);
    peaks.disk = disk.in_use(&pids).saturating_sub(before).max(peaks.disk);
}

/// Runs a command to its end and measures it with everything that it starts.
///
/// # Errors
/// Where it cannot be run or does not succeed, with the end of what it said.
pub(crate) fn run(name: &str, command: &mut Command, disk: Disk) -> Result<Cost> {
    let log = Path::new("/srv/log").join(format!("{name}.log"));
    fs::create_dir_all("/srv/log")?;
    let out = fs::File::create(&log)?;
    command.stdout(out.try_clone()?).stderr(out);
    let before = disk.in_use(&[]);
    let (used, system) = usage(UsageWho::RUSAGE_CHILDREN)?;
    let begun = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot run {name}"))?;
    let watch = Watch::start(i32::try_from(child.id())?, disk, before);
    let status = child.wait()?;
    let wall = begun.elapsed().as_secs_f64();
    let (used_after, system_after) = usage(UsageWho::RUSAGE_CHILDREN)?;
    let peaks = watch.stop();
    if !status.success() {
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        anyhow::bail!("{name} ended with {status}:\n{tail}");
    }
    Ok(Cost { wall, cpu: used_after - used, system: system_after - system, peaks: peaks? })
}

/// Seconds of processor time so far: all of it, and the system's part.
///
/// # Errors
/// Where the system does not say.
pub(crate) fn usage(who: UsageWho) -> Result<(f64, f64)> {
    let usage = getrusage(who).context("cannot read the processor time")?;
    let system = usage.system_time().num_microseconds() as f64 / 1e6;
    Ok((usage.user_time().num_microseconds() as f64 / 1e6 + system, system))
}

/// Bytes on disk of everything below a path; what vanishes meanwhile does not count.
pub(crate) fn allocated(path: &Path) -> u64 {
    let Ok(facts) = fs::symlink_metadata(path) else { return 0 };
    let below: u64 = if facts.is_dir() {
        fs::read_dir(path).into_iter().flatten().flatten().map(|e| allocated(&e.path())).sum()
    } else {
        facts.blocks() * 512
    };
    below
}

/// How often is looked.
const PERIOD: Duration = Duration::from_millis(100);

/// After a look that took long there is none for so many times as long.
const SHARE: u32 = 19;

/// Nor is it ever longer until the next.
const LONGEST: Duration = Duration::from_millis(400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_measured_with_what_it_starts() {
        let directory = std::env::temp_dir().join(format!("bench-measure-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("file");
        let script =
            format!("head -c 4194304 /dev/urandom >{0}; sync {0}; sleep 2; rm {0}", file.display());
        let disk = Disk::Directories(vec![directory.clone()]);
        let before = disk.in_use(&[]);
        let mut child = Command::new("sh").args(["-c", &script]).spawn().unwrap();
        let watch = Watch::start(child.id() as i32, disk, before);
        child.wait().unwrap();
        let peaks = watch.stop().unwrap();
        fs::remove_dir_all(&directory).unwrap();
        assert!((4 << 20..5 << 20).contains(&peaks.disk), "{peaks:?}");
        assert_eq!(peaks.disk_left, 0);
        assert!(peaks.high_water.contains_key("sh"), "{peaks:?}");
    }
}
