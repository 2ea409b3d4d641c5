//! Every rule and every case in SECURITY.md names the test that holds it, or says that none does yet.
//!
//! The last column of a table holds names of test functions in code spans, or an issue. A name that no file of the
//! tree has is an error, so that a test cannot be renamed or removed without its rule noticing.

use super::{Finding, Tree, markdown};

const DOCUMENT: &str = "SECURITY.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let rules = (1..=48).map(|number| format!("R-{number}"));
    let cases = (1..=18).map(|number| format!("C{number:02}"));
    let mut findings = check_table(tree, "Rules", rules);
    findings.extend(check_table(tree, "Hostile layers", cases));
    findings
}

fn check_table(tree: &Tree, heading: &str, names: impl Iterator<Item = String>) -> Vec<Finding> {
    let lines = markdown::section(tree.text(DOCUMENT), heading);
    let rows = markdown::table_rows(&lines);
    let mut findings = Vec::new();
    for name in names {
        let mut of_name = rows.iter().filter(|row| row.first() == Some(&name.as_str()));
        match (of_name.next(), of_name.next()) {
            (None, _) => findings.push(Finding::error(DOCUMENT, format!("leaves out {name}"))),
            (Some(_), Some(_)) => {
                findings.push(Finding::error(DOCUMENT, format!("has {name} twice")));
            }
            (Some(row), None) => findings.extend(check_row(tree, &name, row)),
        }
    }
    findings
}

fn check_row(tree: &Tree, name: &str, row: &[&str]) -> Vec<Finding> {
    let shown_by = row.last().copied().unwrap_or_default();
    let tests = markdown::code_spans(shown_by);
    if tests.is_empty() && !shown_by.contains("issue ") {
        return vec![Finding::error(DOCUMENT, format!("{name} names neither a test nor an issue"))];
    }
    let missing = tests.into_iter().filter(|test| !has_function(tree, test));
    missing
        .map(|test| {
            Finding::error(DOCUMENT, format!("{name} names the test `{test}`, which is not there"))
        })
        .collect()
}

fn has_function(tree: &Tree, name: &str) -> bool {
    let head = format!("fn {name}(");
    tree.rust_files().any(|(_, text)| text.contains(&head))
}
