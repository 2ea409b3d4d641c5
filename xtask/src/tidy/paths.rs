//! Documents name only what is there.
//!
//! A code span is taken for a path of the tree where its first part is a directory or a file of the root; links
//! are looked at too. Every row of the walk in ARCHITECTURE.md must name at least one file.

use super::{Finding, Tree, markdown};

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const WALK: &str = "The walk of `--image`";
/// The column of the walk that names the room and the file.
const FILE_COLUMN: usize = 2;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = walk(tree);
    let documents = tree.files.iter().filter(|(path, _)| path.ends_with(".md"));
    for (document, text) in documents {
        for (line, prose) in markdown::prose(text) {
            let spans =
                markdown::code_spans(prose).into_iter().filter_map(|span| path_in(tree, span));
            let links = markdown::link_targets(prose)
                .into_iter()
                .filter_map(|link| resolve(document, link));
            for path in
                spans.map(str::to_string).chain(links).flat_map(|p| markdown::expand_braces(&p))
            {
                if !tree.has(path.trim_end_matches('/')) {
                    let place = format!("{document}:{line}");
                    findings
                        .push(Finding::error(place, format!("names `{path}`, which is not there")));
                }
            }
        }
    }
    findings
}

/// Every row of the walk leads to a file.
fn walk(tree: &Tree) -> Vec<Finding> {
    let lines = markdown::section(tree.text(ARCHITECTURE), WALK);
    let rows = markdown::table_rows(&lines);
    if rows.is_empty() {
        return vec![Finding::error(ARCHITECTURE, format!("has no table under `{WALK}`"))];
    }
    let mut findings = Vec::new();
    for row in &rows {
        let cell = row.get(FILE_COLUMN).copied().unwrap_or_default();
        let spans = markdown::code_spans(cell);
        let files = spans.into_iter().flat_map(markdown::expand_braces);
        let step = row.first().copied().unwrap_or_default();
        if files.clone().count() == 0 {
            findings.push(Finding::error(
                ARCHITECTURE,
                format!("step {step} of the walk names no file"),
            ));
        }
        for directory in files.filter(|path| tree.directories.contains(path.trim_end_matches('/')))
        {
            findings.push(Finding::error(
                ARCHITECTURE,
                format!("step {step} of the walk names the directory `{directory}`, not a file"),
            ));
        }
    }
    findings
}

/// The path that a code span stands for, where it looks like one of ours.
fn path_in<'a>(tree: &Tree, span: &'a str) -> Option<&'a str> {
    let plain = |c: char| c.is_alphanumeric() || "/._-{},+".contains(c);
    let path = span.strip_prefix("./").unwrap_or(span);
    let (first, rest) = path.split_once('/')?;
    let ours = tree.directories.contains(first) && !rest.is_empty();
    (ours && path.chars().all(plain)).then_some(path)
}

/// The path of the tree that a relative link leads to.
fn resolve(document: &str, link: &str) -> Option<String> {
    let target = link.split('#').next().unwrap_or_default();
    if target.is_empty() || target.contains(':') {
        return None;
    }
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn links_are_followed_from_their_document() {
        assert_eq!(resolve("docs/user.md", "../README.md#tour").as_deref(), Some("README.md"));
        assert_eq!(resolve("README.md", "docs/user.md").as_deref(), Some("docs/user.md"));
        assert_eq!(resolve("README.md", "https://example.org/"), None);
        assert_eq!(resolve("README.md", "#tour"), None);
    }
}
