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
use alloc::string::String;
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
                let directory = sys::stat(&fd)?.mode & libc::S_IFMT == libc::S_IFDIR;
                let kind = if directory { Kind::Directory } else { Kind::File };
                let path = path_of(&fd)?;
                let rest = target.get(known.len()..).unwrap_or_default().trim_start_matches('/');
                return match kind {
                    _ if rest.is_empty() => Ok(Place { path, found: Some(kind) }),
                    Kind::Directory => Ok(Place { path: join(&path, rest), found: None }),
                    Kind::File => Err(Errno(libc::ENOTDIR)),
                };
            }
            Err(Errno(libc::ENOENT)) if known.len() > 1 => known = parent(known),
            Err(errno) => return Err(errno),
        }
    }
}

/// The path that the kernel has for an open descriptor of a detached mount: relative to that mount's root.
fn path_of(fd: &Fd) -> Result<String, Errno> {
    let bytes = sys::read_link(None, &c_path(format!("/proc/self/fd/{}", fd.number()))?)?;
    let path = String::from_utf8(bytes).ok();
    path.filter(|path| path.starts_with('/')).ok_or(Errno(libc::EILSEQ))
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
    let mut planner = Planner { places, directories: &directories, actions: Vec::new(), tree };
    planner.copy("/")?;
    // In order of paths, so what is above comes first.
    for path in directories.iter().filter(|path| *path != "/") {
        planner.make(path, Kind::Directory)?;
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
    directories: &'a BTreeSet<String>,
    actions: Vec<Action>,
    tree: &'a dyn Tree,
}

impl Planner<'_> {
    /// Copies one directory of the image that lies above a missing place.
    fn copy(&mut self, directory: &str) -> Result<(), TargetError> {
        let fail = |problem| TargetError { target: directory.into(), problem };
        let entries = self.tree.entries(directory).map_err(|errno| fail(Problem::Errno(errno)))?;
        if self.actions.len() + entries.len() > ENTRY_LIMIT {
            return Err(fail(Problem::TooManyEntries));
        }
        for (name, kind) in entries {
            let path = join(directory, &name);
            let is_above = self.directories.contains(&path);
            // What is going to be covered needs no binding.
            let is_place = self.places.iter().any(|(place, _)| place.path == path);
            let action = match kind {
                EntryKind::Other => continue,
                // A link that leads nowhere stood where a place is to be made.
                EntryKind::Link if is_above || is_place => continue,
                EntryKind::Link => Action::Link(path),
                EntryKind::Directory if is_above => {
                    let mode = self.tree.mode(&path);
                    let mode = mode.map_err(|errno| fail(Problem::Errno(errno)))?;
                    self.actions.push(Action::Directory(path.clone(), mode & 0o7777));
                    self.copy(&path)?;
                    continue;
                }
                EntryKind::Directory if is_place => Action::Directory(path, 0o755),
                EntryKind::Directory => Action::Bind(path, Kind::Directory),
                EntryKind::File if is_place => Action::File(path),
                EntryKind::File => Action::Bind(path, Kind::File),
            };
            self.actions.push(action);
        }
        Ok(())
    }

    /// Makes what is not there yet.
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
                let problem = Problem::WrongKind(Kind::File);
                return Err(TargetError { target: path.into(), problem });
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
        Action::File(path) => {
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
            sys::open(Some(root), &relative(path)?, flags, 0o644, PLAIN).map(drop)
        }
        Action::Link(path) => {
            let path = relative(path)?;
            sys::make_link(&c_path(sys::read_link(Some(image), &path)?)?, root, &path)
        }
        Action::Bind(path, kind) => {
            let point = match kind {
                Kind::Directory => Action::Directory(path.clone(), 0o755),
                Kind::File => Action::File(path.clone()),
            };
            perform(root, image, &point)?;
            let path = relative(path)?;
            let tree = sys::clone_tree(Some(image), &path, libc::AT_SYMLINK_NOFOLLOW)?;
            sys::move_mount(&tree, &sys::open(Some(root), &path, libc::O_PATH, 0, PLAIN)?)
        }
    }
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
        f.write_str(match &self.problem {
            Problem::Errno(errno) => return errno.fmt(f),
            Problem::Forbidden(reason) => return reason.fmt(f),
            Problem::Redirected(path) => {
                return write!(f, "it is a link to {} there", Shown(path.as_bytes()));
            }
            Problem::TooManyEntries => {
                return write!(f, "a directory above has more than {ENTRY_LIMIT} entries");
            }
            Problem::WrongKind(Kind::Directory) => {
                "it is a directory there and the source is a file"
            }
            Problem::WrongKind(Kind::File) => "it is a file there and the source is a directory",
            Problem::WithinMount => "it lies within another mount",
            Problem::HidesMount => "it would hide a mount below it",
        })
    }
}

#[cfg(test)]
mod tests;
