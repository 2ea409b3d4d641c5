//! Mount points: where they are in an image, and a root of tmpfs directories where some are missing.
//!
//! The image is read-only and overlayfs is slow to read through, so a missing mount point is made like this: every
//! directory above it becomes a tmpfs directory whose other entries are bound or copied (links). The planner is
//! pure; it never sees a host path.
#![forbid(unsafe_code)]

use crate::error::{Error, Shown, cannot};
use crate::mounts::{self, EntryKind, Kind};
use crate::sys::{self, Errno, Fd, c_path};
use alloc::collections::BTreeSet;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// Where a mount point is, once the links on the way are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path within the image, without links.
    pub path: String,
    /// What is there; `None` where it is missing.
    pub found: Option<Kind>,
}

/// Finds `target` in the image. The kernel resolves it, in the image as root: no link leads out.
///
/// # Errors
/// Where something on the way is not a directory, or a name is not UTF-8.
pub fn locate(image: &Fd, target: &str) -> Result<Place, Errno> {
    let mut known = target;
    loop {
        match sys::open(Some(image), &c_path(known)?, libc::O_PATH, 0, IN_IMAGE) {
            Ok(fd) => {
                let stat = sys::stat(&fd)?;
                let directory = stat.mode & libc::S_IFMT == libc::S_IFDIR;
                let path = path_of(&fd)?;
                let rest = target.get(known.len()..).unwrap_or_default().trim_start_matches('/');
                return match (rest.is_empty(), directory) {
                    (true, true) => Ok(Place { path, found: Some(Kind::Directory) }),
                    (true, false) => Ok(Place { path, found: Some(Kind::File) }),
                    (false, true) => Ok(Place { path: join(&path, rest), found: None }),
                    (false, false) => Err(Errno(libc::ENOTDIR)),
                };
            }
            Err(Errno(libc::ENOENT)) if known.len() > 1 => known = parent(known),
            Err(errno) => return Err(errno),
        }
    }
}

/// The path that the kernel has for an open descriptor of a detached mount: relative to that mount's root.
fn path_of(fd: &Fd) -> Result<String, Errno> {
    let mut buffer = [0; 4096];
    let link = c_path(format!("/proc/self/fd/{}", fd.number()))?;
    let length = sys::read_link(None, &link, &mut buffer)?;
    let path = buffer.get(..length).and_then(|bytes| core::str::from_utf8(bytes).ok());
    path.filter(|path| path.starts_with('/')).map(String::from).ok_or(Errno(libc::EILSEQ))
}

/// One step of making the skeleton, with a path in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Makes a directory with this mode.
    Directory(String, u32),
    /// Makes an empty file.
    File(String),
    /// Copies a symbolic link.
    Link(String),
    /// Makes a mount point of this kind and binds the image's entry of the same path there.
    Bind(String, Kind),
}

/// What the planner asks about the image.
pub trait Tree {
    /// The entries of a directory.
    ///
    /// # Errors
    /// The kernel's.
    fn entries(&self, directory: &str) -> Result<Vec<(String, EntryKind)>, Errno>;
    /// The mode of a directory.
    ///
    /// # Errors
    /// The kernel's.
    fn mode(&self, directory: &str) -> Result<u32, Errno>;
}

/// Plans a skeleton that has every one of `places`; no action where the image has them all.
///
/// # Errors
/// Where a directory has more entries than can be bound in reasonable time, or two places exclude each other.
pub fn plan(places: &[(Place, Kind)], tree: &dyn Tree) -> Result<Vec<Action>, TargetError> {
    let missing = || places.iter().filter(|(place, _)| place.found.is_none());
    if missing().next().is_none() {
        return Ok(Vec::new());
    }
    let mut directories = BTreeSet::from([String::from("/")]);
    for (place, _) in missing() {
        let mut above = parent(&place.path);
        while above != "/" {
            directories.insert(above.into());
            above = parent(above);
        }
    }
    let mut planner = Planner { places, directories, actions: Vec::new(), tree };
    planner.copy("/")?;
    let copied: BTreeSet<String> = planner
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Directory(path, _) => Some(path.clone()),
            _ => None,
        })
        .collect();
    let directories = core::mem::take(&mut planner.directories);
    // In order of paths, so what is above comes first.
    for path in directories.into_iter().filter(|path| path != "/" && !copied.contains(path)) {
        planner.actions.push(Action::Directory(path, 0o755));
    }
    for (place, kind) in missing() {
        planner.make(&place.path, *kind)?;
    }
    if planner.actions.len() > ENTRY_LIMIT {
        let target = missing().next().map(|(place, _)| place.path.clone()).unwrap_or_default();
        return Err(TargetError { target, problem: Problem::TooManyEntries });
    }
    Ok(planner.actions)
}

struct Planner<'a> {
    places: &'a [(Place, Kind)],
    directories: BTreeSet<String>,
    actions: Vec<Action>,
    tree: &'a dyn Tree,
}

impl Planner<'_> {
    /// Copies one directory of the image that lies above a missing place.
    fn copy(&mut self, directory: &str) -> Result<(), TargetError> {
        let fail = |errno| TargetError { target: directory.into(), problem: Problem::Errno(errno) };
        let entries = self.tree.entries(directory).map_err(fail)?;
        if self.actions.len() + entries.len() > ENTRY_LIMIT {
            return Err(TargetError { target: directory.into(), problem: Problem::TooManyEntries });
        }
        for (name, kind) in entries {
            let path = join(directory, &name);
            let place = self.places.iter().find(|(place, _)| place.path == path);
            match kind {
                // A link that leads nowhere stood where a place is to be made.
                EntryKind::Link if self.directories.contains(&path) || place.is_some() => {}
                EntryKind::Link => self.actions.push(Action::Link(path)),
                EntryKind::Directory if self.directories.contains(&path) => {
                    let mode = self.tree.mode(&path).map_err(fail)?;
                    self.actions.push(Action::Directory(path.clone(), mode & 0o7777));
                    self.copy(&path)?;
                }
                // What is going to be covered needs no binding.
                EntryKind::Directory if place.is_some() => {
                    self.actions.push(Action::Directory(path, 0o755))
                }
                EntryKind::File if place.is_some() => self.actions.push(Action::File(path)),
                EntryKind::Directory => self.actions.push(Action::Bind(path, Kind::Directory)),
                EntryKind::File => self.actions.push(Action::Bind(path, Kind::File)),
                EntryKind::Other => {}
            }
        }
        Ok(())
    }

    fn make(&mut self, path: &str, kind: Kind) -> Result<(), TargetError> {
        let there = self.actions.iter().any(|action| match action {
            Action::Directory(other, _) | Action::File(other) => other == path,
            _ => false,
        });
        match (there, kind) {
            (false, Kind::Directory) => self.actions.push(Action::Directory(path.into(), 0o755)),
            (false, Kind::File) => self.actions.push(Action::File(path.into())),
            // Another place lies below this one, which made it a directory.
            (true, Kind::Directory) => {}
            (true, Kind::File) => {
                return Err(TargetError {
                    target: path.into(),
                    problem: Problem::WrongKind(Kind::File),
                });
            }
        }
        Ok(())
    }
}

/// Carries out a plan in `root`, an empty tmpfs that is attached. The caller holds root's file identity.
///
/// # Errors
/// The kernel's.
pub fn build(root: &Fd, image: &Fd, actions: &[Action]) -> Result<(), Error> {
    for action in actions {
        let (Action::Directory(path, _)
        | Action::File(path)
        | Action::Link(path)
        | Action::Bind(path, _)) = action;
        perform(root, image, action)
            .map_err(cannot(format!("make the mount point {}", Shown(path.as_bytes()))))?;
    }
    Ok(())
}

fn perform(root: &Fd, image: &Fd, action: &Action) -> Result<(), Errno> {
    match action {
        Action::Directory(path, mode) => sys::make_directory(Some(root), &relative(path)?, *mode),
        Action::File(path) => make_file(root, path),
        Action::Link(path) => {
            let path = relative(path)?;
            let mut buffer = [0; 4096];
            let length = sys::read_link(Some(image), &path, &mut buffer)?;
            let target = buffer.get(..length).and_then(|bytes| CString::new(bytes).ok());
            sys::make_link(&target.ok_or(Errno(libc::EILSEQ))?, root, &path)
        }
        Action::Bind(path, kind) => {
            match kind {
                Kind::Directory => sys::make_directory(Some(root), &relative(path)?, 0o755)?,
                Kind::File => make_file(root, path)?,
            }
            let path = relative(path)?;
            let tree = sys::clone_tree(Some(image), &path, libc::AT_SYMLINK_NOFOLLOW)?;
            sys::move_mount(&tree, &sys::open(Some(root), &path, libc::O_PATH, 0, PLAIN)?)
        }
    }
}

fn make_file(root: &Fd, path: &str) -> Result<(), Errno> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    sys::open(Some(root), &relative(path)?, flags, 0o644, PLAIN).map(drop)
}

impl Tree for Fd {
    fn entries(&self, directory: &str) -> Result<Vec<(String, EntryKind)>, Errno> {
        mounts::read_directory(Some(self), &c_path(directory)?, libc::RESOLVE_IN_ROOT)
    }

    fn mode(&self, directory: &str) -> Result<u32, Errno> {
        let fd = sys::open(Some(self), &c_path(directory)?, libc::O_PATH, 0, PLAIN | IN_IMAGE)?;
        Ok(sys::stat(&fd)?.mode)
    }
}

fn relative(path: &str) -> Result<CString, Errno> {
    c_path(path.trim_start_matches('/'))
}

fn join(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.trim_end_matches('/'))
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((above, _)) => above,
    }
}

/// Links are followed, in the image as root; magic ones, such as those of /proc, are not.
const IN_IMAGE: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
/// No links at all.
const PLAIN: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS;
/// At about 10 microseconds each, more would be felt; the tmpfs has room for twice as many.
const ENTRY_LIMIT: usize = 512;

/// A mount point that cannot be had: which and why.
#[derive(Debug, PartialEq, Eq)]
pub struct TargetError {
    /// The path inside.
    pub target: String,
    /// Why.
    pub problem: Problem,
}

/// Why a mount point cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub enum Problem {
    /// The kernel says so.
    Errno(Errno),
    /// The image has this there, the source is the other.
    WrongKind(Kind),
    /// Nobody mounts there.
    Forbidden(udiroot_conf::volume::Reason),
    /// The image has a link there that leads to this path.
    Redirected(String),
    /// Another mount is there or above.
    WithinMount,
    /// A mount that was asked for earlier lies below.
    HidesMount,
    /// A directory on the way has more entries than can be bound.
    TooManyEntries,
}

impl TargetError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self.problem {
            Problem::TooManyEntries => {
                Some("choose a target whose directory exists in the image or is small")
            }
            Problem::WithinMount | Problem::HidesMount => {
                Some("choose a target that is in the image or in no other mount")
            }
            Problem::WrongKind(_) => Some("directories are bound on directories, files on files"),
            _ => None,
        }
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot mount on {} in the image: ", Shown(self.target.as_bytes()))?;
        match &self.problem {
            Problem::Errno(errno) => errno.fmt(f),
            Problem::WrongKind(Kind::Directory) => {
                f.write_str("it is a directory there and the source is a file")
            }
            Problem::WrongKind(Kind::File) => {
                f.write_str("it is a file there and the source is a directory")
            }
            Problem::Forbidden(reason) => f.write_str(&reason.to_string()),
            Problem::Redirected(path) => {
                write!(f, "it is a link to {} there", Shown(path.as_bytes()))
            }
            Problem::WithinMount => f.write_str("it lies within another mount"),
            Problem::HidesMount => f.write_str("it would hide a mount below it"),
            Problem::TooManyEntries => {
                write!(f, "a directory above has more than {ENTRY_LIMIT} entries")
            }
        }
    }
}

#[cfg(test)]
mod tests;
