//! Physical lines to `key = value` settings: comments, continuations, trimming, as Shifter's `parseConfig` has it.
//!
//! Knows nothing of keys. Never fails: a line without separator is handed on for the caller to judge.

use alloc::string::String;
use alloc::vec::Vec;

/// One logical line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Logical<'a> {
    /// `key = value`, with the number of the line it starts on.
    Setting { line: usize, key: &'a str, value: String },
    /// A line that is neither blank nor a comment and has no separator.
    Stray { line: usize, text: &'a str },
}

/// Splits `text` into logical lines, each at its first `separator` (`=`; `:` in Shifter's metadata).
pub(crate) fn logical_lines(text: &str, separator: char) -> impl Iterator<Item = Logical<'_>> {
    // Only a `#` in the very first column makes a comment, within a continuation too: ` # x=1` is the key `# x`.
    let mut lines = text.lines().zip(1..).filter(|(text, _)| !text.starts_with('#'));
    core::iter::from_fn(move || {
        let (text, line) = lines.find(|(text, _)| !trim(text).is_empty())?;
        let Some((key, value)) = text.split_once(separator) else {
            return Some(Logical::Stray { line, text: trim(text) });
        };
        // What follows a trailing backslash is joined with one space; a blank line ends it.
        let mut parts = Vec::new();
        let mut part = trim(value);
        while let Some(open) = part.strip_suffix('\\') {
            parts.push(trim(open));
            part = lines.next().map_or("", |(text, _)| trim(text));
        }
        parts.push(part);
        parts.retain(|part| !part.is_empty());
        Some(Logical::Setting { line, key: trim(key), value: parts.join(" ") })
    })
}

/// Trims what C's `isspace` calls space, so that CRLF files are fine.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str, separator: char) -> Vec<(usize, &str, String)> {
        logical_lines(text, separator)
            .map(|item| match item {
                Logical::Setting { line, key, value } => (line, key, value),
                Logical::Stray { line, text } => (line, text, "STRAY".into()),
            })
            .collect()
    }

    #[test]
    fn blanks_around_key_and_value_go_and_inner_ones_stay() {
        assert_eq!(trim(" \t   12345 Early, no whitespace end"), "12345 Early, no whitespace end");
        assert_eq!(trim("\n\n\nabcdef    fedcba\t\t \n   "), "abcdef    fedcba");
        assert_eq!(settings(" a\t=  b  c \r\n", '='), [(1, "a", "b  c".into())]);
    }

    #[test]
    fn shifters_data_config_files_give_shifters_values() {
        let plain = settings("first: abcdefg\nsecond: 10\n\nthird: 3.14159\n", ':');
        assert_eq!(plain.len(), 3);
        assert_eq!(plain[2], (4, "third", "3.14159".into()));
        let continued = settings("first: abcdefg \\\n   qed \\\n feg\nsecond: 10\n", ':');
        assert_eq!(continued[0].2, "abcdefg qed feg");
        assert_eq!(continued[1], (4, "second", "10".into()));
        assert_eq!(settings("a: 1\n: invalid field\n", ':')[1], (2, "", "invalid field".into()));
    }

    #[test]
    fn a_comment_is_a_hash_in_column_one_also_within_a_continuation() {
        assert_eq!(settings("#x=1\n #y=2\n", '='), [(2, "#y", "2".into())]);
        assert_eq!(settings("a=1 \\\n#no\n 2\n", '='), [(1, "a", "1 2".into())]);
    }

    #[test]
    fn a_blank_line_ends_a_continuation_and_the_joined_line_is_not_split_again() {
        assert_eq!(settings("a=1 \\  \n\nb=2", '='), [(1, "a", "1".into()), (3, "b", "2".into())]);
        assert_eq!(settings("a=1 \\\nPATH=/bin\n", '='), [(1, "a", "1 PATH=/bin".into())]);
    }

    #[test]
    fn the_first_separator_splits_and_a_line_without_one_is_stray() {
        assert_eq!(settings("a=b=c\nnothing\n", '=')[0].2, "b=c");
        assert_eq!(settings("nothing\n", '='), [(1, "nothing", "STRAY".into())]);
    }
}
