//! `imagemanager.json`: what the administrator says.
//!
//! The keys are Shifter's, so that a site's file is read as it is; Gantry's own stand beside them and are marked so.
//! A key that means nothing here is noticed, never an error: Shifter's own examples carry several.

mod conversion;
mod notice;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use image_ref::Platform as ImagePlatform;
use serde::Deserialize;
use serde_json::Value;

pub use conversion::{BlockSize, Compressor, Conversion};
pub use notice::notices;
pub use value::{Account, ImportUsers, SystemName};

/// The file that is read where neither `--config` nor `GWCONFIG` names another.
pub const DEFAULT_PATH: &str = "/etc/gantry/imagemanager.json";

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// Gantry: addresses to listen on, one or a list; `127.0.0.1:5000` by default.
    #[serde(default = "value::default_listen", deserialize_with = "value::addresses")]
    pub listen: Vec<SocketAddr>,
    /// Gantry: the file of the embedded store, on a local disk.
    #[serde(default = "value::default_store")]
    pub store_path: PathBuf,
    /// Gantry: the program that makes images.
    #[serde(default = "value::default_converter")]
    pub converter_path: PathBuf,
    /// Images that are made at the same time; the others wait as `PENDING`. A number or its text.
    #[serde(default = "value::default_workers", deserialize_with = "value::positive")]
    pub worker_threads: usize,
    /// How much is logged: debug, info, warn, error or critical. The environment's `RUST_LOG` goes before it.
    #[serde(default)]
    pub log_level: Option<String>,
    /// The location that a reference without a registry means; a key of `Locations`.
    #[serde(default)]
    pub default_image_location: Option<String>,
    /// Seconds after which a pull asks the registry again what a tag points at; 300 by default.
    #[serde(default = "value::default_update", deserialize_with = "value::seconds")]
    pub pull_update_timeout: Duration,
    /// Registries by name. The text before the first slash of a reference chooses one.
    #[serde(default)]
    pub locations: BTreeMap<String, Location>,
    /// Systems by name, such as a cluster's.
    pub platforms: BTreeMap<SystemName, Platform>,
    /// Gantry: whether a reference may name a registry that is no key of `Locations`. It is then reached by
    /// https alone and never at a loopback, link-local or private address. True by default.
    #[serde(default = "value::yes")]
    pub allow_unlisted_registries: bool,
    /// Gantry: whether MUNGE credentials count that are bound to no request, as Shifter's clients send them. True
    /// by default; say false once every client is Gantry's.
    #[serde(default = "value::yes")]
    pub accept_unbound_credentials: bool,
    /// Gantry: what one image may cost.
    #[serde(default)]
    pub limits: Limits,
    /// Gantry: how images are made. Images that were made otherwise stay as good as they are.
    #[serde(default)]
    pub conversion: Conversion,
    /// Who may import images: `all`, `none`, or a list of user names and ids; everybody where nothing is said.
    #[serde(default = "value::everybody", deserialize_with = "value::import_users")]
    pub import_users: ImportUsers,
    /// `munge`, the only method there is; Shifter's `mock` is refused.
    #[serde(default)]
    pub authentication: Option<String>,
    /// `squashfs`, the only format that is made.
    #[serde(default)]
    pub default_image_format: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// One registry.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Location {
    /// Where it is: `https://host[:port]`, or `http://...` where the administrator trusts the network between.
    /// `https://<name of the location>` by default.
    #[serde(default)]
    pub url: Option<String>,
    /// A file of certificates (PEM) that sign the registry's.
    #[serde(default)]
    pub sslcacert: Option<PathBuf>,
    /// `token`, the default: the login is shown as the registry asks for it. `basic`: with each request.
    #[serde(default, rename = "authMethod")]
    pub auth_method: Option<String>,
    /// Gantry: further hosts (`host` or `host:port`) that may see logins when the registry sends there for a token,
    /// such as the GitLab server beside its registry.
    #[serde(default, rename = "tokenRealms")]
    pub token_realms: Vec<String>,
    /// `dockerv2`.
    #[serde(default)]
    pub remotetype: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// One system.
#[derive(Clone, Debug, Deserialize)]
pub struct Platform {
    /// The socket of the munged that vouches for this system's users; munge's own default where absent.
    #[serde(default, rename = "mungeSocketPath")]
    pub munge_socket: Option<PathBuf>,
    /// `local`: the image directory is mounted on the gateway's host.
    #[serde(default)]
    pub accesstype: Option<String>,
    /// The image directory.
    #[serde(default)]
    pub local: Option<Local>,
    /// User names or user ids that may do everything with every image of the system.
    #[serde(default, deserialize_with = "value::accounts")]
    pub admins: Vec<Account>,
    /// Gantry: what the system's nodes are, such as `linux/amd64`; the gateway's own architecture by default.
    #[serde(default, rename = "Platform", deserialize_with = "value::platform")]
    pub platform: Option<ImagePlatform>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Where a system's images lie.
#[derive(Clone, Debug, Deserialize)]
pub struct Local {
    /// A directory that the gateway's account owns and every node mounts.
    #[serde(rename = "imageDir")]
    pub image_dir: PathBuf,
}

/// Gantry: what one image may cost; beyond it a pull fails with `limit-exceeded`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub struct Limits {
    /// The sum of the layers' compressed sizes in bytes; 64 GiB by default.
    pub compressed_bytes: u64,
    /// The sum of the layers' sizes in bytes as tar archives; 256 GiB by default.
    pub expanded_bytes: u64,
    /// The sum of all files' sizes in bytes, holes included; 1 TiB by default.
    pub file_bytes: u64,
    /// How many times larger a layer may become by decompression, once it is past 1 GiB; 200 by default.
    pub ratio: u64,
    /// Files, directories and links; 4 million by default.
    pub entries: u64,
    /// Seconds that one pull may take; six hours by default.
    #[serde(deserialize_with = "value::seconds")]
    pub pull_seconds: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            compressed_bytes: 64 << 30,
            expanded_bytes: 256 << 30,
            file_bytes: 1 << 40,
            ratio: 200,
            entries: 4_000_000,
            pull_seconds: Duration::from_secs(6 * 3600),
        }
    }
}

impl Config {
    /// Reads the file and checks it as far as that can be done without the network.
    ///
    /// # Errors
    /// [`ConfigError`], which names the file and the key. A file that the group or others may write is refused:
    /// whoever writes it chooses the registries and the administrators.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let named = |problem| ConfigError { path: path.to_path_buf(), problem };
        let text = read_checked(path).map_err(named)?;
        let config: Self = serde_json::from_str(&text).map_err(Problem::Json).map_err(named)?;
        config.check().map_err(named)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Problem> {
        if self.platforms.is_empty() {
            return Err(Problem::Key("Platforms", "names no system".into()));
        }
        if let Some(method) = self.authentication.as_deref().filter(|method| *method != "munge") {
            return Err(Problem::Key("Authentication", format!("is `{method}`, not munge")));
        }
        if let Some(format) = self.default_image_format.as_deref().filter(|f| *f != "squashfs") {
            return Err(Problem::Key("DefaultImageFormat", format!("is `{format}`, not squashfs")));
        }
        if let Some(name) = &self.default_image_location
            && !self.locations.contains_key(name)
        {
            let why = format!("is `{name}`, which is no key of Locations");
            return Err(Problem::Key("DefaultImageLocation", why));
        }
        for (name, location) in &self.locations {
            location.check().map_err(|why| Problem::Location(name.clone(), why))?;
        }
        let mut owners: BTreeMap<&Path, &SystemName> = BTreeMap::new();
        for (name, platform) in &self.platforms {
            let directory =
                platform.image_dir().map_err(|why| Problem::Platform(name.clone(), why))?;
            if let Some(other) = owners.insert(directory, name) {
                let why = format!("has the imageDir of `{other}`; each system needs its own");
                return Err(Problem::Platform(name.clone(), why));
            }
        }
        Ok(())
    }
}

impl Location {
    fn check(&self) -> Result<(), String> {
        match self.url.as_deref() {
            Some(url) if !url.starts_with("https://") && !url.starts_with("http://") => {
                return Err(format!(
                    "has the url `{url}`, which starts with neither https:// nor http://"
                ));
            }
            _ => {}
        }
        match self.auth_method.as_deref() {
            None | Some("token" | "basic") => {}
            Some(other) => return Err(format!("has the authMethod `{other}`, not token or basic")),
        }
        match self.remotetype.as_deref() {
            None | Some("dockerv2") => Ok(()),
            Some(other) => Err(format!("has the remotetype `{other}`, not dockerv2")),
        }
    }
}

impl Platform {
    /// The image directory.
    ///
    /// # Errors
    /// What is wrong, where there is none or it is on another host.
    pub fn image_dir(&self) -> Result<&Path, String> {
        match self.accesstype.as_deref() {
            None | Some("local") => {}
            Some(other) => {
                return Err(format!(
                    "has the accesstype `{other}`; mount the image directory on the gateway's host and say local"
                ));
            }
        }
        match &self.local {
            Some(local) if local.image_dir.is_absolute() => Ok(&local.image_dir),
            Some(local) => Err(format!(
                "has the imageDir `{}`, which is not absolute",
                local.image_dir.display()
            )),
            None => Err("has no local.imageDir".into()),
        }
    }
}

/// Opens the file once and checks owner and mode on the descriptor.
fn read_checked(path: &Path) -> Result<String, Problem> {
    let mut file: File = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open(path)
        .map_err(Problem::Read)?;
    let facts = file.metadata().map_err(Problem::Read)?;
    if !facts.is_file() {
        return Err(Problem::NoFile);
    }
    if facts.mode() & 0o022 != 0 {
        return Err(Problem::Writable(facts.mode() & 0o7777));
    }
    let own = nix::unistd::geteuid().as_raw();
    if facts.uid() != 0 && facts.uid() != own {
        return Err(Problem::Owner(facts.uid()));
    }
    let mut text = String::new();
    file.by_ref().take(FILE_LIMIT).read_to_string(&mut text).map_err(Problem::Read)?;
    Ok(text)
}

/// More than any site's file; keeps a wrong path from filling the memory.
const FILE_LIMIT: u64 = 4 << 20;

/// What is wrong with the configuration file.
#[derive(Debug)]
pub struct ConfigError {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Read(std::io::Error),
    NoFile,
    Writable(u32),
    Owner(u32),
    Json(serde_json::Error),
    Key(&'static str, String),
    Location(String, String),
    Platform(SystemName, String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.problem {
            Problem::Read(_) => write!(f, "cannot read {path}"),
            Problem::NoFile => write!(f, "{path} is not a regular file"),
            Problem::Writable(mode) => write!(
                f,
                "{path} has mode {mode:04o}: its group or others may write it\nhint: chmod go-w {path}"
            ),
            Problem::Owner(uid) => write!(
                f,
                "{path} belongs to user {uid}; only root or the gateway's own account may own it"
            ),
            Problem::Json(_) => write!(f, "{path} is not a valid imagemanager.json"),
            Problem::Key(key, why) => write!(f, "{path}: {key} {why}"),
            Problem::Location(name, why) => write!(f, "{path}: location `{name}` {why}"),
            Problem::Platform(name, why) => write!(f, "{path}: platform `{name}` {why}"),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Read(err) => Some(err),
            Problem::Json(err) => Some(err),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
