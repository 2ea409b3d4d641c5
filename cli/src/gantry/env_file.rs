//! `--env-file`: settings from a file of the user's, as Shifter reads them.

use crate::exit::{Exit, Failure};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// The settings of a file, in its order.
///
/// # Errors
/// Where it cannot be read, is larger than [`LIMIT`], or has a line that is no `NAME=VALUE`.
pub(super) fn read(path: &Path) -> Result<Vec<OsString>, Failure> {
    let shown = path.display();
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LIMIT + 1).read_to_string(&mut text));
    if let Err(error) = read {
        return Err(Failure::new(Exit::Usage, format!("--env-file={shown}: {error}")));
    }
    if text.len() as u64 > LIMIT {
        let text = format!("--env-file={shown} is larger than {} KiB", LIMIT >> 10);
        return Err(Failure::new(Exit::Usage, text));
    }
    parse(&text).map_err(|line| {
        let text = format!("--env-file={shown}: line {line} is not of the form NAME=VALUE");
        Failure::new(Exit::Usage, text)
            .with_hint("there are no quotes, and `#` begins a comment line")
    })
}

/// The settings of a text, or the number of the first line that is none.
fn parse(text: &str) -> Result<Vec<OsString>, usize> {
    let lines = text.lines().map(str::trim).zip(1..);
    lines
        .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, number)| match line.split_once('=') {
            Some((name, _)) if !name.is_empty() && !line.contains('\0') => Ok(line.into()),
            _ => Err(number),
        })
        .collect()
}

/// Far more than an environment takes.
const LIMIT: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_shifter_reads_them() {
        let text = "# a comment\n\nA=1\n  B=two words = more \nC=\"quoted\"\nD=\n";
        assert_eq!(parse(text).unwrap(), ["A=1", "B=two words = more", "C=\"quoted\"", "D="]);
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn a_line_that_is_no_setting_is_named() {
        for (text, line) in [("A=1\nB", 2), ("=x", 1), ("\n\nexport A", 3), ("A=\0", 1)] {
            assert_eq!(parse(text), Err(line), "{text:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let failure = read(Path::new("/nonexistent/env")).unwrap_err();
        assert!(failure.text.starts_with("--env-file=/nonexistent/env: "), "{}", failure.text);
        assert!(read(Path::new("/dev/zero")).is_err());
    }
}
