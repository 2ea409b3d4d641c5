//! Error numbers and their texts: strerror(3) without locales.
#![forbid(unsafe_code)]

use core::fmt;

/// An error number of the kernel's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ERRORS.iter().find(|(number, _)| *number == self.0) {
            Some((_, text)) => f.write_str(text),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

/// strerror(3) without locales.
const ERRORS: &[(i32, &str)] = &[
    (libc::EPERM, "operation not permitted"),
    (libc::ENOENT, "no such file or directory"),
    (libc::EIO, "input/output error"),
    (libc::ENXIO, "no such device or address"),
    (libc::E2BIG, "argument list too long"),
    (libc::ENOEXEC, "exec format error"),
    (libc::EBADF, "bad file descriptor"),
    (libc::EAGAIN, "resource temporarily unavailable"),
    (libc::ENOMEM, "out of memory"),
    (libc::EACCES, "permission denied"),
    (libc::EBUSY, "device or resource busy"),
    (libc::EEXIST, "file exists"),
    (libc::EXDEV, "it is on another file system"),
    (libc::ENODEV, "the kernel does not support it"),
    (libc::ENOTDIR, "not a directory"),
    (libc::EISDIR, "is a directory"),
    (libc::EINVAL, "invalid argument"),
    (libc::ENFILE, "too many open files on this node"),
    (libc::EMFILE, "too many open files"),
    (libc::ETXTBSY, "text file busy"),
    (libc::EFBIG, "file too large"),
    (libc::ENOSPC, "no space left on device"),
    (libc::EROFS, "read-only file system"),
    (libc::EMLINK, "too many links"),
    (libc::ENAMETOOLONG, "file name too long"),
    (libc::ENOSYS, "the kernel has no such call"),
    (libc::ELOOP, "too many levels of symbolic links, or a link where none is allowed"),
    (libc::EILSEQ, "a file name is not UTF-8"),
    (libc::ENOTCONN, "transport endpoint is not connected"),
    (libc::ETIMEDOUT, "timed out"),
    (libc::ESTALE, "stale file handle"),
];
