//! The set-user-id set stays small: the code lines that are compiled into it are counted and capped.
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
    SETUID_SET.iter().map(|directory| count_crate(tree, directory)).sum()
}

/// Counts what the program's build compiles: all but tests and what lib.rs has behind [`NOT_BUILT`].
fn count_crate(tree: &Tree, directory: &str) -> usize {
    let left_out = modules_behind(NOT_BUILT, tree.text(&format!("{directory}lib.rs")));
    tree.rust_files()
        .filter_map(|(path, text)| Some((path.strip_prefix(directory)?, text)))
        .filter(|(path, _)| !path.ends_with("/tests.rs") && !path.contains("/tests/"))
        .filter(|(path, _)| {
            let module = path.split('/').next().unwrap_or_default();
            !left_out.contains(&module.strip_suffix(".rs").unwrap_or(module))
        })
        .map(|(path, text)| {
            source::count_code_lines(text, if path == "lib.rs" { NOT_BUILT } else { "" })
        })
        .sum()
}

/// The modules that a lib.rs declares behind an attribute.
fn modules_behind<'a>(attribute: &str, lib: &'a str) -> Vec<&'a str> {
    let items = lib.split(attribute).skip(1).map(str::trim_start);
    let modules = items.filter_map(|item| {
        item.strip_prefix("pub ").unwrap_or(item).strip_prefix("mod ")?.split_once(';')
    });
    modules.map(|(name, _)| name).collect()
}

/// What stands behind this in a lib.rs is for other programs: `externals` sees to it that the runtime is linked without.
const NOT_BUILT: &str = "#[cfg(feature = \"unprivileged\")]";
