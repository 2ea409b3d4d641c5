//! The user's registry logins, as `docker login`, `podman login` and `skopeo login` leave them.
//!
//! Of all entries only the one that fits the registry is ever handed on, and only after the gateway has said which
//! registry it means: a name without one means the site's choice, which is not known here. A file that cannot be read or understood
//! costs a note, not the pull: most images are public. Credential helpers are programs; none is run.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image_ref::ImageRef;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::client::Logins;

/// What Docker Hub's entries are looked up as, whichever of its names they have.
const DOCKER_HUB: &str = "docker.io";

/// No file of logins is larger.
const FILE_LIMIT: u64 = 1 << 20;

/// What was found for one reference.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The one login that fits, if any: the first of the registry's names to `user:password`.
    pub logins: Logins,
    /// What could not be used, in sentences.
    pub notes: Vec<String>,
}

/// Shows for which registry there is a login, never the login.
impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found")
            .field("logins", &self.logins.keys())
            .field("notes", &self.notes)
            .finish()
    }
}

/// Looks in the files of the calling user for the login to the registry of `reference`, which has these names: the
/// gateway's own for it first, then those that people log in to.
pub fn find(reference: &ImageRef, names: &[String]) -> Found {
    find_in(&files(|name| env::var_os(name)), reference, names)
}

/// Where logins may lie, in the order of containers-auth.json(5), docker's own file last.
fn files(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let directory = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = directory("HOME");
    [
        directory("REGISTRY_AUTH_FILE"),
        directory("XDG_RUNTIME_DIR").map(|path| path.join("containers/auth.json")),
        home.as_ref().map(|path| path.join(".config/containers/auth.json")),
        directory("DOCKER_CONFIG")
            .or(home.map(|path| path.join(".docker")))
            .map(|path| path.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn find_in(files: &[PathBuf], reference: &ImageRef, names: &[String]) -> Found {
    let mut found = Found::default();
    let Some(registry) = names.first() else { return found };
    let repository = repository(reference, names);
    for path in files {
        let auths = match load(path) {
            Ok(auths) => auths,
            Err(LoginError::Read(error)) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                found.notes.push(format!("{} is not used: {error}", path.display()));
                continue;
            }
        };
        for name in names {
            match pick(&auths, name, repository) {
                Some(Ok(login)) => {
                    found.logins.insert(registry.clone(), login);
                    return found;
                }
                Some(Err(why)) => found.notes.push(format!(
                    "the login for {name} in {} cannot be used: {why}",
                    path.display()
                )),
                None => {}
            }
        }
    }
    found
}

/// The repository within the registry: what follows a name of the registry, a host, or everything.
fn repository<'a>(reference: &'a ImageRef, names: &[String]) -> &'a str {
    match reference.name().split_once('/') {
        Some((first, rest)) if names.iter().any(|name| name == first) => rest,
        _ => reference.repository(),
    }
}

/// Why a file of logins is not used.
#[derive(Debug, thiserror::Error)]
enum LoginError {
    #[error("{0}")]
    Read(io::Error),
    #[error("it is not a plain file")]
    NotAFile,
    #[error("it exceeds {FILE_LIMIT} bytes")]
    TooLarge,
    #[error("it is not JSON with an object `auths`")]
    Malformed,
}

#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

fn load(path: &Path) -> Result<BTreeMap<String, Entry>, LoginError> {
    // Looked at before it is opened: opening a FIFO would wait for a writer.
    if !std::fs::metadata(path).map_err(LoginError::Read)?.is_file() {
        return Err(LoginError::NotAFile);
    }
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut text))
        .map_err(LoginError::Read)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(LoginError::TooLarge);
    }
    serde_json::from_slice(&text)
        .map(|file: AuthFile| file.auths)
        .map_err(|_| LoginError::Malformed)
}

/// The entry whose key fits best: the longest leading part of `registry/repository`, down to the registry alone.
fn pick(
    auths: &BTreeMap<String, Entry>,
    registry: &str,
    repository: &str,
) -> Option<Result<String, &'static str>> {
    let full = format!("{}/{repository}", normalise(registry));
    auths
        .iter()
        .map(|(key, entry)| (normalise(key), entry))
        .filter(|(key, _)| {
            full.strip_prefix(key.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
        .max_by_key(|(key, _)| key.len())
        .map(|(_, entry)| user_and_password(entry))
}

/// Docker writes keys as URLs, and its hub as `https://index.docker.io/v1/`.
fn normalise(key: &str) -> String {
    let key = key.strip_prefix("https://").or(key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or(key.strip_suffix("/v2")).unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_string(),
        _ => key.to_string(),
    }
}

fn user_and_password(entry: &Entry) -> Result<String, &'static str> {
    let auth = entry.auth.as_ref().filter(|auth| !auth.is_empty());
    let login = match (auth, &entry.username, &entry.password) {
        (Some(auth), ..) => {
            let bytes = BASE64_STANDARD.decode(auth.trim()).map_err(|_| "it is not base64")?;
            String::from_utf8(bytes).map_err(|_| "it is not UTF-8")?
        }
        (None, Some(user), Some(password)) => format!("{user}:{password}"),
        _ => return Err("it holds no password (credential helpers and tokens are not read)"),
    };
    // Docker pads some entries with NUL bytes.
    let login = login.trim_end_matches('\0');
    match login.split_once(':') {
        Some(("", _)) => Err("the user name is empty"),
        Some(_) if login.contains(char::is_control) => Err("it has control characters"),
        Some(_) => Ok(login.to_string()),
        None => Err("there is no `:` between user and password"),
    }
}

#[cfg(test)]
mod tests;
