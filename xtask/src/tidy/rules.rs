//! Every rule in SECURITY.md names the test that holds it, or says that none does yet.
//!
//! The last column of the table holds names of test functions in code spans, or an issue. A name that no file of the
//! tree has is an error, so that a test cannot be renamed or removed without the rule noticing.

use super::{Finding, Tree, markdown};

const DOCUMENT: &str = "SECURITY.md";
const HEADING: &str = "Rules";
///
const RULES: usize = 48;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let lines = markdown::section(tree.text(DOCUMENT), HEADING);
    let rows = markdown::table_rows(&lines);
    let mut findings = Vec::new();
    for number in 1..=RULES {
        let name = format!("R-{number}");
        let mut of_rule = rows.iter().filter(|row| row.first() == Some(&name.as_str()));
        match (of_rule.next(), of_rule.next()) {
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
