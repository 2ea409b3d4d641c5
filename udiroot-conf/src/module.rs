//! Modules: named sets of environment, volumes and hooks that a site offers and a user selects.

use crate::conf::{PATH, SWITCH, parse_volumes};
use crate::env::{EnvRules, items};
use crate::error::{Problem, shown};
use crate::volume::Volume;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A module, from its `module_<name>_<key>` lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Whether it can be selected.
    pub enabled: bool,
    /// What it does to the environment.
    pub env: EnvRules,
    /// What it binds.
    pub volumes: Vec<Volume>,
    /// Modules it cannot be selected with.
    pub conflicts: Vec<String>,
    /// `copyPath`: a host directory that is offered at `/opt/udiImage/modules/<name>`.
    pub directory: Option<String>,
    /// `userhook`: a script that is run as the caller inside, before the command.
    pub user_hook: Option<String>,
}

impl Module {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), enabled: true, ..Self::default() }
    }

    /// Takes one setting; tells whether the key is known. Lists replace what an earlier line said.
    pub(crate) fn take(&mut self, key: &str, value: &str) -> Result<bool, Problem> {
        match key {
            "siteFs" => self.volumes.extend(parse_volumes(value)?),
            "conflict" => self.conflicts = items(value).collect(),
            "enabled" => {
                SWITCH.check(key, value)?;
                self.enabled = value.parse::<i64>() != Ok(0);
            }
            "copyPath" | "copypath" => {
                PATH.check(key, value)?;
                self.directory = Some(value.into());
            }
            "userhook" => self.user_hook = Some(value.into()),
            // No program of the site's is run as root.
            "roothook" => {}
            "siteEnv" => self.env.set.clear(),
            "siteEnvAppend" => self.env.append.clear(),
            "siteEnvPrepend" => self.env.prepend.clear(),
            "siteEnvUnset" => self.env.unset.clear(),
            _ => return Ok(false),
        }
        self.env.take(key, value)?;
        Ok(true)
    }
}

/// Finds the modules of a comma-separated selection, in its order; `none` selects none.
///
/// # Errors
/// An unknown or disabled name, or two modules of which one names the other as a conflict.
pub(crate) fn select<'a>(
    known: &'a [Module],
    selection: &str,
) -> Result<Vec<&'a Module>, ModuleError> {
    let mut chosen: Vec<&Module> = Vec::new();
    if selection.eq_ignore_ascii_case("none") {
        return Ok(chosen);
    }
    for name in selection.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let module = known
            .iter()
            .find(|module| module.name == name && module.enabled)
            .ok_or_else(|| ModuleError::Unknown(name.into()))?;
        if let Some(other) = chosen.iter().find(|other| {
            other.conflicts.contains(&module.name) || module.conflicts.contains(&other.name)
        }) {
            return Err(ModuleError::Conflict(other.name.clone(), module.name.clone()));
        }
        if !chosen.iter().any(|other| other.name == module.name) {
            chosen.push(module);
        }
    }
    Ok(chosen)
}

/// Why a selection of modules cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleError {
    /// No enabled module has this name.
    Unknown(String),
    /// These two cannot be used together.
    Conflict(String, String),
}

impl fmt::Display for ModuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                write!(f, "this site has no enabled module `{}`", shown(name))
            }
            Self::Conflict(one, other) => {
                let (one, other) = (shown(one), shown(other));
                write!(f, "the modules `{one}` and `{other}` cannot be used together")
            }
        }
    }
}

impl core::error::Error for ModuleError {}
