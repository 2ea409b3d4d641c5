//! What `/proc` tells about a process and all that descend from it.

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// A process and its living descendants.
pub(crate) fn tree(root: i32) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end between any two looks; it is then simply not there.
        if let Ok(stat) = Stat::read(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// Seconds of processor time, user and system, of a process, its descendants and those of them that have been reaped.
///
/// # Errors
/// Where the process itself is not there.
pub(crate) fn cpu_seconds(root: i32) -> Result<f64> {
    let own = Stat::read(root)?.ticks;
    let rest = tree(root).into_iter().skip(1).filter_map(|pid| Stat::read(pid).ok());
    let ticks = own + rest.map(|stat| stat.ticks).sum::<u64>();
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the system has no clock tick")?;
    Ok(ticks as f64 / per_second as f64)
}

/// Memory of one process in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident pages, those shared with others divided among them.
    pub(crate) proportional: u64,
    /// All resident pages.
    pub(crate) resident: u64,
    /// The most that was ever resident.
    pub(crate) high_water: u64,
}

/// What a process has in memory; `None` once it has ended.
pub(crate) fn memory(pid: i32) -> Option<Memory> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Memory {
        proportional: kibibytes(&rollup, "Pss:")?,
        resident: kibibytes(&rollup, "Rss:")?,
        high_water: kibibytes(&status, "VmHWM:")?,
    })
}

/// The name of a process, as its kernel thread bears it.
pub(crate) fn name(pid: i32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_string())
}

/// Bytes on disk of files that processes hold open but that have no name, so that no walk finds them.
pub(crate) fn unnamed_files(pids: &[i32]) -> u64 {
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    for pid in pids {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            // Memory files are no disk; they are counted with the memory.
            if target.to_string_lossy().starts_with("/memfd:") {
                continue;
            }
            let Ok(facts) = fs::metadata(entry.path()) else { continue };
            if facts.is_file() && facts.nlink() == 0 && seen.insert((facts.dev(), facts.ino())) {
                bytes += facts.blocks() * 512;
            }
        }
    }
    bytes
}

/// What is needed of `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: i32,
    /// User and system time of its own and of reaped children.
    ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("there is no process {pid}"))?;
        Self::parse(&text).with_context(|| format!("cannot read the times of process {pid}"))
    }

    /// proc_pid_stat(5): fields are counted from behind the name, which may hold blanks and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let parent = fields.get(1)?.parse().ok()?;
        let times = fields.get(11..15)?;
        let ticks = times.iter().map(|field| field.parse::<u64>()).sum::<Result<u64, _>>().ok()?;
        Some(Self { parent, ticks })
    }
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(value.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_process_are_its_own_and_those_of_reaped_children() {
        let text = "42 (a) b) (c) S 7 42 42 0 -1 4194560 1 2 3 4 10 20 300 4000 20 0 1 0 99 1 1";
        assert_eq!(Stat::parse(text), Some(Stat { parent: 7, ticks: 4330 }));
        assert_eq!(Stat::parse("42 (cut"), None);
        assert_eq!(Stat::parse("42 (cut) S 7 42"), None);
    }

    #[test]
    fn this_process_is_seen_with_its_child_and_has_memory() {
        let own = std::process::id() as i32;
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let seen = tree(own);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen.contains(&(child.id() as i32)), "{seen:?}");
        let memory = memory(own).unwrap();
        assert!(memory.proportional > 0 && memory.proportional <= memory.resident);
        assert!(cpu_seconds(own).unwrap() >= 0.0);
    }

    #[test]
    fn a_file_without_a_name_is_counted_once() {
        use std::io::Write;
        let mut file = tempfile_without_name();
        file.write_all(&vec![1; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        let own = std::process::id() as i32;
        let bytes = unnamed_files(&[own, own]);
        assert!((1 << 20..3 << 20).contains(&bytes), "{bytes}");
    }

    fn tempfile_without_name() -> fs::File {
        let path = std::env::temp_dir().join(format!("bench-unnamed-{}", std::process::id()));
        let file = fs::File::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        file
    }
}
