//! Words that belong to one person's machine and not into the project.

use super::{Finding, Tree};

/// Parts of paths that exist on one machine only.
const STRAY: [&str; 6] = [
    "/work/main",
    "/work/shared",
    "/tmp/contract",
    "/work/.library",
    "/tmp/bash_jobs",
    "CONTRACT.md",
];

/// This file has to name the words.
const SELF: &str = "xtask/src/tidy/words.rs";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files.iter().filter(|(path, _)| *path != SELF) {
        for (index, line) in text.lines().enumerate() {
            if let Some(word) = STRAY.iter().find(|word| line.contains(**word)) {
                let place = format!("{path}:{}", index + 1);
                findings.push(Finding::error(place, format!("`{word}` does not belong here")));
            }
        }
    }
    findings
}
