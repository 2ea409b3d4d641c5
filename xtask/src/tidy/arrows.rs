//! The arrows between crates are those of the table in ARCHITECTURE.md, and no others.
//!
//! The table is the rule: an arrow that cargo sees and the table lacks is an error, and so is one that the table
//! promises and nobody draws. Tests of a crate may use any library, never a product.

use super::{Finding, Tree, markdown};
use std::collections::{BTreeMap, BTreeSet};

/// What is installed; no crate may depend on one of these.
pub(super) const PRODUCTS: [&str; 5] = ["gateway", "converter", "cli", "spank-plugin", "runtime"];

const DOCUMENT: &str = "ARCHITECTURE.md";
const HEADING: &str = "Arrows";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let allowed = allowed_arrows(tree.text(DOCUMENT));
    if allowed.is_empty() {
        return vec![Finding::error(DOCUMENT, format!("has no table under `{HEADING}`"))];
    }
    let mut findings = Vec::new();
    for name in allowed.keys().filter(|name| !tree.packages.contains_key(*name)) {
        findings
            .push(Finding::error(DOCUMENT, format!("its arrows name `{name}`, no crate of ours")));
    }
    for (name, package) in &tree.packages {
        let manifest = format!("{}/Cargo.toml", package.directory);
        let ours = |names: &BTreeSet<String>| -> BTreeSet<String> {
            names.iter().filter(|name| tree.packages.contains_key(*name)).cloned().collect()
        };
        let drawn = ours(&package.dependencies);
        for product in drawn.union(&ours(&package.test_dependencies)) {
            if PRODUCTS.contains(&product.as_str()) {
                findings.push(Finding::error(
                    &manifest,
                    format!("depends on `{product}`: products are run as programs"),
                ));
            }
        }
        let Some(allowed) = allowed.get(name) else {
            findings.push(Finding::error(DOCUMENT, format!("its arrows leave out `{name}`")));
            continue;
        };
        for target in drawn.difference(allowed) {
            findings.push(Finding::error(
                &manifest,
                format!("the arrow `{name} -> {target}` is not in {DOCUMENT}"),
            ));
        }
        for target in allowed.difference(&drawn) {
            findings.push(Finding::error(
                DOCUMENT,
                format!("the arrow `{name} -> {target}` is drawn by nobody"),
            ));
        }
    }
    findings
}

/// The table's rows: a crate, and the crates it may use.
fn allowed_arrows(document: &str) -> BTreeMap<String, BTreeSet<String>> {
    let lines = markdown::section(document, HEADING);
    let rows = markdown::table_rows(&lines);
    let names = |cell: &str| -> Vec<String> {
        markdown::code_spans(cell).into_iter().map(str::to_string).collect()
    };
    rows.iter()
        .filter_map(|row| match row.as_slice() {
            [from, to, ..] => Some((names(from), names(to).into_iter().collect::<BTreeSet<_>>())),
            _ => None,
        })
        .flat_map(|(from, to)| from.into_iter().map(move |name| (name, to.clone())))
        .collect()
}
