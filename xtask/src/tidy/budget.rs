//! The set-user-id set stays small: its code lines are counted and capped.
//!
//! The cap is `setuid-lines` in `[workspace.metadata.tidy]` of Cargo.toml, so that raising it is a line in a diff.

use super::{Finding, Tree};
use crate::source;

/// The directories whose code ends up in the set-user-id program.
const SETUID_SET: [&str; 3] = ["runtime/src/", "udiroot-conf/src/", "crates/image-ref/src/"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let lines = count(tree);
    if lines <= tree.setuid_lines {
        return Vec::new();
    }
    let text =
        format!("the set-user-id set has {lines} code lines; the cap is {}", tree.setuid_lines);
    vec![Finding::error("Cargo.toml", text)]
}

/// One line for the report.
pub(super) fn describe(tree: &Tree) -> String {
    format!("set-user-id set: {} code lines of {}", count(tree), tree.setuid_lines)
}

fn count(tree: &Tree) -> usize {
    tree.rust_files()
        .filter(|(path, _)| SETUID_SET.iter().any(|directory| path.starts_with(directory)))
        .filter(|(path, _)| !path.ends_with("/tests.rs") && !path.contains("/tests/"))
        .map(|(_, text)| source::count_code_lines(text))
        .sum()
}
