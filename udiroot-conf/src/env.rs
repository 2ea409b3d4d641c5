//! Environment rules of the site or of a module: what is set, appended, prepended and unset, in that order.

use crate::error::Problem;
use alloc::string::String;
use alloc::vec::Vec;

/// Changes to the environment of everything that runs in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvRules {
    /// `siteEnv`: name and value.
    pub set: Vec<(String, String)>,
    /// `siteEnvAppend`: joined behind the present value with `:`.
    pub append: Vec<(String, String)>,
    /// `siteEnvPrepend`: joined in front of the present value with `:`.
    pub prepend: Vec<(String, String)>,
    /// `siteEnvUnset`: names.
    pub unset: Vec<String>,
}

impl EnvRules {
    /// Takes `value` if `key` is one of the four rules; tells whether it was.
    pub(crate) fn take(&mut self, key: &str, value: &str) -> Result<bool, Problem> {
        let list = match key {
            "siteEnv" => &mut self.set,
            "siteEnvAppend" => &mut self.append,
            "siteEnvPrepend" => &mut self.prepend,
            "siteEnvUnset" => {
                self.unset.extend(items(value));
                return Ok(true);
            }
            _ => return Ok(false),
        };
        for item in items(value) {
            match item.split_once('=') {
                Some((name, text)) if !name.is_empty() => list.push((name.into(), text.into())),
                _ => return Err(Problem::EnvItem(item)),
            }
        }
        Ok(true)
    }
}

/// Splits a list at spaces, dropping empty items; there is no quoting.
pub(crate) fn items(value: &str) -> impl Iterator<Item = String> + '_ {
    value.split(' ').filter(|item| !item.is_empty()).map(String::from)
}
