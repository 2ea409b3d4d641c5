//! No drawers: a file is named after what is in it.

use super::{Finding, Tree};

const DRAWERS: [&str; 8] =
    ["utils", "util", "common", "helpers", "helper", "misc", "types", "stuff"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let files = tree.rust_files().map(|(path, _)| path);
    files
        .filter_map(|path| {
            let parts = path.trim_end_matches(".rs").split('/');
            let drawer = parts.into_iter().find(|part| DRAWERS.contains(part))?;
            Some(Finding::error(
                path,
                format!("`{drawer}` says nothing: name it after its content"),
            ))
        })
        .collect()
}
