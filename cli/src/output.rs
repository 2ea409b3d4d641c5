//! The only place that prints: data on standard output, everything else on standard error.
//!
//! A reader that went away (`imgctl list | head`) is no error. Text that came from elsewhere goes through
//! [`printable`], so that nobody's server or image can write control sequences to a terminal.

use crate::exit::Failure;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// The longest text from elsewhere that is shown, in characters.
const SHOWN_LIMIT: usize = 2000;

/// Prints lines of data.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints a value as JSON over several lines.
///
/// # Errors
/// Where the value has no JSON form.
pub fn print_json(value: &impl Serialize) -> Result<(), serde_json::Error> {
    print(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints a table: a row of headings, then the rows, columns as wide as their widest cell.
pub fn print_table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) {
    print(&table(headings, rows));
}

/// Tells something that is no failure, on standard error.
pub fn note(program: &str, text: &str) {
    tell(&format!("{program}: note: {}", printable(text)));
}

/// Tells how far something is, on standard error.
pub fn progress(program: &str, text: &str) {
    tell(&format!("{program}: {}", printable(text)));
}

/// Tells a failure: one line for the sentence, one for the hint.
pub fn failure(program: &str, failure: &Failure) {
    let mut text = format!("{program}: {}", printable(&failure.text));
    if let Some(hint) = &failure.hint {
        let _ = write!(text, "\nhint: {}", printable(hint));
    }
    tell(&text);
}

fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let mut line = String::new();
        for (cell, &width) in cells.into_iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        line.truncate(line.trim_end().len());
        line
    };
    let mut lines = vec![line(headings)];
    lines.extend(rows.iter().map(|row| line(row.each_ref().map(String::as_str))));
    lines.join("\n")
}

/// A text from elsewhere with everything escaped that a terminal would act upon, cut to a sane length.
///
/// Escaped are control characters (C0, DEL, C1), line ends among them, and the marks that turn the direction of
/// writing or are invisible, with which a text can show something else than it says.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN_LIMIT {
            out.push_str("...");
            break;
        }
        if c.is_control() || is_deceptive(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Marks of direction, line separators and invisible characters (Unicode TR 36, section 2.5).
fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
}

/// A number of bytes as people read it: `512 MiB`, `31.6 MiB`, `4.0 KiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if value < 999.5 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if value < 99.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A span of time as people read it: `0.4 s`, `12.3 s`, `3 min 12 s`.
pub fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "0.0 s".to_string();
    }
    if seconds < 119.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    format!("{} min {} s", whole / 60, whole % 60)
}

/// How long ago something was, in one unit: `12 s`, `5 min`, `3 h`, `12 d`.
pub fn age(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.max(0.0) as u64 } else { 0 };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_would_act_upon_is_escaped() {
        assert_eq!(printable("a\x1b[31mred\nb\r\t"), "a\\u{1b}[31mred\\nb\\r\\t");
        assert_eq!(printable("\u{9b}2J\u{7f}\u{202e}x"), "\\u{9b}2J\\u{7f}\\u{202e}x");
        assert_eq!(printable("größe `x` 漢字"), "größe `x` 漢字");
        let long = printable(&"x".repeat(10_000));
        assert_eq!(long.len(), SHOWN_LIMIT + 3);
    }

    #[test]
    fn sizes_and_times_are_short_and_exact_enough() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (4096, "4.0 KiB"),
            (536_870_912, "512 MiB"),
            (33_135_002, "31.6 MiB"),
            (1_073_741_823, "1.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(span(12.34), "12.3 s");
        assert_eq!(span(192.4), "3 min 12 s");
        assert_eq!(span(119.99), "2 min 0 s");
        assert_eq!(span(f64::NAN), "0.0 s");
        assert_eq!(age(59.9), "59 s");
        assert_eq!(age(7300.0), "2 h");
        assert_eq!(age(-5.0), "0 s");
    }

    #[test]
    fn columns_line_up_and_lines_do_not_end_in_blanks() {
        let rows = [["a".into(), "long cell".into()], ["bbbb".into(), "x".into()]];
        assert_eq!(table(["R", "S"], &rows), "R     S\na     long cell\nbbbb  x");
    }

    proptest! {
        #[test]
        fn nothing_printable_has_a_control_character(text in "\\PC*|[\\x00-\\xff]{0,50}") {
            prop_assert!(!printable(&text).chars().any(|c| c.is_control()));
        }
    }
}
