//! Every rule and every case in SECURITY.md names the test that holds it.
//!
//! The last column of a table holds names of test functions in code spans. A name that no file of the tree has is an
//! error, so that a test cannot be renamed or removed without its rule noticing. Cases are those of a catalogue: one
//! test at least bears the case's number.

use super::{Finding, Tree, markdown};
use std::ops::RangeInclusive;

const DOCUMENT: &str = "SECURITY.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = check_table(tree, "Rules", "R-", 1..=48);
    for (heading, letter, last) in
        [("Runtime", "R", 50), ("Plugin", "P", 13), ("Hostile layers", "C", 18)]
    {
        findings.extend(check_table(tree, heading, letter, 1..=last));
    }
    findings
}

fn check_table(
    tree: &Tree,
    heading: &str,
    prefix: &str,
    numbers: RangeInclusive<usize>,
) -> Vec<Finding> {
    let lines = markdown::section(tree.text(DOCUMENT), heading);
    let rows = markdown::table_rows(&lines);
    let mut findings = Vec::new();
    for number in numbers {
        let is_rule = prefix.ends_with('-');
        let name =
            if is_rule { format!("{prefix}{number}") } else { format!("{prefix}{number:02}") };
        let mut of_name = rows.iter().filter(|row| row.first() == Some(&name.as_str()));
        match (of_name.next(), of_name.next()) {
            (None, _) => findings.push(Finding::error(DOCUMENT, format!("leaves out {name}"))),
            (Some(_), Some(_)) => {
                findings.push(Finding::error(DOCUMENT, format!("has {name} twice")));
            }
            (Some(row), None) => findings.extend(check_row(tree, &name, is_rule, row)),
        }
    }
    findings
}

fn check_row(tree: &Tree, name: &str, is_rule: bool, row: &[&str]) -> Vec<Finding> {
    let tests = markdown::code_spans(row.last().copied().unwrap_or_default());
    let number = format!("{}_", name.to_lowercase());
    let is_numbered =
        |test: &&str| test.strip_prefix("privileged_").unwrap_or(test).starts_with(&number);
    if tests.is_empty() {
        return vec![Finding::error(DOCUMENT, format!("{name} names no test"))];
    }
    if !is_rule && !tests.iter().any(is_numbered) {
        return vec![Finding::error(DOCUMENT, format!("{name} names no test of its number"))];
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
