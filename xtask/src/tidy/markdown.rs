//! The little of Markdown that tidy reads: sections, tables, code spans and links.

/// The lines of the section under the heading `title`, up to the next heading of its level or above.
pub(crate) fn section<'a>(text: &'a str, title: &str) -> Vec<&'a str> {
    let level = |line: &str| line.chars().take_while(|&c| c == '#').count();
    let mut lines = text.lines();
    let is_title = |line: &&str| level(line) > 0 && line.trim_start_matches('#').trim() == title;
    let Some(heading) = lines.by_ref().find(is_title) else { return Vec::new() };
    lines.take_while(|line| level(line) == 0 || level(line) > level(heading)).collect()
}

/// The rows of the tables among `lines`, head and rule apart; each a list of trimmed cells.
pub(crate) fn table_rows<'a>(lines: &[&'a str]) -> Vec<Vec<&'a str>> {
    let mut rows = Vec::new();
    let mut in_body = false;
    for line in lines {
        let Some(inner) = line.trim().strip_prefix('|') else {
            in_body = false;
            continue;
        };
        let cells: Vec<&str> = inner.trim_end_matches('|').split('|').map(str::trim).collect();
        let is_rule = cells.iter().all(|cell| cell.starts_with(['-', ':']));
        if is_rule {
            in_body = true;
        } else if in_body {
            rows.push(cells);
        }
    }
    rows
}

/// The content of every `code span` in `text`.
pub(crate) fn code_spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The targets of every `[link](target)` in `text`.
pub(crate) fn link_targets(text: &str) -> Vec<&str> {
    let behind = text.split("](").skip(1);
    behind.filter_map(|rest| rest.split_once(')').map(|(target, _)| target)).collect()
}

/// The lines of a document outside of fenced blocks, with their numbers from 1.
pub(crate) fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push((index + 1, line));
        }
    }
    lines
}

/// Writes out braces: `a/{b,c}.rs` stands for `a/b.rs` and `a/c.rs`.
pub(crate) fn expand_braces(text: &str) -> Vec<String> {
    let Some((head, rest)) = text.split_once('{') else { return vec![text.to_string()] };
    let Some((list, tail)) = rest.split_once('}') else { return vec![text.to_string()] };
    list.split(',').flat_map(|part| expand_braces(&format!("{head}{part}{tail}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A\n\n## Arrows\n\n| crate | uses |\n|---|---|\n| `x` | `y`, `z` |\n\nBehind.\n\n### Sub\n\n| a |\n|---|\n| b |\n\n## B\n\n| c |\n|---|\n| d |\n";

    #[test]
    fn a_section_ends_at_the_next_heading_of_its_level() {
        let rows = table_rows(&section(TEXT, "Arrows"));
        assert_eq!(rows, [vec!["`x`", "`y`, `z`"], vec!["b"]]);
        assert!(section(TEXT, "Nowhere").is_empty());
    }

    #[test]
    fn spans_links_and_braces_are_found() {
        assert_eq!(code_spans("a `b/c` d `e`"), ["b/c", "e"]);
        assert_eq!(
            link_targets("see [x](docs/a.md) and [y](https://h/)"),
            ["docs/a.md", "https://h/"]
        );
        assert_eq!(expand_braces("a/{b,c}.{d,e}"), ["a/b.d", "a/b.e", "a/c.d", "a/c.e"]);
        assert_eq!(expand_braces("a/b.rs"), ["a/b.rs"]);
    }

    #[test]
    fn fenced_blocks_are_not_prose() {
        assert_eq!(prose("a\n```\nb\n```\nc"), [(1, "a"), (5, "c")]);
    }
}
