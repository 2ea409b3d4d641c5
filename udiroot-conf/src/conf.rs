//! The keys of udiRoot.conf: what each may be, and what those mean that decide over a container.
//!
//! A scalar key may be repeated, the last one counts; lists and siteFs append, as in Shifter. Every key's value is
//! checked here, whoever acts on it, so that all programs accept and refuse the same files.

use crate::env::EnvRules;
use crate::error::{ConfError, Problem};
use crate::lines::{Logical, logical_lines};
use crate::module::{Module, ModuleError, select};
use crate::size::parse_size;
use crate::volume::{self, Origin, Propagation, Volume};
use alloc::string::String;
use alloc::vec::Vec;

/// A site's configuration as far as it decides over a container, parsed and checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    /// `imagePath`, required: the directory of published images.
    pub image_path: String,
    /// `imageOwner`: the uid of the account that publishes images (the gateway's); where the file does not say, it
    /// is whoever owns `image_path`. No file of another owner is mounted. A number: the runtime looks up no names.
    pub image_owner: Option<u32>,
    /// `siteFs`: host trees that every container has.
    pub site_fs: Vec<Volume>,
    /// `optUdiImage`: a host directory that is offered at `/opt/udiImage`.
    pub opt_udi_image: Option<String>,
    /// `siteEnv`, `siteEnvAppend`, `siteEnvPrepend`, `siteEnvUnset`.
    pub site_env: EnvRules,
    /// `mountPropagationStyle`: whether mounts made later on the host appear in a running container; where the
    /// file does not say, they do.
    pub mount_propagation: Propagation,
    /// `module_<name>_<key>`.
    pub modules: Vec<Module>,
    /// `defaultModules`: the selection of who selects nothing.
    pub default_modules: String,
}

/// Parses the text of udiRoot.conf.
///
/// # Errors
/// The first thing that is wrong, with its line: see [`Problem`].
pub fn parse(text: impl AsRef<[u8]>) -> Result<Conf, ConfError> {
    let text = check_text(text.as_ref())?;
    let mut conf = Conf::default();
    let mut modules_line = 0;
    for item in logical_lines(text, '=') {
        // A line without `=` is ignored, as by Shifter.
        let Logical::Setting { line, key, value } = item else { continue };
        if key == "defaultModules" {
            modules_line = line;
        }
        conf.take(key, &value).map_err(|problem| ConfError { line, problem })?;
    }
    if conf.image_path.is_empty() {
        return Err(ConfError { line: 0, problem: Problem::Missing("imagePath") });
    }
    conf.check_modules().map_err(|problem| ConfError { line: modules_line, problem })?;
    Ok(conf)
}

fn check_text(bytes: &[u8]) -> Result<&str, ConfError> {
    if bytes.len() > crate::CONF_LIMIT {
        return Err(ConfError { line: 0, problem: Problem::TooLarge });
    }
    core::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        ConfError { line, problem: Problem::NotUtf8 }
    })
}

impl Conf {
    /// The modules of `selection`, or the default ones where the caller selects nothing.
    ///
    /// # Errors
    /// An unknown or disabled module, or two that conflict.
    pub fn modules(&self, selection: Option<&str>) -> Result<Vec<&Module>, ModuleError> {
        select(&self.modules, selection.unwrap_or(&self.default_modules))
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), Problem> {
        if let Some(rest) = key.strip_prefix("module_") {
            return self.take_module(rest, value);
        }
        if NOT_NEEDED.contains(&key) || DEPRECATED.contains(&key) {
            return Ok(());
        }
        let Some((_, form)) = KEYS.iter().find(|(known, _)| *known == key) else {
            let meant = KEYS.iter().find(|(known, _)| known.eq_ignore_ascii_case(key));
            return Err(Problem::UnknownKey(key.into(), meant.map(|(known, _)| *known)));
        };
        form.check(key, value)?;
        match key {
            "imagePath" => self.image_path = value.into(),
            "imageOwner" => self.image_owner = value.parse().ok(),
            "optUdiImage" => self.opt_udi_image = Some(value.into()),
            "siteFs" => self.site_fs.extend(parse_volumes(value)?),
            "mountPropagationStyle" if value == "private" => {
                self.mount_propagation = Propagation::Private;
            }
            "mountPropagationStyle" => self.mount_propagation = Propagation::Slave,
            "defaultModules" => self.default_modules = value.into(),
            _ => return self.site_env.take(key, value).map(drop),
        }
        Ok(())
    }

    /// `rest` is `<name>_<key>`; what follows a further `_` is not looked at, as in Shifter.
    fn take_module(&mut self, rest: &str, value: &str) -> Result<(), Problem> {
        let mut parts = rest.split('_');
        let (Some(name), Some(key)) = (parts.next(), parts.next()) else { return Ok(()) };
        if !self.modules.iter().any(|module| module.name == name) {
            self.modules.push(Module::new(name));
        }
        match self.modules.iter_mut().find(|module| module.name == name) {
            Some(module) => module.take(key, value).map(drop),
            None => Ok(()),
        }
    }

    fn check_modules(&self) -> Result<(), Problem> {
        let mut named = self.modules.iter().flat_map(|module| &module.conflicts);
        let known = |name: &&String| self.modules.iter().any(|module| module.name == **name);
        let result = match named.find(|name| !known(name)) {
            Some(name) => Err(ModuleError::Unknown(name.clone())),
            None => self.modules(None).map(drop),
        };
        result.map_err(Problem::Modules)
    }
}

pub(crate) fn parse_volumes(value: &str) -> Result<Vec<Volume>, Problem> {
    volume::parse_list(value, Origin::Site).map_err(Problem::Volume)
}

/// What a value must look like: whether it does, and what is wanted, to follow "wants".
pub(crate) struct Form(fn(&str) -> bool, &'static str);

impl Form {
    pub(crate) fn check(&self, key: &str, value: &str) -> Result<(), Problem> {
        let Self(fits, wants) = self;
        if fits(value) {
            return Ok(());
        }
        Err(Problem::Value { key: key.into(), value: value.into(), wants })
    }
}

const ANY: Form = Form(|_| true, "");
pub(crate) const PATH: Form =
    Form(|path| path.starts_with('/') && !path.contains('\0'), "an absolute path");
const NUMBER: Form = Form(|number| number.parse::<u32>().is_ok(), "a number");
/// The largest number is `(uid_t)-1`, which means "no change" to the kernel.
const USER: Form =
    Form(|uid| uid.parse::<u32>().is_ok_and(|uid| uid != u32::MAX), "the number of a user");
/// Shifter reads any other word than a number as false; a silent `yes` = no is worse than an error.
pub(crate) const SWITCH: Form = Form(|number| number.parse::<i64>().is_ok(), "0 or 1");
const SIZE: Form = Form(|size| parse_size(size).is_some(), "a size");
const PROPAGATION: Form = Form(|word| ["private", "slave"].contains(&word), "`private` or `slave`");
const KIND: Form =
    Form(|word| ["docker", "custom", "id", "local"].contains(&word), "docker, custom, id or local");

/// Every key that is read, and the form of its value. An unknown one is compared with them, to tell a wrong letter case.
pub(crate) const KEYS: &[(&str, Form)] = &[
    ("imagePath", PATH),
    ("imageOwner", USER),
    ("gantrySuidPath", PATH),
    ("mungeSocketPath", PATH),
    ("imageGateway", ANY),
    ("gatewayTimeout", NUMBER),
    ("system", ANY),
    ("defaultImageType", KIND),
    ("udiRootPath", PATH),
    ("siteFs", ANY),
    ("siteEnv", ANY),
    ("siteEnvAppend", ANY),
    ("siteEnvPrepend", ANY),
    ("siteEnvUnset", ANY),
    ("mountPropagationStyle", PROPAGATION),
    ("mountUdiRootWritable", SWITCH),
    ("etcPath", PATH),
    ("populateEtcDynamically", SWITCH),
    ("usersToImport", ANY),
    ("maxGroupCount", NUMBER),
    ("allowLocalChroot", SWITCH),
    ("optUdiImage", PATH),
    ("sitePreMountHook", PATH),
    ("sitePostMountHook", PATH),
    ("perNodeCachePath", PATH),
    ("perNodeCacheSizeLimit", SIZE),
    ("defaultModules", ANY),
];

/// Helper programs and places of Shifter's that Gantry has no use for.
pub(crate) const NOT_NEEDED: &[&str] = &[
    "udiMount",
    "loopMount",
    "modprobePath",
    "insmodPath",
    "cpPath",
    "mvPath",
    "chmodPath",
    "ddPath",
    "mkfsXfsPath",
    "rootfsType",
    "allowLibcPwdCalls",
    "perNodeCacheAllowedFsType",
    "batchType",
    "nodeContextPrefix",
];

/// Keys that Shifter itself accepts and ignores.
pub(crate) const DEPRECATED: &[&str] =
    &["autoLoadKernelModule", "kmodBasePath", "kmodCacheFile", "optionalSshdAsRoot"];

#[cfg(test)]
mod tests;
