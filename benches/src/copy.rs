//! The plain copy of an image: what a warm pull is held against.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Seconds that `cp` and an fsync of the copy take; the copy lies beside the file and is removed.
///
/// # Errors
/// Where it cannot be copied.
pub(crate) fn seconds(file: &Path, clone: bool) -> Result<f64> {
    let copy = file.with_extension("copy");
    let how = if clone { "--reflink=always" } else { "--reflink=never" };
    let begun = Instant::now();
    let status = Command::new("cp").arg(how).arg(file).arg(&copy).status()?;
    anyhow::ensure!(status.success(), "cp {how} ended with {status}");
    File::open(&copy)?.sync_all()?;
    let taken = begun.elapsed().as_secs_f64();
    fs::remove_file(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    Ok(taken)
}
