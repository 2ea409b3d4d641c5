//! Physical lines to `key = value` settings: comments, continuations, trimming, as Shifter's `parseConfig` has it.
//!
//! Knows nothing of keys. Never fails: a line without separator is handed on for the caller to judge.

use alloc::string::String;
use core::iter::{Enumerate, Peekable};
use core::str::Lines;

/// One logical line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Logical<'a> {
    /// `key = value`, with the number of the line it starts on.
    Setting { line: usize, key: &'a str, value: String },
    /// A line that is neither blank nor a comment and has no separator.
    Stray { line: usize, text: &'a str },
}

/// Iterates over the logical lines of `text`, split at the first `separator` (`=`; `:` in Shifter's metadata).
pub(crate) fn logical_lines(text: &str, separator: char) -> LogicalLines<'_> {
    LogicalLines { lines: text.lines().enumerate().peekable(), separator }
}

pub(crate) struct LogicalLines<'a> {
    lines: Peekable<Enumerate<Lines<'a>>>,
    separator: char,
}

impl<'a> Iterator for LogicalLines<'a> {
    type Item = Logical<'a>;

    fn next(&mut self) -> Option<Logical<'a>> {
        loop {
            let (index, text) = self.lines.next()?;
            // Only a `#` in the very first column makes a comment: ` # x=1` is the (unknown) key `# x`.
            if text.starts_with('#') || trim(text).is_empty() {
                continue;
            }
            let line = index + 1;
            return Some(match text.split_once(self.separator) {
                None => Logical::Stray { line, text: trim(text) },
                Some((key, value)) => {
                    Logical::Setting { line, key: trim(key), value: self.continued(trim(value)) }
                }
            });
        }
    }
}

impl LogicalLines<'_> {
    /// Joins what follows a trailing backslash with one space; a blank line ends it, a comment does not.
    fn continued(&mut self, first: &str) -> String {
        let mut value = String::new();
        let mut part = first;
        loop {
            let open = part.strip_suffix('\\');
            let text = open.map_or(part, trim);
            if !value.is_empty() && !text.is_empty() {
                value.push(' ');
            }
            value.push_str(text);
            if open.is_none() {
                return value;
            }
            while self.lines.next_if(|(_, line)| line.starts_with('#')).is_some() {}
            match self.lines.next() {
                Some((_, line)) if !trim(line).is_empty() => part = trim(line),
                _ => return value,
            }
        }
    }
}

/// Trims what C's `isspace` calls space, so that CRLF files are fine.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

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
