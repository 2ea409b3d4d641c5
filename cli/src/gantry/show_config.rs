//! `--show-config`: what udiRoot.conf comes to, line by line.

use crate::exit::{Exit, Failure};
use crate::site::{self, Wishes};
use std::fmt::Write as _;
use std::path::Path;
use udiroot_conf::show::{From, Setting, show};

/// Every value with where it is from, ready to be printed.
///
/// # Errors
/// Where the file cannot be read or used.
pub(super) fn text() -> Result<String, Failure> {
    // Says what is wrong with it, if anything is.
    let site = site::Site::load(&Wishes::default())?;
    let path = site.conf.unwrap_or_default();
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::new(Exit::Other, format!("cannot read {}: {error}", path.display()))
    })?;
    let settings = show(&text).map_err(|error| {
        Failure::new(Exit::Other, format!("cannot use {}: {error}", path.display()))
    })?;
    Ok(table(&path, &settings, &site.notices))
}

fn table(path: &Path, settings: &[Setting], notices: &[String]) -> String {
    let mut text = format!("# {}\n", path.display());
    for Setting { key, value, from } in settings {
        let from = match from {
            From::Line(line) => format!("line {line}"),
            From::Default if value.is_empty() => "not set".into(),
            From::Default => "default".into(),
        };
        let setting = format!("{key} = {value}");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{setting:<60} # {from}");
    }
    for notice in notices {
        let _ = writeln!(text, "# note: {notice}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_says_where_it_is_from() {
        let settings = show("imagePath=/i\n").unwrap();
        let text = table(Path::new("/c"), &settings, &["line 3: `x` has no effect".into()]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "# /c");
        assert!(
            lines[1].starts_with("imagePath = /i ") && lines[1].ends_with(" # line 1"),
            "{text}"
        );
        assert!(text.contains("# default\n") && text.contains("# not set\n"), "{text}");
        assert!(text.ends_with("# note: line 3: `x` has no effect\n"), "{text}");
    }
}
