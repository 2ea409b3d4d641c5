//! `cargo xtask tidy`: what holds the rooms apart and the documents true.
//!
//! Every check is a pure function from a [`Tree`] to findings, so that a test can break a rule in a model of the
//! tree and see the check fail. The rules that people should read stand in ARCHITECTURE.md and are read from there.

mod arrows;
mod budget;
mod externals;
mod gateway;
mod headers;
mod listings;
mod markdown;
mod metadata;
mod names;
mod paths;
mod rules;
mod sizes;
mod tree;
mod unsafe_places;

#[cfg(test)]
mod tests;

use anyhow::{Result, bail};
use std::fmt;
pub(crate) use tree::Tree;

/// One place where a rule is not kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// A file of the tree, with `:line` where there is one.
    pub(crate) place: String,
    /// What is wrong there and what would be right.
    pub(crate) text: String,
    /// Whether it is only to be thought about.
    pub(crate) warning: bool,
}

impl Finding {
    fn error(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into(), warning: false }
    }

    fn warning(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into(), warning: true }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.warning { "warning: " } else { "" };
        write!(f, "{}: {kind}{}", self.place, self.text)
    }
}

/// Checks the checkout that this program was built from and prints what it finds.
///
/// # Errors
/// Where the tree cannot be read or a rule is broken.
pub(crate) fn run() -> Result<()> {
    let tree = Tree::load(&crate::command::workspace_root())?;
    let findings = check(&tree);
    for finding in &findings {
        eprintln!("{finding}");
    }
    println!("{}", budget::describe(&tree));
    let broken = findings.iter().filter(|finding| !finding.warning).count();
    if broken > 0 {
        bail!("tidy: {broken} rule(s) broken");
    }
    println!("tidy: {} files, {} crates, nothing to fix", tree.files.len(), tree.packages.len());
    Ok(())
}

/// Runs every check; findings come sorted by place.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let checks: [fn(&Tree) -> Vec<Finding>; 11] = [
        arrows::check,
        budget::check,
        externals::check,
        gateway::check,
        headers::check,
        listings::check,
        names::check,
        paths::check,
        rules::check,
        sizes::check,
        unsafe_places::check,
    ];
    let mut findings: Vec<Finding> = checks.iter().flat_map(|check| check(tree)).collect();
    findings.sort();
    findings
}
