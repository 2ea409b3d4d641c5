//! The calls that tell or change what this process is: ids, capabilities, signals, limits, descriptors, the program.
#![allow(unsafe_code)]

use super::{Errno, Fd, call, open, plain};
use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::{CStr, c_char, c_long};
use core::{mem, ptr};

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

/// clock_gettime(2): how long the node has been up.
pub fn microseconds() -> u64 {
    let mut time: [c_long; 2] = [0; 2];
    let out = &raw mut time as usize;
    // SAFETY: the second argument has room for a struct timespec (two longs).
    let _ =
        unsafe { call(libc::SYS_clock_gettime, [libc::CLOCK_MONOTONIC as usize, out, 0, 0, 0, 0]) };
    time[0] as u64 * 1_000_000 + time[1] as u64 / 1000
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
pub fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    let array = |strings: &[CString]| -> Vec<*const c_char> {
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
