//! From edits to what the set-user-id program is asked for: volumes of the user's own and environment variables.

use super::document::{DeviceNode, Edits, Mount, brief};
use super::hooks::{self, Meaning};
use super::links;
use super::shelves::Shelves;
use nix::unistd::{AccessFlags, access};
use std::fmt;
use std::path::Path;
use udiroot_conf::volume::{Origin, Volume};

/// What the devices add to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::gantry) struct Injection {
    /// `NAME=VALUE`.
    pub(in crate::gantry) env: Vec<String>,
    /// In their canonical text.
    pub(in crate::gantry) volumes: Vec<String>,
    /// To be in front in LD_LIBRARY_PATH.
    pub(in crate::gantry) library_directories: Vec<String>,
    /// To be last in PATH.
    pub(in crate::gantry) program_directory: Option<String>,
    /// What of the files is left out.
    pub(in crate::gantry) notes: Vec<String>,
}

/// A file or directory of the host and where a CDI file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) host: String,
    pub(super) inside: String,
    pub(super) read_only: bool,
}

/// Makes of edits, in their order, what can be asked for.
///
/// # Errors
/// Where a device node or a file is not there for the caller.
pub(super) fn inject(edits: &[&Edits]) -> Result<Injection, InjectError> {
    let mut injection = Injection::default();
    let (mut binds, mut wanted_links, mut folders) = (Vec::new(), Vec::new(), Vec::new());
    for edits in edits {
        injection.env.extend(edits.env.iter().cloned());
        for node in &edits.device_nodes {
            injection.notes.extend(check_node(node)?);
        }
        for mount in &edits.mounts {
            match bind_of(mount)? {
                Ok(bind) => {
                    binds.retain(|other: &Bind| other.inside != bind.inside);
                    binds.push(bind);
                }
                Err(note) => injection.notes.push(note),
            }
        }
        for hook in &edits.hooks {
            match hooks::meaning(hook) {
                Meaning::Links(pairs) => wanted_links.extend(pairs),
                Meaning::Folders(paths) => folders.extend(paths),
                Meaning::Other(name) => {
                    injection.notes.push(format!("the hook `{}` is not run", brief(&name)));
                }
            }
        }
        if !edits.additional_gids.is_empty() {
            injection.notes.push("additionalGids are not given: groups are the caller's".into());
        }
    }
    let shelves = Shelves::new(folders);
    links::add_sonames(&mut binds, &shelves);
    for (target, link) in links::add_links(&mut binds, wanted_links) {
        let (target, link) = (brief(&target), brief(&link));
        injection.notes.push(format!("the link {link} is not made: {target} is not mounted"));
    }
    place(&binds, &shelves, &mut injection);
    Ok(injection)
}

/// Turns binds into volumes, with a note for each that a user cannot have.
fn place(binds: &[Bind], shelves: &Shelves, injection: &mut Injection) {
    let mut places = Vec::new();
    for Bind { host, inside, read_only } in binds {
        let place = shelves.place(inside);
        let ro = if *read_only { ":ro" } else { "" };
        let is_plain = ![host, inside].iter().any(|path| path.contains([':', ';', '"']));
        let volume = is_plain.then(|| Volume::parse(&format!("{host}:{place}{ro}"), Origin::User));
        match volume {
            Some(Ok(volume)) => {
                places.push(volume.target.clone());
                injection.volumes.push(volume.to_string());
            }
            Some(Err(error)) => {
                injection.notes.push(format!("{} is left out: {}", brief(inside), error.reason));
            }
            None => {
                let text = format!("{} is left out: a path has `:`, `;` or a quote", brief(inside));
                injection.notes.push(text);
            }
        }
    }
    injection.library_directories = shelves.library_directories(&places);
    injection.program_directory = Shelves::program_directory(&places);
}

/// The bind that a mount stands for, or why it is left out.
fn bind_of(mount: &Mount) -> Result<Result<Bind, String>, InjectError> {
    let Mount { host_path, container_path, options, kind } = mount;
    if let Some(kind) = kind.as_deref().filter(|kind| !matches!(*kind, "" | "bind" | "none")) {
        let (path, kind) = (brief(container_path), brief(kind));
        return Ok(Err(format!("{path} is left out: mounts of type `{kind}` are not made")));
    }
    let has = |word: &str| options.iter().any(|option| option == word);
    let (host, inside) = (host_path.clone(), container_path.clone());
    let bind = Bind { host, inside, read_only: has("ro") || !has("rw") };
    // A file that the user could not have anyway is not missed.
    if Volume::parse(&format!("/x:{container_path}"), Origin::User).is_ok()
        && let Err(errno) = access(Path::new(host_path), AccessFlags::F_OK)
    {
        return Err(InjectError::Missing { path: brief(host_path), errno });
    }
    Ok(Ok(bind))
}

/// Sees that the caller may use a device node; the host's /dev is inside as it is. A note where it cannot be as the
/// file says.
///
/// By its mode and owner only: what Slurm's cgroup allows shows when it is opened, and with a file's `all` the job
/// has not been granted every one of them.
fn check_node(node: &DeviceNode) -> Result<Option<String>, InjectError> {
    let DeviceNode { path, host_path, permissions } = node;
    let host = host_path.as_deref().filter(|path| !path.is_empty()).unwrap_or(path);
    let writes = permissions.as_deref().is_none_or(|it| it.is_empty() || it.contains('w'));
    let mode = if writes { AccessFlags::R_OK | AccessFlags::W_OK } else { AccessFlags::R_OK };
    access(Path::new(host), mode)
        .map_err(|errno| InjectError::Node { path: brief(host), errno })?;
    let is_there = host == path && path.starts_with("/dev/");
    let (path, host) = (brief(path), brief(host));
    Ok((!is_there).then(|| format!("the device node {host} does not appear as {path} inside")))
}

/// Why a device cannot be had on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InjectError {
    /// A device node is not there, or is not the caller's to use.
    Node { path: String, errno: nix::errno::Errno },
    /// A file to be bound is not there for the caller.
    Missing { path: String, errno: nix::errno::Errno },
}

impl fmt::Display for InjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { path, errno } => {
                write!(f, "cannot use the device node {path}: {}", errno.desc().to_lowercase())
            }
            Self::Missing { path, errno } => {
                write!(f, "cannot bind {path}: {}", errno.desc().to_lowercase())
            }
        }
    }
}
