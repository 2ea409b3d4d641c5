//! The floors of the gateway: `http -> service -> {pull, store, image_dir}`, never back.
//!
//! A floor is a directory or a file of `gateway/src`. Whoever looks up may not; and the store does not know what
//! carries its words over the wire.

use super::{Finding, Tree};
use crate::source;

/// A floor, and what its files may not name.
const FLOORS: [(&str, &[&str]); 4] = [
    ("service", &["crate::http", "axum"]),
    ("pull", &["crate::http", "crate::service", "axum"]),
    ("store", &["crate::http", "crate::service", "crate::pull", "crate::image_dir", "axum"]),
    ("image_dir", &["crate::http", "crate::service", "crate::pull", "crate::store", "axum"]),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust_files() {
        let Some(floor) = floor_of(path) else { continue };
        let named = names_in(&source::blank_comments_and_strings(text));
        let Some((_, forbidden)) = FLOORS.iter().find(|(name, _)| *name == floor) else { continue };
        for (line, name) in named {
            if forbidden.contains(&name.as_str()) {
                findings.push(Finding::error(
                    format!("{path}:{line}"),
                    format!("`{floor}` may not name `{name}` (http -> service -> pull, store, image_dir)"),
                ));
            }
        }
    }
    findings
}

/// `gateway/src/store/record.rs` and `gateway/src/store.rs` are on the floor `store`.
fn floor_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("gateway/src/")?;
    Some(inside.split_once('/').map_or_else(|| inside.trim_end_matches(".rs"), |(floor, _)| floor))
}

/// Every `crate::name` and every `axum` with its line; groups such as `crate::{a, b::c}` are written out.
fn names_in(code: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        let heads = match rest.strip_prefix('{') {
            Some(group) => heads_of_group(group),
            None => vec![head(rest)],
        };
        names.extend(heads.into_iter().map(|name| (line, format!("crate::{name}"))));
    }
    names.extend(
        source::lines_with_word(code, "axum").into_iter().map(|line| (line, "axum".into())),
    );
    names
}

/// The first name of every member of a `{a, b::{c, d}, e}` whose opening brace is taken off.
fn heads_of_group(group: &str) -> Vec<&str> {
    let mut heads = Vec::new();
    let mut depth = 0_usize;
    let mut member = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.push(head(group[member..at].trim()));
                member = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads
}

fn head(path: &str) -> &str {
    let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(path.len());
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_groups_and_in_paths() {
        let code = "use crate::{a, b::{c, d},\n    e::f};\nfn g() { crate::h::i() }\n";
        let names: Vec<String> = names_in(code).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["crate::a", "crate::b", "crate::e", "crate::h"]);
    }

    #[test]
    fn a_floor_is_a_directory_or_a_file() {
        assert_eq!(floor_of("gateway/src/store/mod.rs"), Some("store"));
        assert_eq!(floor_of("gateway/src/image_dir.rs"), Some("image_dir"));
        assert_eq!(floor_of("cli/src/store.rs"), None);
    }
}
