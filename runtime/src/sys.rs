//! The system calls that this program makes, behind safe functions: all of its `unsafe`.
//!
//! libc gives numbers, constants and `syscall(2)`; kernel structures are declared here, because this is built
//! against musl with a toolchain for glibc. Decides nothing.
#![allow(unsafe_code)]

pub use crate::errno::Errno;
use alloc::vec::Vec;
use core::ffi::{CStr, c_char, c_long};
use core::{mem, ptr};

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

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// openat2(2), always close-on-exec, never a controlling terminal.
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
    // SAFETY: `path` is a C string and `how` an open_how of the given size, both alive here.
    unsafe { call(libc::SYS_openat2, [fd_or_cwd(dir), path, how, size_of::<OpenHow>(), 0, 0]) }
        .map(owned)
}

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

/// readlinkat(2) into `buffer`.
pub fn read_link(dir: Option<&Fd>, path: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    at(libc::SYS_readlinkat, dir, path, buffer.as_mut_ptr() as usize, buffer.len())
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

/// ioctl(2) whose argument is an integer or absent.
pub fn control(fd: &Fd, request: usize) -> Result<usize, Errno> {
    plain(libc::SYS_ioctl, [fd.0 as usize, request, 0, 0, 0])
}

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LoopInfo {
    /// Device of the backing file.
    pub device: u64,
    /// Inode of the backing file.
    pub inode: u64,
    _rdevice: u64,
    /// Where in the file the device starts.
    pub offset: u64,
    /// How much of the file it shows; 0 is all.
    pub size_limit: u64,
    _number: [u32; 3],
    /// `LO_FLAGS_*`.
    pub flags: u32,
    /// Free text: our tag.
    pub name: [u8; 64],
    _crypt: [u64; 14],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    _reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);

impl LoopInfo {
    /// What LOOP_CONFIGURE takes: flags and a tag.
    pub fn new(flags: u32, name: [u8; 64]) -> Self {
        let (number, crypt) = ([0; 3], [0; 14]);
        Self {
            device: 0,
            inode: 0,
            _rdevice: 0,
            offset: 0,
            size_limit: 0,
            _number: number,
            flags,
            name,
            _crypt: crypt,
        }
    }
}

/// LOOP_CONFIGURE: binds `backing` to `device`.
pub fn loop_configure(device: &Fd, backing: &Fd, info: LoopInfo) -> Result<(), Errno> {
    let config = LoopConfig { fd: backing.0 as u32, block_size: 0, info, _reserved: [0; 8] };
    let argument = &raw const config as usize;
    // SAFETY: `argument` points at a struct loop_config, which is what this request takes.
    unsafe { call(libc::SYS_ioctl, [device.0 as usize, LOOP_CONFIGURE, argument, 0, 0, 0]) }
        .map(drop)
}

/// LOOP_GET_STATUS64.
pub fn loop_status(device: &Fd) -> Result<LoopInfo, Errno> {
    let mut info = LoopInfo::new(0, [0; 64]);
    let argument = &raw mut info as usize;
    // SAFETY: `argument` has room for a struct loop_info64, which is what this request writes.
    unsafe { call(libc::SYS_ioctl, [device.0 as usize, LOOP_GET_STATUS64, argument, 0, 0, 0]) }?;
    Ok(info)
}

/// LOOP_CTL_GET_FREE of linux/loop.h, an integer request for [`control`].
pub const LOOP_CTL_GET_FREE: usize = 0x4C82;
const LOOP_CONFIGURE: usize = 0x4C0A;
const LOOP_GET_STATUS64: usize = 0x4C05;

/// fsopen(2).
pub fn fs_open(kind: &CStr) -> Result<Fd, Errno> {
    // SAFETY: the first argument is a C string that lives through the call.
    unsafe { call(libc::SYS_fsopen, [kind.as_ptr() as usize, 1, 0, 0, 0, 0]) }.map(owned)
}

/// fsconfig(2): sets a string parameter, or a flag where `value` is `None`.
pub fn fs_set(fs: &Fd, key: &CStr, value: Option<&CStr>) -> Result<(), Errno> {
    let (command, value) = match value {
        Some(text) => (1, text.as_ptr() as usize),
        None => (0, 0),
    };
    let key = key.as_ptr() as usize;
    // SAFETY: `key` and, where the command takes one, `value` are C strings that live through the call.
    unsafe { call(libc::SYS_fsconfig, [fs.0 as usize, command, key, value, 0, 0]) }.map(drop)
}

/// fsconfig(2): makes the file system.
pub fn fs_create(fs: &Fd) -> Result<(), Errno> {
    plain(libc::SYS_fsconfig, [fs.0 as usize, 6, 0, 0, 0]).map(drop)
}

/// fsmount(2).
pub fn fs_mount(fs: &Fd, attributes: u64) -> Result<Fd, Errno> {
    plain(libc::SYS_fsmount, [fs.0 as usize, 1, attributes as usize, 0, 0]).map(owned)
}

/// open_tree(2) with OPEN_TREE_CLONE.
pub fn clone_tree(dir: Option<&Fd>, path: &CStr, flags: i32) -> Result<Fd, Errno> {
    let flags = flags | libc::O_CLOEXEC | libc::OPEN_TREE_CLONE as i32;
    at(libc::SYS_open_tree, dir, path, flags as usize, 0).map(owned)
}

/// move_mount(2), descriptor to descriptor.
pub fn move_mount(from: &Fd, to: &Fd) -> Result<(), Errno> {
    let empty = c"".as_ptr() as usize;
    let arguments = [from.0 as usize, empty, to.0 as usize, empty, MOVE_MOUNT_EMPTY_PATHS, 0];
    // SAFETY: both paths are the same static C string.
    unsafe { call(libc::SYS_move_mount, arguments) }.map(drop)
}

const MOVE_MOUNT_EMPTY_PATHS: usize = 0x04 | 0x40;

/// mount_setattr(2): adds attributes and sets propagation (0 leaves it); nothing is ever taken away.
pub fn add_attributes(
    dir: Option<&Fd>,
    path: &CStr,
    flags: i32,
    set: u64,
    propagation: u64,
) -> Result<(), Errno> {
    let attributes: [u64; 4] = [set, 0, propagation, 0];
    let (path, argument) = (path.as_ptr() as usize, &raw const attributes as usize);
    let size = size_of::<[u64; 4]>();
    let arguments = [fd_or_cwd(dir), path, flags as usize, argument, size, 0];
    // SAFETY: `path` is a C string and `argument` a struct mount_attr (four u64) of the given size.
    unsafe { call(libc::SYS_mount_setattr, arguments) }.map(drop)
}

/// unshare(2).
pub fn unshare(flags: i32) -> Result<(), Errno> {
    plain(libc::SYS_unshare, [flags as usize, 0, 0, 0, 0]).map(drop)
}

/// pivot_root(2) of the working directory onto itself (man page, "pivot_root(".", ".")").
pub fn pivot_root_here() -> Result<(), Errno> {
    let here = c".".as_ptr() as usize;
    // SAFETY: both arguments are the same static C string.
    unsafe { call(libc::SYS_pivot_root, [here, here, 0, 0, 0, 0]) }.map(drop)
}

/// umount2(2), lazily and without following a link.
pub fn detach(path: &CStr) -> Result<(), Errno> {
    let flags = (libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) as usize;
    // SAFETY: the first argument is a C string that lives through the call.
    unsafe { call(libc::SYS_umount2, [path.as_ptr() as usize, flags, 0, 0, 0, 0]) }.map(drop)
}

/// Real, effective and saved user ids.
pub fn user_ids() -> Result<[u32; 3], Errno> {
    three_ids(libc::SYS_getresuid)
}

/// Real, effective and saved group ids.
pub fn group_ids() -> Result<[u32; 3], Errno> {
    three_ids(libc::SYS_getresgid)
}

fn three_ids(number: c_long) -> Result<[u32; 3], Errno> {
    let mut ids = [0u32; 3];
    let base = ids.as_mut_ptr() as usize;
    // SAFETY: the three pointers are those of the three elements.
    unsafe { call(number, [base, base + 4, base + 8, 0, 0, 0]) }?;
    Ok(ids)
}

/// getgroups(2).
pub fn groups() -> Result<Vec<u32>, Errno> {
    let count = plain(libc::SYS_getgroups, [0; 5])?;
    let mut list = alloc::vec![0u32; count];
    let out = list.as_mut_ptr() as usize;
    // SAFETY: `out` has room for `count` ids.
    let count = unsafe { call(libc::SYS_getgroups, [count, out, 0, 0, 0, 0]) }?;
    list.truncate(count);
    Ok(list)
}

/// setresuid(2); the process has one thread, so the call for this thread is enough.
pub fn set_user_ids(ids: [u32; 3]) -> Result<(), Errno> {
    plain(libc::SYS_setresuid, [ids[0] as usize, ids[1] as usize, ids[2] as usize, 0, 0]).map(drop)
}

/// setresgid(2).
pub fn set_group_ids(ids: [u32; 3]) -> Result<(), Errno> {
    plain(libc::SYS_setresgid, [ids[0] as usize, ids[1] as usize, ids[2] as usize, 0, 0]).map(drop)
}

/// setfsuid(2), and what it is afterwards.
pub fn set_file_user(uid: u32) -> u32 {
    set_file_id(libc::SYS_setfsuid, uid)
}

/// setfsgid(2), and what it is afterwards.
pub fn set_file_group(gid: u32) -> u32 {
    set_file_id(libc::SYS_setfsgid, gid)
}

fn set_file_id(number: c_long, id: u32) -> u32 {
    let _ = plain(number, [id as usize, 0, 0, 0, 0]);
    plain(number, [u32::MAX as usize, 0, 0, 0, 0]).map_or(u32::MAX, |now| now as u32)
}

/// prctl(2) of an option whose arguments are integers.
pub fn process_control(option: i32, argument: usize, second: usize) -> Result<usize, Errno> {
    plain(libc::SYS_prctl, [option as usize, argument, second, 0, 0])
}

/// capset(2): effective, permitted and inheritable sets as bit masks.
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> Result<(), Errno> {
    let header: [u32; 2] = [CAPABILITY_VERSION_3, 0];
    let low = [effective as u32, permitted as u32, inheritable as u32];
    let high = [(effective >> 32) as u32, (permitted >> 32) as u32, (inheritable >> 32) as u32];
    let data = [low, high];
    let (header, data) = (&raw const header as usize, &raw const data as usize);
    // SAFETY: `header` is a header of version 3 for this process, `data` its two elements.
    unsafe { call(libc::SYS_capset, [header, data, 0, 0, 0, 0]) }.map(drop)
}

/// capget(2): the union of the three sets, for a check that all are empty.
pub fn any_capabilities() -> Result<u64, Errno> {
    let mut header: [u32; 2] = [CAPABILITY_VERSION_3, 0];
    let mut data = [[0u32; 3]; 2];
    let (header, out) = (&raw mut header as usize, &raw mut data as usize);
    // SAFETY: `header` is a header of version 3 for this process, `out` has room for its two elements.
    unsafe { call(libc::SYS_capget, [header, out, 0, 0, 0, 0]) }?;
    let [low, high] = data.map(|sets| sets.into_iter().fold(0, |all, set| all | u64::from(set)));
    Ok(low | high << 32)
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// rt_sigprocmask(2) with SIG_SETMASK; returns the mask before.
pub fn set_signal_mask(mask: u64) -> Result<u64, Errno> {
    let mut before = 0u64;
    let (set, out) = (&raw const mask as usize, &raw mut before as usize);
    let how = libc::SIG_SETMASK as usize;
    // SAFETY: both point at the kernel's signal set, 64 bits, whose size is the last argument.
    unsafe { call(libc::SYS_rt_sigprocmask, [how, set, out, 8, 0, 0]) }?;
    Ok(before)
}

/// setitimer(2) of ITIMER_REAL; returns the timer before. Seconds and microseconds of interval and value.
pub fn set_timer(timer: [c_long; 4]) -> Result<[c_long; 4], Errno> {
    let mut before = [0; 4];
    let (new, out) = (&raw const timer as usize, &raw mut before as usize);
    // SAFETY: both point at a struct itimerval: four longs.
    unsafe { call(libc::SYS_setitimer, [0, new, out, 0, 0, 0]) }?;
    Ok(before)
}

/// prlimit64(2) of this process: sets soft and hard limit where given, returns those before.
pub fn limit(resource: u32, new: Option<[u64; 2]>) -> Result<[u64; 2], Errno> {
    let mut before = [0u64; 2];
    let set = new.as_ref().map_or(ptr::null(), |pair| pair.as_ptr()) as usize;
    let out = before.as_mut_ptr() as usize;
    // SAFETY: `set` is null or points at a struct rlimit64, `out` has room for one.
    unsafe { call(libc::SYS_prlimit64, [0, resource as usize, set, out, 0, 0]) }?;
    Ok(before)
}

/// umask(2).
pub fn set_umask(mask: u32) -> u32 {
    plain(libc::SYS_umask, [mask as usize, 0, 0, 0, 0]).map_or(0o077, |before| before as u32)
}

/// Whether the caller left this descriptor open.
pub fn is_open(number: i32) -> bool {
    plain(libc::SYS_fcntl, [number as usize, libc::F_GETFD as usize, 0, 0, 0]).is_ok()
}

/// Lets one of the caller's descriptors survive execve.
pub fn keep_open(number: i32) -> Result<(), Errno> {
    plain(libc::SYS_fcntl, [number as usize, libc::F_SETFD as usize, 0, 0, 0]).map(drop)
}

/// Opens a path as the lowest free descriptor and leaves it open for ever.
pub fn open_standard(path: &CStr) -> Result<i32, Errno> {
    let fd = open(None, path, libc::O_RDWR, 0, 0)?;
    let number = fd.0;
    mem::forget(fd);
    keep_open(number).map(|()| number)
}

/// close_range(2): marks every descriptor from 3 on close-on-exec.
pub fn close_others_on_exec() -> Result<(), Errno> {
    let flags = libc::CLOSE_RANGE_CLOEXEC as usize;
    plain(libc::SYS_close_range, [3, u32::MAX as usize, flags, 0, 0]).map(drop)
}

/// nanosleep(2) for some milliseconds, fewer than 1000.
pub fn pause(milliseconds: u32) {
    let time: [c_long; 2] = [0, c_long::from(milliseconds) * 1_000_000];
    let argument = &raw const time as usize;
    // SAFETY: the first argument is a struct timespec (two longs), the second may be null.
    let _ = unsafe { call(libc::SYS_nanosleep, [argument, 0, 0, 0, 0, 0]) };
}

/// Whether the kernel started this program with more rights than its caller has.
pub fn started_privileged() -> bool {
    // SAFETY: getauxval(3) takes any number.
    unsafe { libc::getauxval(libc::AT_SECURE) == 1 }
}

#[repr(C)]
struct MessageHeader {
    name: usize,
    name_length: u32,
    vector: usize,
    vector_length: usize,
    control: usize,
    control_length: usize,
    flags: i32,
}

#[repr(C)]
struct RightsMessage {
    length: usize,
    level: i32,
    kind: i32,
    fd: i32,
}

/// sendmsg(2): sends one byte and `fd` (SCM_RIGHTS) over the socket `to`, which is the caller's.
pub fn send_descriptor(to: i32, fd: &Fd) -> Result<(), Errno> {
    let byte = [0u8; 1];
    let vector = [byte.as_ptr() as usize, 1];
    let length = mem::offset_of!(RightsMessage, fd) + size_of::<i32>();
    let (level, kind) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
    let rights = RightsMessage { length, level, kind, fd: fd.0 };
    let header = MessageHeader {
        name: 0,
        name_length: 0,
        vector: vector.as_ptr() as usize,
        vector_length: 1,
        control: &raw const rights as usize,
        control_length: size_of::<RightsMessage>(),
        flags: 0,
    };
    let (header, flags) = (&raw const header as usize, libc::MSG_NOSIGNAL as usize);
    // SAFETY: `header` is a struct msghdr whose vector, byte and control message live through the call.
    unsafe { call(libc::SYS_sendmsg, [to as usize, header, flags, 0, 0, 0]) }.map(drop)
}

/// execve(2); returns only to say why not.
pub fn execute(path: &CStr, arguments: &[&CStr], environment: &[&CStr]) -> Errno {
    let array = |strings: &[&CStr]| -> Vec<*const c_char> {
        strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let (arguments, environment) = (array(arguments), array(environment));
    let (argv, envp) = (arguments.as_ptr() as usize, environment.as_ptr() as usize);
    // SAFETY: `path` is a C string, `argv` and `envp` are null-ended arrays of C strings, all alive here.
    match unsafe { call(libc::SYS_execve, [path.as_ptr() as usize, argv, envp, 0, 0, 0]) } {
        Err(errno) => errno,
        Ok(_) => Errno(libc::EINVAL),
    }
}

/// exit_group(2).
pub fn exit(code: i32) -> ! {
    let _ = plain(libc::SYS_exit_group, [code as usize, 0, 0, 0, 0]);
    // SAFETY: abort(3) takes nothing; it is not reached, because exit_group does not return.
    unsafe { libc::abort() }
}
