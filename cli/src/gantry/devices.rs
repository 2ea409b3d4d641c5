//! `--device`: GPUs and other devices by the specification files of CDI, the Container Device Interface.
//!
//! <https://github.com/cncf-tags/container-device-interface>, SPEC.md. All of it happens here, as the user: the
//! set-user-id program is told volumes and variables, as if the user had typed them, and no hook is ever run.

mod catalog;
mod document;
mod hooks;
mod inject;
mod links;
mod name;
mod shelves;

use crate::exit::{Exit, Failure};
use catalog::{Catalog, CatalogError};
use document::Edits;
use inject::{InjectError, Injection};
use name::DeviceName;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// Finds what the devices in `lists` need, in the directories that CDI names.
///
/// # Errors
/// Where a name is none, no file has the device, or it cannot be used on this host.
pub(super) fn find(lists: &[String]) -> Result<Injection, Failure> {
    let names =
        name::parse_lists(lists).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    if names.is_empty() {
        Ok(Injection::default())
    } else {
        find_in(&names, &DIRECTORIES.map(PathBuf::from))
    }
}

fn find_in(names: &[DeviceName], directories: &[PathBuf]) -> Result<Injection, Failure> {
    let catalog = Catalog::load(directories);
    let (mut files, mut edits, mut from): (Vec<&PathBuf>, Vec<&Edits>, _) =
        (vec![], vec![], vec![]);
    for name in names {
        let (file, device) = catalog.find(name).map_err(|error| unknown(&error))?;
        if !files.contains(&&file.path) {
            files.push(&file.path);
            edits.push(&file.document.container_edits);
        }
        edits.push(&device.container_edits);
        from.push(format!("the device {name} is that of {}", file.path.display()));
    }
    let mut injection = inject::inject(&edits).map_err(|error| unusable(names, &error))?;
    injection.notes.splice(..0, from.into_iter().chain(catalog.notes()));
    Ok(injection)
}

fn unknown(error: &CatalogError) -> Failure {
    let hint = match error {
        CatalogError::Unknown { known, .. } if known.is_empty() => {
            format!("there is none in {}; ask your site", DIRECTORIES.join(" and "))
        }
        CatalogError::Unknown { known, .. } => format!("there are {}", known.join(", ")),
        CatalogError::Twice { .. } | CatalogError::Broken { .. } => {
            "your site has to write the file anew".into()
        }
    };
    Failure::new(Exit::Other, error.to_string()).with_hint(hint)
}

fn unusable(names: &[DeviceName], error: &InjectError) -> Failure {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let hint = match error {
        InjectError::Node { .. } => {
            "the job may not have been granted the device: see --gpus and --gres of Slurm"
        }
        InjectError::Missing { .. } => {
            "the specification file is older than what is installed here: your site has to write it anew"
        }
    };
    Failure::new(Exit::Other, format!("--device={}: {error}", names.join(","))).with_hint(hint)
}

/// The environment with the directories of `injection` in LD_LIBRARY_PATH and PATH.
///
/// `env` is what the user and the devices set, of which a later one wins; `image` what the image sets, where that
/// may be read. Without it PATH stays as it is: a command that is not found is worse than one tool less.
pub(super) fn search_paths(
    injection: &Injection,
    env: &[OsString],
    image: Option<&[Vec<u8>]>,
) -> Vec<OsString> {
    let present = |name: &str| -> Option<OsString> {
        let own = env.iter().rev().find_map(|item| value_of(item.as_bytes(), name));
        let of_image = || image?.iter().rev().find_map(|item| value_of(item, name));
        own.or_else(of_image)
            .filter(|value| !value.is_empty())
            .map(OsStr::from_bytes)
            .map(Into::into)
    };
    let mut variables = Vec::new();
    if !injection.library_directories.is_empty() {
        let mut parts: Vec<OsString> =
            injection.library_directories.iter().map(OsString::from).collect();
        parts.extend(present("LD_LIBRARY_PATH"));
        variables.push(joined("LD_LIBRARY_PATH=", &parts));
    }
    if let (Some(directory), Some(path)) = (&injection.program_directory, present("PATH")) {
        variables.push(joined("PATH=", &[path, directory.into()]));
    }
    variables
}

fn value_of<'a>(item: &'a [u8], name: &str) -> Option<&'a [u8]> {
    item.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

fn joined(front: &str, parts: &[OsString]) -> OsString {
    let mut text = OsString::from(front);
    text.push(parts.join(OsStr::new(":")));
    text
}

/// Where the files are, the later directory counting more.
const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

#[cfg(test)]
mod tests;
