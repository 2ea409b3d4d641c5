//! Opens what decides: every directory on the way and the file itself must belong to whom it should.
//!
//! Walks by descriptor, follows no link, and checks what is open, not what a path named (CVE-2025-23395 and many
//! like it). The checks cannot be configured away.
#![forbid(unsafe_code)]

use crate::error::Shown;
use crate::sys::{self, Errno, Fd, Stat, c_path};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Opens the directory at the absolute `path`: it and every one above belongs to one of `owners`, and nobody
/// else can write to it.
///
/// # Errors
/// The first directory on the way that is not so.
pub fn open_directory(path: &str, owners: &[u32]) -> Result<Fd, TrustError> {
    let mut walked = String::from("/");
    let mut fd = open_checked(None, "/", &walked, DIRECTORY, owners)?.0;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        walked = format!("{}/{part}", walked.trim_end_matches('/'));
        fd = open_checked(Some(&fd), part, &walked, DIRECTORY, owners)?.0;
    }
    Ok(fd)
}

/// Says whose the directory at the absolute `path` is.
///
/// # Errors
/// Where it cannot be opened, or a symbolic link is on the way.
pub fn owner_of(path: &str) -> Result<u32, TrustError> {
    open(None, path, path, DIRECTORY).map(|(_, stat)| stat.uid)
}

/// Opens the regular file `name` in `directory` for reading; it belongs to `owner` and nobody else can write it.
///
/// `path` is the directory's, for messages. Never waits, whatever the file is.
///
/// # Errors
/// Where it cannot be opened or is not so.
pub fn open_file(
    directory: &Fd,
    path: &str,
    name: &str,
    owner: u32,
) -> Result<(Fd, Stat), TrustError> {
    let path = format!("{}/{name}", path.trim_end_matches('/'));
    let flags = libc::O_RDONLY | libc::O_NONBLOCK;
    open_checked(Some(directory), name, &path, flags, &[owner])
}

fn open_checked(
    above: Option<&Fd>,
    name: &str,
    path: &str,
    flags: i32,
    owners: &[u32],
) -> Result<(Fd, Stat), TrustError> {
    let (fd, stat) = open(above, name, path, flags)?;
    let problem = if flags & libc::O_DIRECTORY == 0 && stat.mode & libc::S_IFMT != libc::S_IFREG {
        Problem::NotAFile
    } else if !owners.contains(&stat.uid) {
        Problem::Owner { found: stat.uid, wanted: owners.last().copied().unwrap_or_default() }
    } else if stat.mode & 0o022 != 0 {
        Problem::Writable(stat.mode & 0o7777)
    } else {
        return Ok((fd, stat));
    };
    Err(TrustError { path: path.into(), problem })
}

fn open(above: Option<&Fd>, name: &str, path: &str, flags: i32) -> Result<(Fd, Stat), TrustError> {
    let resolve = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    let beneath = if above.is_some() { libc::RESOLVE_BENEATH } else { 0 };
    c_path(name)
        .and_then(|name| sys::open(above, &name, flags | libc::O_NOFOLLOW, 0, resolve | beneath))
        .and_then(|fd| sys::stat(&fd).map(|stat| (fd, stat)))
        .map_err(|errno| TrustError { path: path.into(), problem: Problem::Open(errno) })
}

const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

/// Reads an open file whole.
///
/// # Errors
/// The kernel's; EFBIG beyond `limit` bytes.
pub fn read_whole(fd: &Fd, limit: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = sys::read(fd, &mut buffer)?;
        if count == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if bytes.len() > limit {
            return Err(Errno(libc::EFBIG));
        }
    }
}

/// What is not to be trusted, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct TrustError {
    /// The path walked so far.
    pub path: String,
    /// What is wrong with what is there.
    pub problem: Problem,
}

/// Why a file or directory is not to be trusted.
#[derive(Debug, PartialEq, Eq)]
pub enum Problem {
    /// It cannot be opened.
    Open(Errno),
    /// It belongs to somebody else.
    Owner {
        /// Whose it is.
        found: u32,
        /// Whose it should be.
        wanted: u32,
    },
    /// Its group or everybody can write it.
    Writable(u32),
    /// It is a directory, a pipe or a device.
    NotAFile,
}

impl TrustError {
    /// Whether it is simply not there.
    pub fn is_missing(&self) -> bool {
        self.problem == Problem::Open(Errno(libc::ENOENT))
    }

    /// What an administrator can do.
    pub fn hint(&self) -> Option<String> {
        let path = Shown(self.path.as_bytes());
        let text = match &self.problem {
            Problem::Open(Errno(libc::ENOSYS)) => return Some(crate::error::KERNEL_HINT.into()),
            Problem::Open(Errno(libc::ELOOP)) => {
                return Some(format!(
                    "symbolic links are not followed here; an administrator writes the real path of {path}"
                ));
            }
            Problem::Owner { wanted, .. } => format!("chown {wanted} {path}"),
            Problem::Writable(_) => format!("chmod go-w {path}"),
            Problem::Open(_) | Problem::NotAFile => return None,
        };
        Some(format!("an administrator corrects it with `{text}`"))
    }
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = Shown(self.path.as_bytes());
        match &self.problem {
            Problem::Open(errno) => write!(f, "cannot open {path}: {errno}"),
            Problem::Owner { found, wanted } => {
                write!(f, "{path} is not trusted: it belongs to uid {found}, not to uid {wanted}")
            }
            Problem::Writable(mode) => {
                let others = "others than its owner can write it";
                write!(f, "{path} is not trusted: {others} (mode {mode:04o})")
            }
            Problem::NotAFile => write!(f, "{path} is not trusted: it is not a regular file"),
        }
    }
}
