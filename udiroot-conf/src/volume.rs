//! Volumes: `from:to[:flag...]`, what a user and what a site may ask for.
//!
//! Works on text alone. The runtime asks [`check_target`] again with the path that the kernel resolved, because
//! `/mnt/../etc` and symbolic links are beyond text.

#[cfg(feature = "unprivileged")]
pub use crate::canonical::canonical;
use crate::error::shown;
use crate::size::parse_size;
use alloc::string::String;
use alloc::vec::Vec;
use core::{fmt, mem};

/// Whose wish a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The calling user's.
    User,
    /// The site's, from udiRoot.conf.
    Site,
}

/// A host path and where it appears inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The host path, absolute and clean.
    pub source: String,
    /// The path inside, absolute and clean.
    pub target: String,
    /// How it is bound.
    pub flags: Flags,
}

/// How a volume is bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `ro`.
    pub read_only: bool,
    /// `rec`: with the mounts below the source. Gantry always takes them along.
    pub recursive: bool,
    /// `perNodeCache`: a fresh file system of its own instead of the source.
    pub per_node_cache: Option<NodeCache>,
    /// `slave` or `private`.
    pub propagation: Option<Propagation>,
}

/// How mounts made later at the source behave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// They appear inside.
    #[default]
    Slave,
    /// They do not.
    Private,
}

/// A per-node cache's measures, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCache {
    /// `size`.
    pub size: u64,
    /// `bs`.
    pub block_size: u64,
}

/// Parses a `;`-separated list; empty items are skipped.
///
/// # Errors
/// The first item that is no volume or that `origin` may not have.
pub fn parse_list(text: &str, origin: Origin) -> Result<Vec<Volume>, VolumeError> {
    let items =
        text.split(';').map(|item| item.trim_matches([' ', '\t'])).filter(|item| !item.is_empty());
    items.map(|item| Volume::parse(item, origin)).collect()
}

impl Volume {
    /// Parses one item; a pair of double quotes around it is dropped.
    ///
    /// Shifter deletes characters that it does not like; here `:` and `;` separate, control characters are an
    /// error, and everything else is part of the path.
    ///
    /// # Errors
    /// See [`VolumeError`].
    pub fn parse(item: &str, origin: Origin) -> Result<Self, VolumeError> {
        let fail = |reason| VolumeError { item: item.into(), reason };
        let bare = item.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(item);
        if bare.chars().any(char::is_control) {
            return Err(fail(Reason::ControlCharacter));
        }
        let mut parts = bare.split(':');
        let source = clean(parts.next().unwrap_or_default()).map_err(&fail)?;
        let target = match (parts.next(), origin) {
            (Some(target), _) => clean(target).map_err(&fail)?,
            (None, Origin::Site) => source.clone(),
            (None, Origin::User) => return Err(fail(Reason::NoTarget)),
        };
        let mut flags = Flags::default();
        for flag in parts {
            flags.take(flag, origin).map_err(&fail)?;
        }
        check_target(&target, origin).map_err(&fail)?;
        Ok(Self { source, target, flags })
    }
}

impl Flags {
    fn take(&mut self, text: &str, origin: Origin) -> Result<(), Reason> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let name = name.to_ascii_lowercase();
        if value.is_some() && matches!(name.as_str(), "ro" | "rec" | "slave" | "private") {
            return Err(Reason::FlagValue(text.into()));
        }
        if origin == Origin::User && matches!(name.as_str(), "rec" | "slave" | "private") {
            return Err(Reason::SiteFlag(name));
        }
        let again = match name.as_str() {
            "ro" => mem::replace(&mut self.read_only, true),
            "rec" => mem::replace(&mut self.recursive, true),
            "slave" => self.propagation.replace(Propagation::Slave).is_some(),
            "private" => self.propagation.replace(Propagation::Private).is_some(),
            "pernodecache" => {
                let cache = NodeCache::parse(value.unwrap_or_default())?;
                self.per_node_cache.replace(cache).is_some()
            }
            _ => return Err(Reason::UnknownFlag(text.into())),
        };
        if again { Err(Reason::RepeatedFlag(name)) } else { Ok(()) }
    }
}

impl NodeCache {
    fn parse(text: &str) -> Result<Self, Reason> {
        let bad = || Reason::NodeCache(text.into());
        let (mut size, mut block_size) = (0, 1 << 20);
        for item in text.split(',').filter(|item| !item.is_empty()) {
            match item.split_once('=').ok_or_else(bad)? {
                ("size", value) => size = parse_size(value).ok_or_else(bad)?,
                ("bs", value) => block_size = parse_size(value).ok_or_else(bad)?,
                ("fs", value) if value != "xfs" => return Err(bad()),
                ("method", value) if value != "loop" => return Err(bad()),
                _ => {}
            }
        }
        if size == 0 || block_size == 0 { Err(bad()) } else { Ok(Self { size, block_size }) }
    }
}

/// Collapses slashes and `.`, and refuses what is not an absolute path of at most [`PATH_LIMIT`] bytes.
fn clean(path: &str) -> Result<String, Reason> {
    if !path.starts_with('/') {
        return Err(Reason::NotAbsolute(path.into()));
    }
    if path.len() > PATH_LIMIT {
        return Err(Reason::TooLong);
    }
    let mut cleaned = String::with_capacity(path.len());
    for part in components(path) {
        if part == ".." {
            return Err(Reason::ParentDirectory(path.into()));
        }
        cleaned.push('/');
        cleaned.push_str(part);
    }
    if cleaned.is_empty() {
        cleaned.push('/');
    }
    Ok(cleaned)
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

/// Decides whether `origin` may mount at `target`, an absolute path inside, by whole path components.
///
/// By component, because `/etcetera` is not `/etc` and a string prefix would not know (CVE-2026-48785).
///
/// # Errors
/// [`Reason::Target`] where it may not.
pub fn check_target(target: &str, origin: Origin) -> Result<(), Reason> {
    let is = |path: &str| components(target).eq(components(path));
    let below = |path: &str| {
        let mut rest = components(target);
        components(path).all(|part| rest.next() == Some(part))
    };
    let denied = match origin {
        Origin::User => {
            is("/") || is("/opt") || (!is("/var/tmp") && USER_DENIED.iter().any(|path| below(path)))
        }
        Origin::Site => is("/") || SITE_DENIED.iter().any(|path| is(path)) || below("/proc"),
    };
    if denied { Err(Reason::Target(target.into())) } else { Ok(()) }
}

/// The longest path, in bytes: the kernel's PATH_MAX without its terminating zero.
pub const PATH_LIMIT: usize = 4095;

/// Trees in which users mount nothing: the host's own, and what decides who is who inside.
const USER_DENIED: &[&str] = &["/etc", "/var", "/opt/udiImage", "/proc", "/sys", "/dev"];

/// Places that sites do not mount on, because the container's own files are there.
const SITE_DENIED: &[&str] =
    &["/opt", "/etc", "/var", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/sys", "/dev"];

/// A volume that cannot be had: which and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeError {
    /// The item as it was written.
    pub item: String,
    /// Why.
    pub reason: Reason,
}

/// Why a volume cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A user's volume names no target.
    NoTarget,
    /// A path does not start with `/`.
    NotAbsolute(String),
    /// A path has a `..` component.
    ParentDirectory(String),
    /// A path exceeds [`PATH_LIMIT`].
    TooLong,
    /// A newline or another control character is in it.
    ControlCharacter,
    /// Nobody of this origin mounts there.
    Target(String),
    /// No such flag exists.
    UnknownFlag(String),
    /// A flag that takes no value has one.
    FlagValue(String),
    /// A flag is there twice, or `slave` and `private` are both there.
    RepeatedFlag(String),
    /// Only the site may use this flag.
    SiteFlag(String),
    /// The measures of a per-node cache are wrong.
    NodeCache(String),
}

impl fmt::Display for VolumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "volume `{}`: {}", shown(&self.item), self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, word) = match self {
            Self::NoTarget => {
                return f.write_str("it has no target, the form is SOURCE:TARGET[:ro]");
            }
            Self::TooLong => return write!(f, "a path exceeds {PATH_LIMIT} bytes"),
            Self::ControlCharacter => return f.write_str("it has a control character"),
            Self::NotAbsolute(path) => ("a path does not start with `/`:", path),
            Self::ParentDirectory(path) => ("a path has `..`:", path),
            Self::Target(path) => ("nothing may be mounted on", path),
            Self::UnknownFlag(flag) => {
                ("the form is SOURCE:TARGET[:ro], and there is no flag", flag)
            }
            Self::FlagValue(flag) => ("a flag that takes no value has one:", flag),
            Self::RepeatedFlag(flag) => ("a flag repeats or contradicts an earlier one:", flag),
            Self::SiteFlag(flag) => ("a flag is for the site's configuration only:", flag),
            Self::NodeCache(text) => (NODE_CACHE, text),
        };
        write!(f, "{text} `{}`", shown(word))
    }
}

const NODE_CACHE: &str = "perNodeCache wants size=SIZE[,bs=SIZE][,fs=xfs][,method=loop], not";

impl core::error::Error for VolumeError {}

#[cfg(test)]
mod tests;
