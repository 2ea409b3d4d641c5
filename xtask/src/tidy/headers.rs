//! Every Rust file says first what it is, and every crate takes the workspace's lints.

use super::{Finding, Tree, tree};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust_files() {
        if !tree::is_generated(path) && !path.ends_with("build.rs") && !text.starts_with("//! ") {
            findings
                .push(Finding::error(path, "does not open with `//!` lines that say what it is"));
        }
    }
    for package in tree.packages.values() {
        let manifest = format!("{}/Cargo.toml", package.directory);
        if !takes_workspace_lints(tree.text(&manifest)) {
            findings.push(Finding::error(manifest, "has no `[lints]` with `workspace = true`"));
        }
    }
    findings
}

fn takes_workspace_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim);
    lines.any(|line| line == "[lints]")
        && lines.take_while(|line| !line.starts_with('[')).any(|line| line == "workspace = true")
}

#[cfg(test)]
mod tests {
    use super::takes_workspace_lints;

    #[test]
    fn lints_must_be_the_workspaces() {
        assert!(takes_workspace_lints("[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n"));
        assert!(!takes_workspace_lints("[package]\nversion.workspace = true\n"));
        assert!(!takes_workspace_lints("[lints]\n[dependencies]\nworkspace = true\n"));
    }
}
