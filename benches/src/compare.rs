//! Two trees hold the same: names, kinds, permissions, sizes, targets, times and every byte.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Compares two trees and returns how many entries each has.
///
/// Set-id bits, owners and extended attributes are left out: ours has none, the others' depend on who unpacked. So are
/// the times of directories, which some tools take from the unpacking. Permissions are compared as far as `a+rX` leaves
/// a difference: with that ours differs from the archive by design, as Shifter's own way of unpacking does.
///
/// # Errors
/// With the first differences.
pub(crate) fn compare(ours: &Path, theirs: &Path) -> Result<usize> {
    let (mut found, mut expected) = (BTreeMap::new(), BTreeMap::new());
    list(ours, Path::new(""), &mut found)?;
    list(theirs, Path::new(""), &mut expected)?;
    let mut differences = Vec::new();
    for (path, entry) in &found {
        match expected.get(path) {
            Some(other) if other == entry => {}
            Some(other) => differences.push(format!("{}: {entry}, not {other}", path.display())),
            None => differences.push(format!("{}: only in ours", path.display())),
        }
    }
    let missing = expected.keys().filter(|path| !found.contains_key(*path));
    differences.extend(missing.map(|path| format!("{}: not in ours", path.display())));
    if differences.is_empty() {
        for (path, _) in found.iter().filter(|(_, entry)| entry.starts_with("file")) {
            if !same_bytes(&ours.join(path), &theirs.join(path))? {
                differences.push(format!("{}: other bytes", path.display()));
            }
        }
    }
    let shown = differences.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
    ensure!(differences.is_empty(), "{} entries differ:\n{shown}", differences.len());
    ensure!(!found.is_empty(), "{} is empty", ours.display());
    Ok(found.len())
}

/// Compares two files byte by byte.
///
/// # Errors
/// Where one cannot be read.
pub(crate) fn same_bytes(one: &Path, other: &Path) -> Result<bool> {
    let open =
        |path: &Path| File::open(path).with_context(|| format!("cannot open {}", path.display()));
    let (mut one, mut other) = (open(one)?, open(other)?);
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let (count, other_count) =
            (read_full(&mut one, &mut left)?, read_full(&mut other, &mut right)?);
        if left.get(..count) != right.get(..other_count) {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> Result<usize> {
    let mut at = 0;
    while let Some(room) = buffer.get_mut(at..).filter(|room| !room.is_empty()) {
        match file.read(room)? {
            0 => break,
            count => at += count,
        }
    }
    Ok(at)
}

fn list(root: &Path, below: &Path, found: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    let directory = root.join(below);
    let entries =
        fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let facts = entry.metadata()?;
        let (kind, time) = (facts.file_type(), facts.mtime());
        let mode = readable(facts.mode() & 0o1777, kind.is_dir());
        let said = if kind.is_dir() {
            format!("directory {mode:o}")
        } else if kind.is_symlink() {
            format!("symlink to {}, {time}", fs::read_link(entry.path())?.display())
        } else if kind.is_file() {
            format!("file {mode:o} of {} bytes, {time}, {} links", facts.len(), facts.nlink())
        } else {
            format!("special file {mode:o}, fifo {}", kind.is_fifo())
        };
        found.insert(path.clone(), said);
        if kind.is_dir() {
            list(root, &path, found)?;
        }
    }
    Ok(())
}

/// `chmod a+rX`.
fn readable(mode: u32, is_directory: bool) -> u32 {
    if is_directory || mode & 0o111 != 0 { mode | 0o555 } else { mode | 0o444 }
}

/// How many differences are told.
const SHOWN: usize = 10;

const CHUNK: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_a_name_or_a_permission_makes_trees_differ() {
        let root = std::env::temp_dir().join(format!("bench-compare-{}", std::process::id()));
        let (one, other) = (root.join("one"), root.join("other"));
        for tree in [&one, &other] {
            fs::create_dir_all(tree.join("directory")).unwrap();
            fs::write(tree.join("directory/file"), b"content").unwrap();
        }
        let touch = || {
            let file = File::options().write(true).open(other.join("directory/file")).unwrap();
            let times = fs::metadata(one.join("directory/file")).unwrap().modified().unwrap();
            file.set_modified(times).unwrap();
        };
        touch();
        assert_eq!(compare(&one, &other).unwrap(), 2);
        fs::write(other.join("directory/file"), b"kontent").unwrap();
        touch();
        assert!(compare(&one, &other).unwrap_err().to_string().contains("other bytes"));
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(other.join("directory/file"), mode(0o755)).unwrap();
        assert!(compare(&one, &other).unwrap_err().to_string().contains("file 755"));
        fs::write(other.join("directory/more"), b"").unwrap();
        assert!(compare(&one, &other).unwrap_err().to_string().contains("not in ours"));
        assert!(compare(&other, &one).unwrap_err().to_string().contains("only in ours"));
        fs::remove_dir_all(&root).unwrap();
    }
}
