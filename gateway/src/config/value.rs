//! How single values of the configuration are read, and their defaults.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use image_ref::Platform;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

/// The name of a system, as it stands in URLs and in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SystemName(String);

impl SystemName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SystemName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.bytes().all(fits) {
            return Err(format!(
                "`{}` is no name for a system: letters, digits, . _ -",
                name.escape_default()
            ));
        }
        Ok(Self(name))
    }
}

impl From<SystemName> for String {
    fn from(name: SystemName) -> Self {
        name.0
    }
}

impl fmt::Display for SystemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Account {
    /// A user id.
    Uid(u32),
    /// A user name, looked up when the gateway starts.
    Name(String),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "{uid}"),
            Self::Name(name) => write!(f, "`{}`", name.escape_debug()),
        }
    }
}

/// Who may import images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportUsers {
    /// Everybody: `all`, an empty list, or nothing said.
    All,
    /// Nobody: `none`.
    Nobody,
    /// These users, and admins.
    Listed(Vec<Account>),
}

pub(super) fn import_users<'de, D: Deserializer<'de>>(source: D) -> Result<ImportUsers, D::Error> {
    let list = OneOrMany::<Account>::deserialize(source)?.into_list();
    Ok(match list.as_slice() {
        [] => ImportUsers::All,
        [Account::Name(word)] if word == "all" => ImportUsers::All,
        [Account::Name(word)] if word.eq_ignore_ascii_case("none") => ImportUsers::Nobody,
        _ => ImportUsers::Listed(list),
    })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_list(self) -> Vec<T> {
        match self {
            Self::One(value) => vec![value],
            Self::Many(values) => values,
        }
    }
}

pub(super) fn accounts<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<Account>, D::Error> {
    let list = OneOrMany::<Account>::deserialize(source)?.into_list();
    Ok(list.into_iter().filter(|account| *account != Account::Name(String::new())).collect())
}

pub(super) fn addresses<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<SocketAddr>, D::Error> {
    let list = OneOrMany::<String>::deserialize(source)?.into_list();
    if list.is_empty() {
        return Err(D::Error::custom("Listen names no address"));
    }
    list.into_iter()
        .map(|text| {
            text.parse().map_err(|_| {
                D::Error::custom(format!("Listen has `{text}`, which is not address:port"))
            })
        })
        .collect()
}

/// Shifter takes numbers as text too.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Text(String),
}

fn number<'de, D: Deserializer<'de>>(source: D) -> Result<u64, D::Error> {
    match Number::deserialize(source)? {
        Number::Plain(value) => Ok(value),
        Number::Text(text) => text
            .trim()
            .parse()
            .map_err(|_| D::Error::custom(format!("`{text}` is not a whole number"))),
    }
}

pub(super) fn positive<'de, D: Deserializer<'de>>(source: D) -> Result<usize, D::Error> {
    match usize::try_from(number(source)?) {
        Ok(value @ 1..=1024) => Ok(value),
        _ => Err(D::Error::custom("WorkerThreads is a number from 1 to 1024")),
    }
}

pub(super) fn seconds<'de, D: Deserializer<'de>>(source: D) -> Result<Duration, D::Error> {
    number(source).map(Duration::from_secs)
}

pub(super) fn platform<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Platform>, D::Error> {
    let text = String::deserialize(source)?;
    text.parse().map(Some).map_err(|why| D::Error::custom(format!("Platform has `{text}`: {why}")))
}

pub(super) fn default_listen() -> Vec<SocketAddr> {
    vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000)]
}

/// Where `cargo xtask install` puts the converter.
pub(super) fn default_converter() -> PathBuf {
    "/usr/libexec/gantry/gantry-convert".into()
}

pub(super) fn default_store() -> PathBuf {
    PathBuf::from("/var/lib/gantry/store.sqlite")
}

pub(super) const fn default_workers() -> usize {
    4
}

pub(super) const fn default_update() -> Duration {
    Duration::from_secs(300)
}

pub(super) const fn everybody() -> ImportUsers {
    ImportUsers::All
}

pub(super) const fn yes() -> bool {
    true
}
