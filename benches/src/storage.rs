//! File systems on loop devices, and files that are in no cache.

use ::tests::caller::ROOT;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A file mounted somewhere; unmounted when dropped, and its loop device freed with that.
#[derive(Debug)]
pub(crate) struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// Mounts an image, read-only.
    ///
    /// # Errors
    /// Where the kernel does not take it.
    pub(crate) fn image(image: &Path, at: &Path) -> Result<Self> {
        Self::mount(image, at, "loop,ro")
    }

    /// Makes an XFS that can clone in a sparse file and mounts it.
    ///
    /// # Errors
    /// Where it cannot be made or the kernel has no XFS.
    pub(crate) fn xfs(file: &Path, bytes: u64, at: &Path) -> Result<Self> {
        File::create(file)?.set_len(bytes)?;
        ROOT.run(&["mkfs.xfs", "-q", "-m", "reflink=1", &file.display().to_string()])?.ok()?;
        Self::mount(file, at, "loop")
    }

    fn mount(file: &Path, at: &Path, options: &str) -> Result<Self> {
        fs::create_dir_all(at)?;
        let (file, place) = (file.display().to_string(), at.display().to_string());
        ROOT.run(&["mount", "-o", options, &file, &place])?.ok()?;
        Ok(Self { at: at.to_path_buf() })
    }

    /// Where.
    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    /// Bytes that were read from the backing file so far, as the loop device counts them.
    ///
    /// # Errors
    /// Where the device does not say.
    pub(crate) fn bytes_read(&self) -> Result<u64> {
        let place = self.at.display().to_string();
        let device = ROOT.run(&["findmnt", "-n", "-o", "SOURCE", &place])?.ok()?;
        let name = device.trim().trim_start_matches("/dev/").to_string();
        let stat = fs::read_to_string(format!("/sys/block/{name}/stat"))
            .with_context(|| format!("cannot read how much was read from {name}"))?;
        let sectors: u64 = stat.split_whitespace().nth(2).context("no sectors")?.parse()?;
        Ok(sectors * 512)
    }

    /// Unmounts it and says where that fails.
    ///
    /// # Errors
    /// Where it is in use.
    pub(crate) fn unmount(self) -> Result<()> {
        let place = self.at.display().to_string();
        ROOT.run(&["umount", &place])?.ok()?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let place = self.at.display().to_string();
        ROOT.run(&["umount", "--lazy", &place]).ok();
    }
}

/// Takes a file out of the page cache, and fails where it stays.
///
/// # Errors
/// Where a part of it stays, as what somebody has mapped or mounted does.
pub(crate) fn evict(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    file.sync_all()?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    let name = path.display().to_string();
    let cached =
        ROOT.run(&["fincore", "--bytes", "--noheadings", "--output", "RES", &name])?.ok()?;
    let cached: u64 = cached.trim().parse().context("fincore tells no number")?;
    ensure!(cached < MOST_LEFT, "{cached} bytes of {name} stay in the page cache");
    Ok(())
}

/// A few pages may be on their way; an image has thousands.
const MOST_LEFT: u64 = 1 << 20;

/// What kind of file system a path lies on, in mount's words.
///
/// # Errors
/// Where findmnt does not know.
pub(crate) fn kind(path: &Path) -> Result<String> {
    let name = path.display().to_string();
    let said = ROOT.run(&["findmnt", "-n", "-o", "FSTYPE", "--target", &name])?.ok()?;
    Ok(said.lines().last().unwrap_or_default().trim().to_string())
}

/// Removes everything in a directory, not the directory.
///
/// # Errors
/// Where something stays.
pub(crate) fn empty(directory: &Path) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        let removed = match path.is_dir() && !path.is_symlink() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}
