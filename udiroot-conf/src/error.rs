//! What can be wrong with udiRoot.conf.

use crate::module::ModuleError;
use crate::volume::VolumeError;
use alloc::string::String;
use core::fmt;

/// A file that cannot be used: where and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfError {
    /// The line, counted from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The text is not UTF-8.
    NotUtf8,
    /// The file exceeds [`crate::CONF_LIMIT`].
    TooLarge,
    /// No such key exists; the second is a key that may be meant.
    UnknownKey(String, Option<&'static str>),
    /// A key that must be there is not.
    Missing(&'static str),
    /// A value has the wrong form; the text says what is wanted.
    Value {
        /// The key.
        key: String,
        /// What the file has.
        value: String,
        /// What is wanted, to follow "wants".
        wants: &'static str,
    },
    /// An item of an environment list is not `NAME=value`.
    EnvItem(String),
    /// A volume cannot be used.
    Volume(VolumeError),
    /// The modules by default, or those that another one names as conflicts, cannot be had.
    Modules(ModuleError),
}

impl fmt::Display for ConfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        self.problem.fmt(f)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("the text is not UTF-8"),
            Self::TooLarge => write!(f, "the file exceeds {} bytes", crate::CONF_LIMIT),
            Self::UnknownKey(key, None) => write!(f, "there is no key `{}`", shown(key)),
            Self::UnknownKey(key, Some(meant)) => {
                write!(f, "there is no key `{}`; `{meant}` may be meant", shown(key))
            }
            Self::Missing(key) => write!(f, "the key `{key}` is missing"),
            Self::Value { key, value, wants } => {
                write!(f, "`{key}` wants {wants}, not `{}`", shown(value))
            }
            Self::EnvItem(item) => write!(f, "`{}` is not of the form NAME=value", shown(item)),
            Self::Volume(error) => error.fmt(f),
            Self::Modules(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ConfError {}

/// Somebody's text within a message: escaped, and cut where it is longer than anybody reads.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}
