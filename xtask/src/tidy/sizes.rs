//! Files that one can read in one go.

use super::{Finding, Tree, tree};

/// Beyond this many lines a file should be asked whether it is two.
const ASK: usize = 400;
/// Beyond this many lines, tests included, it must be split; long tests move to `foo/tests.rs`.
const LIMIT: usize = 600;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust_files() {
        let lines = text.lines().count();
        if tree::is_generated(path) || lines <= ASK {
            continue;
        } else if lines > LIMIT && !path.ends_with("/tests.rs") {
            findings.push(Finding::error(path, format!("{lines} lines; the limit is {LIMIT}")));
        } else if !path.ends_with("/tests.rs") {
            findings.push(Finding::warning(path, format!("{lines} lines; is it two files?")));
        }
    }
    findings
}
