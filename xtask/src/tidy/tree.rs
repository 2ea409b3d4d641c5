//! The model of the checkout that the checks look at: files as text, crates as cargo knows them.
//!
//! The only file of tidy that touches the disk, with `metadata.rs` beside it.

use super::metadata::{self, Package};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The checkout as tidy sees it. All paths are relative to the root, with `/` between their parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    /// Every file and its text; empty for what is not UTF-8 or larger than [`TEXT_LIMIT`].
    pub(crate) files: BTreeMap<String, String>,
    /// Every directory.
    pub(crate) directories: BTreeSet<String>,
    /// The members of the workspace by name.
    pub(crate) packages: BTreeMap<String, Package>,
    /// What is linked into each guarded crate, itself apart: crates, and their features as `crate/feature`.
    pub(crate) closures: BTreeMap<String, BTreeSet<String>>,
    /// How many code lines the set-user-id set may have.
    pub(crate) setuid_lines: usize,
}

impl Tree {
    /// Reads the checkout at `root`; asks cargo, offline, for its crates.
    ///
    /// # Errors
    /// Where a file cannot be read or cargo fails.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let metadata = metadata::load()?;
        let mut tree = Self {
            packages: metadata.packages,
            setuid_lines: metadata.setuid_lines,
            ..Self::default()
        };
        for guarded in super::externals::GUARDED {
            tree.closures.insert(guarded.to_string(), metadata::closure_of(guarded)?);
        }
        tree.read_directory(root, "")?;
        Ok(tree)
    }

    fn read_directory(&mut self, root: &Path, below: &str) -> Result<()> {
        let directory = root.join(below);
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            let kind = entry.file_type()?;
            if is_not_ours(&path) {
                continue;
            } else if kind.is_dir() {
                self.read_directory(root, &path)?;
                self.directories.insert(path);
            } else {
                let text = if kind.is_file() { text_of(&entry.path())? } else { String::new() };
                self.files.insert(path, text);
            }
        }
        Ok(())
    }

    /// The text of a file; empty where there is none.
    pub(crate) fn text(&self, path: &str) -> &str {
        self.files.get(path).map_or("", String::as_str)
    }

    /// Every Rust file with its text.
    pub(crate) fn rust_files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(|(path, _)| path.ends_with(".rs"))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Tells whether a file or a directory is there.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path) || self.directories.contains(path)
    }
}

/// Files that bindgen writes: house rules for people do not hold for them.
pub(crate) fn is_generated(path: &str) -> bool {
    path.ends_with("/bindings.rs") && path != "xtask/src/bindings.rs"
}

/// Build directories and what git does not keep.
fn is_not_ours(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or(path);
    first == ".git"
        || first == "run"
        || first.starts_with("target")
        || ["fuzz/target", "fuzz/corpus", "fuzz/artifacts", "fuzz/coverage"].contains(&path)
        || path.ends_with(".pending-snap")
}

/// Text beyond this is data (an image, a lock file of another kind), not something to read.
const TEXT_LIMIT: u64 = 1 << 20;

fn text_of(path: &Path) -> Result<String> {
    let context = || format!("cannot read {}", path.display());
    if fs::metadata(path).with_context(context)?.len() > TEXT_LIMIT {
        return Ok(String::new());
    }
    let bytes = fs::read(path).with_context(context)?;
    Ok(String::from_utf8(bytes).unwrap_or_default())
}
