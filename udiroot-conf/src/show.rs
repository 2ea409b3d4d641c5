//! What a configuration comes to: every key with its value and where that is from, for who looks after the file.

use crate::commands::SUID_PATH;
use crate::conf::{KEYS, parse};
use crate::error::ConfError;
use crate::lines::{Logical, logical_lines};
use std::borrow::ToOwned;
use std::string::String;
use std::vec::Vec;

/// One key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// Its value as the file has it, continuations joined; empty where there is none.
    pub value: String,
    /// Where it is from.
    pub from: From,
}

/// Where a value is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// This line of the file.
    Line(usize),
    /// No line of the file.
    Default,
}

/// The settings of a file that can be used: its own in their order, then the keys that it leaves to their defaults.
///
/// # Errors
/// As [`parse`].
pub fn show(text: &str) -> Result<Vec<Setting>, ConfError> {
    parse(text)?;
    let mut settings: Vec<Setting> = logical_lines(text, '=')
        .filter_map(|item| match item {
            Logical::Setting { line, key, value } => {
                Some(Setting { key: key.to_owned(), value, from: From::Line(line) })
            }
            Logical::Stray { .. } => None,
        })
        .collect();
    let keys = KEYS.iter().map(|(key, _)| *key);
    let missing = keys.filter(|key| settings.iter().all(|setting| setting.key != *key));
    let defaults: Vec<Setting> = missing
        .map(|key| Setting {
            key: key.to_owned(),
            value: default(key).to_owned(),
            from: From::Default,
        })
        .collect();
    settings.extend(defaults);
    Ok(settings)
}

/// What a key that is not there stands for; empty where that is nothing at all.
fn default(key: &str) -> &'static str {
    match key {
        "gantrySuidPath" => SUID_PATH,
        "mountPropagationStyle" => "slave",
        "gatewayTimeout"
        | "mountUdiRootWritable"
        | "populateEtcDynamically"
        | "maxGroupCount"
        | "allowLocalChroot" => "0",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CommandConf;
    use std::format;

    #[test]
    fn settings_come_with_their_lines_and_the_rest_with_defaults() {
        let shown = show("# site\nimagePath=/i\nsiteFs=/a;\\\n  /b\nsiteFs=/c\n").unwrap();
        let own: Vec<(&str, &str, From)> =
            shown.iter().take(3).map(|one| (&*one.key, &*one.value, one.from)).collect();
        assert_eq!(
            own,
            [
                ("imagePath", "/i", From::Line(2)),
                ("siteFs", "/a; /b", From::Line(3)),
                ("siteFs", "/c", From::Line(5))
            ]
        );
        let defaults = shown.iter().filter(|one| one.from == From::Default).count();
        assert_eq!(defaults, KEYS.len() - 2);
    }

    #[test]
    fn a_default_that_is_written_down_changes_nothing() {
        let bare = CommandConf::parse("imagePath=/i\n").unwrap();
        for key in KEYS.iter().map(|(key, _)| *key).filter(|key| !default(key).is_empty()) {
            let text = format!("imagePath=/i\n{key}={}\n", default(key));
            let mut written = CommandConf::parse(text).unwrap();
            written.notices.clear();
            assert_eq!(written, bare, "{key}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_not_shown() {
        assert!(show("imagePath=/i\nfoo=1\n").is_err());
    }
}
