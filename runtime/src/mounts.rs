//! Mounts by descriptor: made detached, given their flags, then moved to where they are seen.
//!
//! Flags are only ever added (`mount_setattr` with nothing to clear): what the host mounted `ro` or `noexec` stays
//! so, submounts included. No path is looked up twice.
#![forbid(unsafe_code)]

use crate::caller::Caller;
use crate::error::{Error, cannot};
use crate::image::Image;
use crate::loop_device;
use crate::privileges::FileIdentity;
use crate::sys::{self, Errno, Fd};
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;

/// Whether something is a directory or a file: source and target of a bind must be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// Mounts an image read-only, detached: on the loop device that it has on this node, or on a new one.
///
/// A second mount of the same device shares the first one's superblock, page cache and directory cache.
///
/// # Errors
/// The kernel's.
pub fn mount_image(caller: &Caller, image: &Image) -> Result<Fd, Error> {
    let _identity = FileIdentity::assume(caller, 0)?;
    let device = loop_device::ensure(image)?;
    // Without `ro` a superblock that is shared would differ in it, which is EBUSY.
    let settings = [(c"source", Some(&*device.path())), (c"ro", None)];
    let mount = make(c"squashfs", &settings, READ_ONLY | NO_SUID | NO_DEV)
        .map_err(cannot("mount the image's squashfs file system"))?;
    device.verify(image)?;
    Ok(mount)
}

/// Makes a small empty tmpfs, detached.
///
/// # Errors
/// The kernel's.
pub fn make_tmpfs() -> Result<Fd, Error> {
    let settings =
        [(c"mode", Some(c"0755")), (c"size", Some(c"1m")), (c"nr_inodes", Some(c"1024"))];
    make(c"tmpfs", &settings, NO_SUID | NO_DEV).map_err(cannot("make a tmpfs"))
}

fn make(kind: &CStr, settings: &[(&CStr, Option<&CStr>)], attributes: u64) -> Result<Fd, Errno> {
    let fs = sys::fs_open(kind)?;
    for (key, value) in settings {
        sys::fs_set(&fs, key, *value)?;
    }
    sys::fs_create(&fs)?;
    sys::fs_mount(&fs, attributes)
}

/// Opens what shall be bound, without reading it, following links but no magic ones.
///
/// Whether it is a directory is learned from the way it opens: FUSE refuses to answer `fstat` to another user than
/// its own, and O_DIRECTORY makes autofs mount what is there.
///
/// # Errors
/// The kernel's, as the user whose credentials are in effect.
pub fn open_source(path: &CStr) -> Result<(Fd, Kind), Errno> {
    let open = |flags| sys::open(None, path, libc::O_PATH | flags, 0, libc::RESOLVE_NO_MAGICLINKS);
    match open(libc::O_DIRECTORY) {
        Ok(fd) => Ok((fd, Kind::Directory)),
        Err(Errno(libc::ENOTDIR)) => Ok((open(0)?, Kind::File)),
        Err(errno) => Err(errno),
    }
}

/// Clones what `source` is open on, with every mount below it, and adds `attributes` to all of them.
///
/// # Errors
/// The kernel's.
pub fn clone_with(source: &Fd, attributes: u64, propagation: u64) -> Result<Fd, Errno> {
    let below = libc::AT_RECURSIVE | libc::AT_EMPTY_PATH;
    let tree = sys::clone_tree(Some(source), c"", below)?;
    sys::add_attributes(Some(&tree), c"", below, attributes, propagation)?;
    Ok(tree)
}

/// Adds attributes to one mount.
///
/// # Errors
/// The kernel's.
pub fn add(mount: &Fd, attributes: u64) -> Result<(), Errno> {
    sys::add_attributes(Some(mount), c"", libc::AT_EMPTY_PATH, attributes, 0)
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A regular file.
    File,
    /// A device, pipe, socket, or what the file system does not tell.
    Other,
}

/// Lists a directory below `root`, or at a path of the host's.
///
/// # Errors
/// The kernel's; EILSEQ for a name that is not UTF-8.
pub fn read_directory(
    root: Option<&Fd>,
    path: &CStr,
    resolve: u64,
) -> Result<Vec<(String, EntryKind)>, Errno> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let resolve = resolve | libc::RESOLVE_NO_SYMLINKS;
    let directory = sys::open(root, path, flags, 0, resolve)?;
    let mut entries = Vec::new();
    let mut buffer = alloc::vec![0; 16 << 10];
    loop {
        let length = sys::read_directory(&directory, &mut buffer)?;
        let Some(mut rest) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return Ok(entries);
        };
        while let Some((name, kind, behind)) = next_entry(rest) {
            if name != b"." && name != b".." {
                let name = core::str::from_utf8(name).map_err(|_| Errno(libc::EILSEQ))?;
                entries.push((name.into(), kind));
            }
            rest = behind;
        }
    }
}

/// Takes one `struct linux_dirent64` off the front: inode (8), offset (8), length (2), type (1), name.
fn next_entry(bytes: &[u8]) -> Option<(&[u8], EntryKind, &[u8])> {
    let length: [u8; 2] = bytes.get(16..18)?.try_into().ok()?;
    let (entry, behind) = bytes.split_at_checked(u16::from_ne_bytes(length).into())?;
    let kind = match *entry.get(18)? {
        libc::DT_DIR => EntryKind::Directory,
        libc::DT_LNK => EntryKind::Link,
        libc::DT_REG => EntryKind::File,
        _ => EntryKind::Other,
    };
    let name = entry.get(19..)?;
    let end = name.iter().position(|&byte| byte == 0)?;
    Some((name.get(..end)?, kind, behind))
}

/// MOUNT_ATTR_RDONLY, NOSUID, NODEV and NOEXEC of linux/mount.h.
pub const READ_ONLY: u64 = 1;
/// See [`READ_ONLY`].
pub const NO_SUID: u64 = 2;
/// See [`READ_ONLY`].
pub const NO_DEV: u64 = 4;
/// See [`READ_ONLY`].
pub const NO_EXEC: u64 = 8;
