//! The keys of udiRoot.conf: what each means, what it may be, and what it is when absent.
//!
//! A scalar key may be repeated, the last one counts; lists and siteFs append, as in Shifter.

use crate::env::{EnvRules, items};
use crate::error::{ConfError, Notice, Problem};
use crate::lines::{Logical, logical_lines};
use crate::module::{Module, ModuleError, select};
use crate::size::parse_size;
use crate::volume::{self, Origin, Propagation, Volume};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A site's configuration, parsed and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// `imagePath`, required: the directory of published images.
    pub image_path: String,
    /// `imageOwner`: the uid of the account that publishes images (the gateway's); where the file does not say, it
    /// is whoever owns `image_path`. No file of another owner is mounted. A number: the runtime looks up no names.
    pub image_owner: Option<u32>,
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
    /// `defaultImageType`: the kind of a reference that names none.
    pub default_image_type: Option<String>,
    /// `udiRootPath`: the prefix under which Shifter was installed.
    pub udi_root_path: Option<String>,
    /// `siteFs`: host trees that every container has.
    pub site_fs: Vec<Volume>,
    /// `siteEnv`, `siteEnvAppend`, `siteEnvPrepend`, `siteEnvUnset`.
    pub site_env: EnvRules,
    /// `mountPropagationStyle`: whether mounts made later on the host appear in a running container; where the
    /// file does not say, they do.
    pub mount_propagation: Propagation,
    /// `mountUdiRootWritable`: whether directories of the container's root that are not the image's stay writable.
    pub mount_udi_root_writable: bool,
    /// `etcPath`: files for the container's /etc.
    pub etc_path: Option<String>,
    /// `populateEtcDynamically`: whether /etc is made for the caller instead of copied from `etc_path`.
    pub populate_etc_dynamically: bool,
    /// `usersToImport`: further users that the container's passwd has.
    pub users_to_import: Vec<String>,
    /// `maxGroupCount`: in how many groups at most the caller is listed as a member.
    pub max_group_count: u32,
    /// `allowLocalChroot`: whether a host directory may serve as an image.
    pub allow_local_chroot: bool,
    /// `optUdiImage`: a host directory offered as /opt/udiImage.
    pub opt_udi_image: Option<String>,
    /// `sitePreMountHook`: a program run as root before the site mounts.
    pub site_pre_mount_hook: Option<String>,
    /// `sitePostMountHook`: a program run as root behind the site mounts.
    pub site_post_mount_hook: Option<String>,
    /// `perNodeCachePath`: the directory of per-node cache files.
    pub per_node_cache_path: Option<String>,
    /// `perNodeCacheSizeLimit` in bytes.
    pub per_node_cache_size_limit: Option<u64>,
    /// `module_<name>_<key>`.
    pub modules: Vec<Module>,
    /// `defaultModules`: the selection of who selects nothing.
    pub default_modules: String,
    /// What was accepted without effect.
    pub notices: Vec<Notice>,
}

/// Parses the text of udiRoot.conf.
///
/// # Errors
/// The first thing that is wrong, with its line: see [`Problem`].
pub fn parse(text: impl AsRef<[u8]>) -> Result<Conf, ConfError> {
    let bytes = text.as_ref();
    let whole = |problem| ConfError { line: 0, problem };
    if bytes.len() > crate::CONF_LIMIT {
        return Err(whole(Problem::TooLarge));
    }
    let text = core::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        ConfError { line, problem: Problem::NotUtf8 }
    })?;
    let mut conf = Conf::unset();
    let mut modules_line = 0;
    for item in logical_lines(text, '=') {
        match item {
            Logical::Stray { line, text } => conf.notices.push(Notice::Stray(line, text.into())),
            Logical::Setting { line, key, value } => {
                if key == "defaultModules" {
                    modules_line = line;
                }
                conf.take(line, key, &value).map_err(|problem| ConfError { line, problem })?;
            }
        }
    }
    if conf.image_path.is_empty() {
        return Err(whole(Problem::Missing("imagePath")));
    }
    conf.check_modules().map_err(|problem| ConfError { line: modules_line, problem })?;
    Ok(conf)
}

impl Conf {
    /// The modules of `selection`, or the default ones where the caller selects nothing.
    ///
    /// # Errors
    /// An unknown or disabled module, or two that conflict.
    pub fn modules(&self, selection: Option<&str>) -> Result<Vec<&Module>, ModuleError> {
        select(&self.modules, selection.unwrap_or(&self.default_modules))
    }

    fn unset() -> Self {
        Self {
            image_path: String::new(),
            image_owner: None,
            gantry_suid_path: "/usr/libexec/gantry/gantry-suid".into(),
            munge_socket_path: None,
            image_gateway: Vec::new(),
            gateway_timeout: None,
            system: None,
            default_image_type: None,
            udi_root_path: None,
            site_fs: Vec::new(),
            site_env: EnvRules::default(),
            mount_propagation: Propagation::Slave,
            mount_udi_root_writable: false,
            etc_path: None,
            populate_etc_dynamically: false,
            users_to_import: Vec::new(),
            max_group_count: 0,
            allow_local_chroot: false,
            opt_udi_image: None,
            site_pre_mount_hook: None,
            site_post_mount_hook: None,
            per_node_cache_path: None,
            per_node_cache_size_limit: None,
            modules: Vec::new(),
            default_modules: String::new(),
            notices: Vec::new(),
        }
    }

    fn take(&mut self, line: usize, key: &str, value: &str) -> Result<(), Problem> {
        if let Some(rest) = key.strip_prefix("module_") {
            return self.take_module(line, rest, value);
        }
        match key {
            "imagePath" => self.image_path = parse_path(key, value)?,
            "imageOwner" => self.image_owner = Some(parse_uid(key, value)?),
            "gantrySuidPath" => self.gantry_suid_path = parse_path(key, value)?,
            "mungeSocketPath" => self.munge_socket_path = Some(parse_path(key, value)?),
            "imageGateway" => self.image_gateway.extend(items(value)),
            "gatewayTimeout" => {
                self.gateway_timeout = Some(parse_number(key, value)?).filter(|&limit| limit > 0);
            }
            "system" => self.system = Some(value.into()),
            "defaultImageType" => self.default_image_type = Some(parse_kind(key, value)?),
            "udiRootPath" => self.udi_root_path = Some(parse_path(key, value)?),
            "siteFs" => self
                .site_fs
                .extend(volume::parse_list(value, Origin::Site).map_err(Problem::Volume)?),
            "mountPropagationStyle" => {
                self.mount_propagation = match value {
                    "private" => Propagation::Private,
                    "slave" => Propagation::Slave,
                    _ => return Err(wants(key, value, "`private` or `slave`")),
                }
            }
            "mountUdiRootWritable" => self.mount_udi_root_writable = parse_switch(key, value)?,
            "etcPath" => self.etc_path = Some(parse_path(key, value)?),
            "populateEtcDynamically" => self.populate_etc_dynamically = parse_switch(key, value)?,
            "usersToImport" => self.users_to_import.extend(items(value)),
            "maxGroupCount" => self.max_group_count = parse_number(key, value)?,
            "allowLocalChroot" => self.allow_local_chroot = parse_switch(key, value)?,
            "optUdiImage" => self.opt_udi_image = Some(parse_path(key, value)?),
            "sitePreMountHook" => self.site_pre_mount_hook = Some(parse_path(key, value)?),
            "sitePostMountHook" => self.site_post_mount_hook = Some(parse_path(key, value)?),
            "perNodeCachePath" => self.per_node_cache_path = Some(parse_path(key, value)?),
            "perNodeCacheSizeLimit" => {
                let size = parse_size(value).ok_or_else(|| wants(key, value, "a size"))?;
                self.per_node_cache_size_limit = Some(size);
            }
            "defaultModules" => self.default_modules = value.into(),
            _ if NOT_NEEDED.contains(&key) => {
                self.notices.push(Notice::NotNeeded(line, key.into()));
            }
            _ if DEPRECATED.contains(&key) => {
                self.notices.push(Notice::Deprecated(line, key.into()));
            }
            _ if self.site_env.take(key, value)? => {}
            _ => return Err(Problem::UnknownKey(key.into(), meant_by(key))),
        }
        if NO_EFFECT.contains(&key) {
            self.notices.push(Notice::NoEffect(line, key.into()));
        }
        Ok(())
    }

    /// `rest` is `<name>_<key>`; what follows a further `_` is not looked at, as in Shifter.
    fn take_module(&mut self, line: usize, rest: &str, value: &str) -> Result<(), Problem> {
        let mut parts = rest.split('_');
        let (Some(name), Some(key)) = (parts.next(), parts.next()) else {
            self.notices.push(Notice::UnknownModuleKey(line, rest.into()));
            return Ok(());
        };
        let at = self.modules.iter().position(|module| module.name == name);
        if at.is_none() {
            self.modules.push(Module::new(name));
        }
        let slot = match at {
            Some(index) => self.modules.get_mut(index),
            None => self.modules.last_mut(),
        };
        if let Some(module) = slot {
            if !module.take(key, value)? {
                self.notices.push(Notice::UnknownModuleKey(line, key.into()));
            } else if MODULE_NO_EFFECT.contains(&key) {
                let key = alloc::format!("module_{name}_{key}");
                self.notices.push(Notice::NoEffect(line, key));
            }
        }
        Ok(())
    }

    fn check_modules(&self) -> Result<(), Problem> {
        let named = self.modules.iter().flat_map(|module| &module.conflicts);
        for name in named {
            if !self.modules.iter().any(|module| &module.name == name) {
                return Err(Problem::UnknownModule(name.clone()));
            }
        }
        match self.modules(None) {
            Ok(_) => Ok(()),
            Err(ModuleError::Unknown(name)) => Err(Problem::UnknownModule(name)),
            Err(error @ ModuleError::Conflict(..)) => Err(Problem::Value {
                key: "defaultModules".into(),
                value: error.to_string(),
                wants: "modules that do not conflict",
            }),
        }
    }
}

/// Shifter reads any other word than a number as false; a silent `yes` = no is worse than an error.
pub(crate) fn parse_switch(key: &str, value: &str) -> Result<bool, Problem> {
    value.parse::<i64>().map(|number| number != 0).map_err(|_| wants(key, value, "0 or 1"))
}

fn parse_number(key: &str, value: &str) -> Result<u32, Problem> {
    value.parse().map_err(|_| wants(key, value, "a number"))
}

/// The largest number is `(uid_t)-1`, which means "no change" to the kernel.
fn parse_uid(key: &str, value: &str) -> Result<u32, Problem> {
    match value.parse() {
        Ok(uid) if uid != u32::MAX => Ok(uid),
        _ => Err(wants(key, value, "the number of a user")),
    }
}

fn parse_path(key: &str, value: &str) -> Result<String, Problem> {
    if value.starts_with('/') && !value.contains('\0') {
        Ok(value.into())
    } else {
        Err(wants(key, value, "an absolute path"))
    }
}

fn parse_kind(key: &str, value: &str) -> Result<String, Problem> {
    match value {
        "docker" | "custom" | "id" | "local" => Ok(value.into()),
        _ => Err(wants(key, value, "docker, custom, id or local")),
    }
}

fn wants(key: &str, value: &str, wants: &'static str) -> Problem {
    Problem::Value { key: key.into(), value: value.into(), wants }
}

fn meant_by(key: &str) -> Option<&'static str> {
    KEYS.iter().copied().find(|known| known.eq_ignore_ascii_case(key))
}

/// Keys that an unknown one is compared with, to tell a wrong letter case.
pub(crate) const KEYS: &[&str] = &[
    "imagePath",
    "imageOwner",
    "gantrySuidPath",
    "mungeSocketPath",
    "imageGateway",
    "gatewayTimeout",
    "system",
    "defaultImageType",
    "udiRootPath",
    "siteFs",
    "siteEnv",
    "siteEnvAppend",
    "siteEnvPrepend",
    "siteEnvUnset",
    "mountPropagationStyle",
    "mountUdiRootWritable",
    "etcPath",
    "populateEtcDynamically",
    "usersToImport",
    "maxGroupCount",
    "allowLocalChroot",
    "optUdiImage",
    "sitePreMountHook",
    "sitePostMountHook",
    "perNodeCachePath",
    "perNodeCacheSizeLimit",
    "defaultModules",
];

/// Helper programs and places of Shifter's that Gantry has no use for.
const NOT_NEEDED: &[&str] = &[
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

/// Keys that are read and checked, and that nothing acts on yet.
const NO_EFFECT: &[&str] = &[
    "mountUdiRootWritable",
    "etcPath",
    "populateEtcDynamically",
    "usersToImport",
    "maxGroupCount",
    "allowLocalChroot",
    "optUdiImage",
    "sitePreMountHook",
    "sitePostMountHook",
    "perNodeCachePath",
    "perNodeCacheSizeLimit",
];

/// The same of modules.
const MODULE_NO_EFFECT: &[&str] = &["copyPath", "copypath", "userhook", "roothook"];

/// Keys that Shifter itself accepts and ignores.
const DEPRECATED: &[&str] =
    &["autoLoadKernelModule", "kmodBasePath", "kmodCacheFile", "optionalSshdAsRoot"];

#[cfg(test)]
mod tests;
