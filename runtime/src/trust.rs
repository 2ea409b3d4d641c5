//! Opens what decides: every directory on the way and the file itself must belong to whom it should.
//!
//! Walks by descriptor, follows no link, and checks what is open, not what a path named (CVE-2025-23395 and many
//! like it). The checks cannot be configured away.
#![forbid(unsafe_code)]

use crate::error::Shown;
use crate::sys::{self, Errno, Fd, Stat};
use alloc::ffi::CString;
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
    let mut fd = checked_directory(None, c"/", "/", owners)?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if walked.len() > 1 {
            walked.push('/');
        }
        walked.push_str(part);
        fd = checked_directory(Some(&fd), &c_name(part, &walked)?, &walked, owners)?;
    }
    Ok(fd)
}

/// Says whose the directory at the absolute `path` is.
///
/// # Errors
/// Where it cannot be opened, or a symbolic link is on the way.
pub fn owner_of(path: &str) -> Result<u32, TrustError> {
    let fail = |errno| TrustError { path: path.into(), problem: Problem::Open(errno) };
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY;
    let fd = sys::open(None, &c_name(path, path)?, flags, 0, NO_LINKS).map_err(fail)?;
    sys::stat(&fd).map(|stat| stat.uid).map_err(fail)
}

fn checked_directory(
    above: Option<&Fd>,
    name: &core::ffi::CStr,
    path: &str,
    owners: &[u32],
) -> Result<Fd, TrustError> {
    let fail = |problem| TrustError { path: path.into(), problem };
    let beneath = if above.is_some() { libc::RESOLVE_BENEATH } else { 0 };
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY;
    let fd = sys::open(above, name, flags, 0, NO_LINKS | beneath)
        .map_err(|errno| fail(Problem::Open(errno)))?;
    let stat = sys::stat(&fd).map_err(|errno| fail(Problem::Open(errno)))?;
    check(&stat, owners).map_err(fail)?;
    Ok(fd)
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
    let fail = |problem| TrustError { path: path.clone(), problem };
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let fd = sys::open(
        Some(directory),
        &c_name(name, &path)?,
        flags,
        0,
        NO_LINKS | libc::RESOLVE_BENEATH,
    )
    .map_err(|errno| fail(Problem::Open(errno)))?;
    let stat = sys::stat(&fd).map_err(|errno| fail(Problem::Open(errno)))?;
    if stat.mode & libc::S_IFMT != libc::S_IFREG {
        return Err(fail(Problem::NotAFile));
    }
    check(&stat, &[owner]).map_err(fail)?;
    Ok((fd, stat))
}

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

fn check(stat: &Stat, owners: &[u32]) -> Result<(), Problem> {
    if !owners.contains(&stat.uid) {
        return Err(Problem::Owner { found: stat.uid, wanted: owners.to_vec() });
    }
    if stat.mode & 0o022 != 0 { Err(Problem::Writable(stat.mode & 0o7777)) } else { Ok(()) }
}

fn c_name(name: &str, path: &str) -> Result<CString, TrustError> {
    let problem = Problem::Open(Errno(libc::EINVAL));
    CString::new(name).map_err(|_| TrustError { path: path.into(), problem })
}

const NO_LINKS: u64 = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;

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
        /// Whose it may be.
        wanted: Vec<u32>,
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
        match &self.problem {
            Problem::Open(Errno(libc::ENOSYS)) => Some(crate::error::KERNEL_HINT.into()),
            Problem::Open(Errno(libc::ELOOP)) => Some(format!(
                "symbolic links are not followed here; an administrator writes the real path of {path}"
            )),
            Problem::Owner { wanted, .. } => {
                let owner = wanted.last().copied().unwrap_or_default();
                Some(format!("an administrator corrects it with `chown {owner} {path}`"))
            }
            Problem::Writable(_) => {
                Some(format!("an administrator corrects it with `chmod go-w {path}`"))
            }
            Problem::Open(_) | Problem::NotAFile => None,
        }
    }
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = Shown(self.path.as_bytes());
        match &self.problem {
            Problem::Open(errno) => write!(f, "cannot open {path}: {errno}"),
            Problem::Owner { found, wanted } => {
                let wanted = wanted.last().copied().unwrap_or_default();
                write!(f, "{path} is not trusted: it belongs to uid {found}, not to uid {wanted}")
            }
            Problem::Writable(mode) => {
                write!(
                    f,
                    "{path} is not trusted: others than its owner can write it (mode {mode:04o})"
                )
            }
            Problem::NotAFile => write!(f, "{path} is not trusted: it is not a regular file"),
        }
    }
}
