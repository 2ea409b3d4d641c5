//! The system calls that this program makes, behind safe functions: all of its `unsafe`.
//!
//! libc gives numbers, constants and `syscall(2)`; kernel structures are declared here, because this is built
//! against musl with a toolchain for glibc. Decides nothing.
#![allow(unsafe_code)]

mod mounts;
mod process;

pub use self::mounts::*;
pub use self::process::*;
pub use crate::errno::Errno;
use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::{CStr, c_long};
use core::mem;

/// A descriptor of ours, closed when dropped.
#[derive(Debug)]
pub struct Fd(i32);

impl Fd {
    /// The number, for the kernel's text interfaces.
    pub fn number(&self) -> i32 {
        self.0
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        let _ = plain(libc::SYS_close, [self.0 as usize, 0, 0, 0, 0]);
    }
}

/// Makes a system call.
///
/// # Safety
/// Every argument that the kernel takes for a pointer points at what that call's man page says, for its duration.
unsafe fn call(number: c_long, a: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: syscall(2) takes any number of register-sized arguments; the caller answers for the pointers.
    let result = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if result != -1 {
        return Ok(result as usize);
    }
    // SAFETY: it takes nothing and returns this thread's errno, a valid pointer.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: `errno` is valid (above).
    Err(Errno(unsafe { *errno }))
}

/// Makes a system call none of whose arguments is a pointer.
fn plain(number: c_long, a: [usize; 5]) -> Result<usize, Errno> {
    // SAFETY: this module calls `plain` only with numbers whose arguments are integers.
    unsafe { call(number, [a[0], a[1], a[2], a[3], a[4], 0]) }
}

/// Makes a system call of the shape (dirfd, path, integer, integer).
fn at(number: c_long, dir: Option<&Fd>, path: &CStr, a: usize, b: usize) -> Result<usize, Errno> {
    // SAFETY: the second argument is a C string that lives through the call; the others are integers.
    unsafe { call(number, [fd_or_cwd(dir), path.as_ptr() as usize, a, b, 0, 0]) }
}

fn fd_or_cwd(dir: Option<&Fd>) -> usize {
    dir.map_or(libc::AT_FDCWD, |fd| fd.0) as usize
}

fn owned(result: usize) -> Fd {
    Fd(result as i32)
}

/// A path for the kernel; EINVAL for a NUL byte within.
pub fn c_path(path: impl AsRef<[u8]>) -> Result<CString, Errno> {
    CString::new(path.as_ref()).map_err(|_| Errno(libc::EINVAL))
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// openat2(2), always close-on-exec, never a controlling terminal.
///
/// A lookup that must not leave its root is refused with EAGAIN where anything on the node is renamed or mounted while
/// it passes a `..` (man page, ERRORS). It is begun again, a limited number of times: nobody can make this program wait
/// for ever by renaming.
pub fn open(
    dir: Option<&Fd>,
    path: &CStr,
    flags: i32,
    mode: u32,
    resolve: u64,
) -> Result<Fd, Errno> {
    // O_PATH admits no other flags than O_CLOEXEC, O_DIRECTORY and O_NOFOLLOW.
    let extra = if flags & libc::O_PATH == 0 { libc::O_NOCTTY } else { 0 };
    let flags = (flags | libc::O_CLOEXEC | extra) as u64;
    let how = OpenHow { flags, mode: mode.into(), resolve };
    let (path, how) = (path.as_ptr() as usize, &raw const how as usize);
    let arguments = [fd_or_cwd(dir), path, how, size_of::<OpenHow>(), 0, 0];
    for _ in 0..OPEN_ATTEMPTS {
        // SAFETY: `path` is a C string and `how` an open_how of the given size, both alive here.
        match unsafe { call(libc::SYS_openat2, arguments) } {
            Err(Errno(libc::EAGAIN)) => {}
            result => return result.map(owned),
        }
    }
    Err(Errno(libc::EAGAIN))
}

/// A lookup takes microseconds, and under constant renaming about every second one fails at each `..`.
const OPEN_ATTEMPTS: u32 = 10_000;

/// The parts of statx(2) that we look at.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// File type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Number of names.
    pub links: u32,
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Device that holds it, encoded as the kernel does for loop devices.
    pub device: u64,
    /// Major number of the device that it is.
    pub device_major: u32,
}

#[repr(C)]
struct Statx {
    head: [u32; 4], // mask, blksize, attributes
    links: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    _pad: u16,
    inode: u64,
    size: u64,
    _times: [u64; 10], // blocks, attributes_mask, four time stamps
    rdev: [u32; 2],
    dev: [u32; 2],
    _rest: [u64; 14],
}

const _: () = assert!(size_of::<Statx>() == 256 && mem::offset_of!(Statx, dev) == 136);

/// statx(2) of what `fd` is open on.
pub fn stat(fd: &Fd) -> Result<Stat, Errno> {
    let mut raw = mem::MaybeUninit::<Statx>::zeroed();
    let (path, out) = (c"".as_ptr() as usize, raw.as_mut_ptr() as usize);
    let (flags, mask) = (libc::AT_EMPTY_PATH as usize, libc::STATX_BASIC_STATS as usize);
    // SAFETY: `path` is a C string, `out` has room for a struct statx (its size is asserted above).
    unsafe { call(libc::SYS_statx, [fd.0 as usize, path, flags, mask, out, 0]) }?;
    // SAFETY: every bit pattern is a valid Statx, and it was zeroed before the kernel wrote to it.
    let raw = unsafe { raw.assume_init() };
    let [major, minor] = raw.dev.map(u64::from);
    Ok(Stat {
        mode: raw.mode.into(),
        uid: raw.uid,
        links: raw.links,
        inode: raw.inode,
        size: raw.size,
        device: (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12),
        device_major: raw.rdev[0],
    })
}

/// read(2).
pub fn read(fd: &Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let out = buffer.as_mut_ptr() as usize;
    // SAFETY: `out` has room for the given number of bytes.
    unsafe { call(libc::SYS_read, [fd.0 as usize, out, buffer.len(), 0, 0, 0]) }
}

/// write(2).
pub fn write(fd: &Fd, bytes: &[u8]) -> Result<usize, Errno> {
    write_to(fd.0, bytes)
}

/// write(2) to standard output (1) or standard error (2), which are not ours.
pub fn write_to(number: i32, bytes: &[u8]) -> Result<usize, Errno> {
    let from = bytes.as_ptr() as usize;
    // SAFETY: `from` points at the given number of bytes.
    unsafe { call(libc::SYS_write, [number as usize, from, bytes.len(), 0, 0, 0]) }
}

/// getdents64(2): raw directory entries.
pub fn read_directory(fd: &Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let out = buffer.as_mut_ptr() as usize;
    // SAFETY: `out` has room for the given number of bytes.
    unsafe { call(libc::SYS_getdents64, [fd.0 as usize, out, buffer.len(), 0, 0, 0]) }
}

/// readlinkat(2).
pub fn read_link(dir: Option<&Fd>, path: &CStr) -> Result<Vec<u8>, Errno> {
    let mut buffer = alloc::vec![0; 4096];
    let out = buffer.as_mut_ptr() as usize;
    let length = at(libc::SYS_readlinkat, dir, path, out, buffer.len())?;
    buffer.truncate(length);
    Ok(buffer)
}

/// mkdirat(2).
pub fn make_directory(dir: Option<&Fd>, path: &CStr, mode: u32) -> Result<(), Errno> {
    at(libc::SYS_mkdirat, dir, path, mode as usize, 0).map(drop)
}

/// symlinkat(2).
pub fn make_link(target: &CStr, dir: &Fd, path: &CStr) -> Result<(), Errno> {
    let (target, path) = (target.as_ptr() as usize, path.as_ptr() as usize);
    // SAFETY: both are C strings that live through the call.
    unsafe { call(libc::SYS_symlinkat, [target, dir.0 as usize, path, 0, 0, 0]) }.map(drop)
}

/// unlinkat(2) of an empty directory.
pub fn remove_directory(dir: &Fd, path: &CStr) -> Result<(), Errno> {
    at(libc::SYS_unlinkat, Some(dir), path, libc::AT_REMOVEDIR as usize, 0).map(drop)
}

/// fchdir(2).
pub fn enter_directory(fd: &Fd) -> Result<(), Errno> {
    plain(libc::SYS_fchdir, [fd.0 as usize, 0, 0, 0, 0]).map(drop)
}

/// chdir(2).
pub fn change_directory(path: &CStr) -> Result<(), Errno> {
    // SAFETY: the argument is a C string that lives through the call.
    unsafe { call(libc::SYS_chdir, [path.as_ptr() as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// getcwd(2); the kernel writes `(unreachable)` in front of what is outside the root.
pub fn working_directory() -> Result<Vec<u8>, Errno> {
    let mut buffer = alloc::vec![0; 4096];
    let out = buffer.as_mut_ptr() as usize;
    // SAFETY: `out` has room for the given number of bytes.
    let length = unsafe { call(libc::SYS_getcwd, [out, buffer.len(), 0, 0, 0, 0]) }?;
    buffer.truncate(length.saturating_sub(1));
    Ok(buffer)
}

/// flock(2).
pub fn lock(fd: &Fd, operation: i32) -> Result<(), Errno> {
    plain(libc::SYS_flock, [fd.0 as usize, operation as usize, 0, 0, 0]).map(drop)
}
