//! What udiRoot.conf says to the commands beside what it says to the runtime, and what of it has no effect.
//!
//! The text is parsed and judged by [`parse`] alone; here it is gone through again for the rest.

use crate::conf::{Conf, DEPRECATED, NOT_NEEDED, parse};
use crate::env::items;
use crate::error::ConfError;
use crate::lines::{Logical, logical_lines};
use crate::module::Module;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// `gantrySuidPath` where the file does not say: where packages install the set-user-id program.
pub const SUID_PATH: &str = "/usr/libexec/gantry/gantry-suid";

/// A site's configuration as the commands see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandConf {
    /// What decides over a container.
    pub conf: Conf,
    /// `gantrySuidPath`: the set-user-id program.
    pub gantry_suid_path: String,
    /// `mungeSocketPath`: munged's socket, where it is not the compiled-in one.
    pub munge_socket_path: Option<String>,
    /// `imageGateway`: base URLs of the gateways, in the order in which they are tried.
    pub image_gateway: Vec<String>,
    /// `gatewayTimeout` in seconds; `None` (0 in the file) is no limit.
    pub gateway_timeout: Option<u32>,
    /// `system`: the platform's name in the gateway's routes.
    pub system: Option<String>,
    /// What was accepted without effect.
    pub notices: Vec<Notice>,
}

impl CommandConf {
    /// Parses the text of udiRoot.conf.
    ///
    /// # Errors
    /// Those of [`parse`], and no others.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, ConfError> {
        let mut found = Self {
            conf: parse(&text)?,
            gantry_suid_path: SUID_PATH.into(),
            munge_socket_path: None,
            image_gateway: Vec::new(),
            gateway_timeout: None,
            system: None,
            notices: Vec::new(),
        };
        // What was parsed is UTF-8.
        let text = core::str::from_utf8(text.as_ref()).unwrap_or_default();
        for item in logical_lines(text, '=') {
            match item {
                Logical::Setting { line, key, value } => found.take(line, key, &value),
                Logical::Stray { line, text } => {
                    found.notices.push(Notice::Stray(line, text.into()));
                }
            }
        }
        Ok(found)
    }

    fn take(&mut self, line: usize, key: &str, value: &str) {
        match key {
            "gantrySuidPath" => self.gantry_suid_path = value.into(),
            "mungeSocketPath" => self.munge_socket_path = Some(value.into()),
            "imageGateway" => self.image_gateway.extend(items(value)),
            "gatewayTimeout" => {
                self.gateway_timeout = value.parse().ok().filter(|&limit| limit > 0)
            }
            "system" => self.system = Some(value.into()),
            _ => self.notices.extend(notice(line, key, value)),
        }
    }
}

fn notice(line: usize, key: &str, value: &str) -> Option<Notice> {
    if let Some(rest) = key.strip_prefix("module_") {
        return module_notice(line, rest, value);
    }
    let kind = match key {
        _ if DEPRECATED.contains(&key) => Notice::Deprecated,
        _ if NOT_NEEDED.contains(&key) => Notice::NotNeeded,
        _ if NO_EFFECT.contains(&key) => Notice::NoEffect,
        _ => return None,
    };
    Some(kind(line, key.into()))
}

fn module_notice(line: usize, rest: &str, value: &str) -> Option<Notice> {
    let mut parts = rest.split('_');
    let (Some(name), Some(key)) = (parts.next(), parts.next()) else {
        return Some(Notice::UnknownModuleKey(line, rest.into()));
    };
    if Module::new(name).take(key, value) == Ok(false) {
        return Some(Notice::UnknownModuleKey(line, key.into()));
    }
    let without = MODULE_NO_EFFECT.contains(&key);
    without.then(|| Notice::NoEffect(line, format!("module_{name}_{key}")))
}

/// Keys that are read and checked, and that nothing acts on yet.
const NO_EFFECT: &[&str] = &[
    "mountUdiRootWritable",
    "etcPath",
    "populateEtcDynamically",
    "usersToImport",
    "maxGroupCount",
    "allowLocalChroot",
    "sitePreMountHook",
    "sitePostMountHook",
    "perNodeCachePath",
    "perNodeCacheSizeLimit",
];

/// The same of modules.
const MODULE_NO_EFFECT: &[&str] = &["roothook"];

/// Something that is accepted and has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A key that Shifter itself no longer uses.
    Deprecated(usize, String),
    /// A key that Shifter needs and Gantry does not.
    NotNeeded(usize, String),
    /// A key that Shifter acts on and this version does not.
    NoEffect(usize, String),
    /// A key of a module that is not known.
    UnknownModuleKey(usize, String),
    /// A line without `=`.
    Stray(usize, String),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deprecated(line, key) => write!(f, "line {line}: `{key}` is deprecated, ignored"),
            Self::NotNeeded(line, key) => write!(f, "line {line}: `{key}` is not needed, ignored"),
            Self::NoEffect(line, key) => {
                write!(f, "line {line}: this version does not act on `{}`", key.escape_debug())
            }
            Self::UnknownModuleKey(line, key) => {
                write!(f, "line {line}: `{}` is no key of a module, ignored", key.escape_debug())
            }
            Self::Stray(line, text) => {
                write!(f, "line {line}: `{}` has no `=`, ignored", text.escape_debug())
            }
        }
    }
}
