//! `unsafe` stands only in the files that ARCHITECTURE.md lists, and every one of those is there.

use super::{Finding, Tree, markdown};
use crate::source;

const DOCUMENT: &str = "ARCHITECTURE.md";
const HEADING: &str = "Where `unsafe` may stand";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let places = places(tree.text(DOCUMENT));
    let mut findings = Vec::new();
    if places.is_empty() {
        findings.push(Finding::error(DOCUMENT, format!("has no table under `{HEADING}`")));
    }
    for (path, text) in tree.rust_files() {
        let listed = places.iter().any(|place| place == path);
        let code = source::blank_comments_and_strings(text);
        let first = source::lines_with_word(&code, "unsafe").into_iter().next();
        match first {
            Some(line) if !listed => findings.push(Finding::error(
                format!("{path}:{line}"),
                format!("`unsafe` may not stand here; {DOCUMENT} lists where it may"),
            )),
            None if listed => findings.push(Finding::error(
                DOCUMENT,
                format!("lists {path} as a place of `unsafe`, and it has none"),
            )),
            _ => {}
        }
    }
    findings
}

fn places(document: &str) -> Vec<String> {
    let lines = markdown::section(document, HEADING);
    let rows = markdown::table_rows(&lines);
    let cells = rows.iter().filter_map(|row| row.first());
    cells.flat_map(|cell| markdown::code_spans(cell)).flat_map(markdown::expand_braces).collect()
}
