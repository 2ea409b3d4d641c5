//! The calls for loop devices, file systems, mounts and namespaces.
#![allow(unsafe_code)]

use super::{Errno, Fd, at, call, fd_or_cwd, owned, plain};
use core::ffi::CStr;

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
