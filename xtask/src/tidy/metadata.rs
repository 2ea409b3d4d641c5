//! The workspace as cargo knows it: members, their direct dependencies and what is linked into a crate.

use crate::command;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One member of the workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Package {
    /// Its directory, relative to the root.
    pub(crate) directory: String,
    /// Crates it names for itself and for its build script.
    pub(crate) dependencies: BTreeSet<String>,
    /// Crates that only its tests name.
    pub(crate) test_dependencies: BTreeSet<String>,
}

/// What tidy takes from `cargo metadata`.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) packages: BTreeMap<String, Package>,
    pub(crate) setuid_lines: usize,
}

/// Asks cargo, without network.
pub(crate) fn load() -> Result<Metadata> {
    let text = command::output_of(command::cargo().args([
        "metadata",
        "--offline",
        "--no-deps",
        "--format-version=1",
    ]))?;
    parse(&text)
}

/// Reads the output of `cargo metadata --no-deps --format-version=1`.
pub(crate) fn parse(text: &str) -> Result<Metadata> {
    let json: Value = serde_json::from_str(text).context("cargo metadata wrote no JSON")?;
    let root = json["workspace_root"].as_str().context("cargo metadata: no workspace_root")?;
    let listed = json["packages"].as_array().context("cargo metadata: no packages")?;
    let mut packages = BTreeMap::new();
    for package in listed {
        let name = package["name"].as_str().context("cargo metadata: package without name")?;
        packages.insert(name.to_string(), parse_package(root, package)?);
    }
    let setuid_lines = json["metadata"]["tidy"]["setuid-lines"]
        .as_u64()
        .context("Cargo.toml: [workspace.metadata.tidy] has no `setuid-lines`")?;
    Ok(Metadata { packages, setuid_lines: usize::try_from(setuid_lines)? })
}

fn parse_package(root: &str, package: &Value) -> Result<Package> {
    let manifest = package["manifest_path"].as_str().context("package without manifest_path")?;
    let directory = manifest.trim_start_matches(root).trim_start_matches('/');
    let mut result = Package {
        directory: directory.trim_end_matches("Cargo.toml").trim_end_matches('/').to_string(),
        ..Package::default()
    };
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let name = dependency["name"].as_str().context("dependency without name")?.to_string();
        match dependency["kind"].as_str() {
            Some("dev") => result.test_dependencies.insert(name),
            _ => result.dependencies.insert(name),
        };
    }
    Ok(result)
}

/// What is linked into `package`, itself apart, with the features it has on its own: the names of crates, and each of
/// their features as `crate/feature`.
pub(crate) fn closure_of(package: &str) -> Result<BTreeSet<String>> {
    let text = command::output_of(command::cargo().args([
        "tree",
        "--offline",
        "--edges=normal,no-proc-macro",
        "--prefix=none",
        "--format={p}|{f}",
        "--package",
        package,
    ]))?;
    Ok(parse_closure(&text, package))
}

fn parse_closure(text: &str, package: &str) -> BTreeSet<String> {
    let mut closure = BTreeSet::new();
    for line in text.lines() {
        let (crate_, features) = line.split_once('|').unwrap_or((line, ""));
        let Some(name) = crate_.split_whitespace().next().filter(|name| *name != package) else {
            continue;
        };
        // A crate that was printed before ends with a mark.
        let features = features.split_whitespace().next().unwrap_or_default();
        let features = features.split(',').filter(|feature| !feature.is_empty());
        closure.extend(features.map(|feature| format!("{name}/{feature}")));
        closure.insert(name.to_string());
    }
    closure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_with_their_directory_and_direct_dependencies() {
        let text = r#"{"workspace_root":"/src","metadata":{"tidy":{"setuid-lines":7}},"packages":[
            {"name":"munge","manifest_path":"/src/crates/munge/Cargo.toml","dependencies":[
                {"name":"thiserror","kind":null},{"name":"cc","kind":"build"},
                {"name":"tempfile","kind":"dev"}]}]}"#;
        let metadata = parse(text).unwrap();
        assert_eq!(metadata.setuid_lines, 7);
        let munge = &metadata.packages["munge"];
        assert_eq!(munge.directory, "crates/munge");
        assert_eq!(munge.dependencies, ["cc", "thiserror"].map(String::from).into());
        assert_eq!(munge.test_dependencies, ["tempfile".to_string()].into());
    }

    #[test]
    fn a_closure_has_crates_and_their_features() {
        let text = "runtime v0.1.0 (/src/runtime)|\nimage-ref v0.1.0 (/src/crates/image-ref)|a,b\n\
                    libc v0.2.1|\nimage-ref v0.1.0 (/src/crates/image-ref)|a,b (*)\n";
        let expected = ["image-ref", "image-ref/a", "image-ref/b", "libc"].map(String::from);
        assert_eq!(parse_closure(text, "runtime"), expected.into());
    }

    #[test]
    fn a_workspace_without_a_line_budget_is_an_error() {
        assert!(parse(r#"{"workspace_root":"/src","packages":[],"metadata":null}"#).is_err());
    }
}
