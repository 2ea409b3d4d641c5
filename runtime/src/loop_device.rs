//! One loop device per image and node: found again through the kernel's own state, else attached.
//!
//! Autoclear is set in the very call that binds the file, so a device lives as long as a mount or a descriptor of
//! it, whatever kills us. No file of ours says which device is whose.
#![forbid(unsafe_code)]

use crate::error::{Error, cannot};
use crate::image::Image;
use crate::sys::{self, Errno, Fd, LoopInfo};
use crate::{mounts, run_directory};
use alloc::ffi::CString;
use alloc::format;
use alloc::vec::Vec;

/// A loop device that shows an image; open, and so it stays bound.
#[derive(Debug)]
pub struct LoopDevice {
    fd: Fd,
    number: usize,
    tag: [u8; 64],
}

/// Finds the device that shows `image`, or attaches one. The caller holds root's file identity.
///
/// Two processes may search at once: the one that attaches holds a lock, and whoever waits for it longer than two
/// seconds goes on without, at the price of a second device.
///
/// # Errors
/// The kernel's, where there is no loop device to be had.
pub fn ensure(image: &Image) -> Result<LoopDevice, Error> {
    let tag = tag(image);
    let found = find(image, tag, 0..FIRST).or_else(|| find(image, tag, listed()));
    if let Some(found) = found {
        return Ok(found);
    }
    let _lock = lock()?;
    match find(image, tag, listed()) {
        Some(found) => Ok(found),
        None => attach(image, tag),
    }
}

impl LoopDevice {
    /// The device's path, for `fsconfig`.
    pub fn path(&self) -> CString {
        path(self.number)
    }

    /// Checks again that the device shows `image`: between finding and mounting somebody else may have become root.
    ///
    /// # Errors
    /// EBUSY where it does not.
    pub fn verify(&self, image: &Image) -> Result<(), Error> {
        if shows(&self.fd, image, &self.tag) {
            Ok(())
        } else {
            Err(cannot("keep the image's loop device")(Errno(libc::EBUSY)))
        }
    }
}

/// Looks at the loop devices of these numbers. An open descriptor keeps a device from being cleared, so what is found
/// stays.
fn find(
    image: &Image,
    tag: [u8; 64],
    numbers: impl IntoIterator<Item = usize>,
) -> Option<LoopDevice> {
    numbers.into_iter().find_map(|number| {
        let fd = open(number).ok()?;
        shows(&fd, image, &tag).then_some(LoopDevice { fd, number, tag })
    })
}

/// The numbers of the loop devices that there are, the lowest first: a directory lists them last.
fn listed() -> Vec<usize> {
    let devices = mounts::read_directory(None, c"/dev", 0).unwrap_or_default();
    let numbers = devices.iter().filter_map(|(name, _)| name.strip_prefix("loop")?.parse().ok());
    let mut numbers: Vec<usize> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

fn attach(image: &Image, tag: [u8; 64]) -> Result<LoopDevice, Error> {
    let control = sys::open(None, c"/dev/loop-control", libc::O_RDWR, 0, libc::RESOLVE_NO_SYMLINKS)
        .map_err(cannot("open /dev/loop-control (is the loop module loaded on this node?)"))?;
    for _ in 0..ATTEMPTS {
        let number = sys::control(&control, sys::LOOP_CTL_GET_FREE)
            .map_err(cannot("find a free loop device"))?;
        let fd = open(number).map_err(cannot(format!("open /dev/loop{number}")))?;
        let flags = READ_ONLY | AUTOCLEAR;
        match sys::loop_configure(&fd, &image.file, LoopInfo::new(flags, tag)) {
            Ok(()) => return Ok(LoopDevice { fd, number, tag }),
            // Another program took the device between the two calls.
            Err(Errno(libc::EBUSY)) => sys::pause(1),
            Err(errno) => {
                return Err(cannot(format!("attach the image to /dev/loop{number}"))(errno));
            }
        }
    }
    Err(cannot("attach the image to a loop device")(Errno(libc::EBUSY)))
}

fn open(number: usize) -> Result<Fd, Errno> {
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let fd = sys::open(None, &path(number), flags, 0, libc::RESOLVE_NO_SYMLINKS)?;
    let stat = sys::stat(&fd)?;
    let is_loop = stat.mode & libc::S_IFMT == libc::S_IFBLK && stat.device_major == LOOP_MAJOR;
    if is_loop { Ok(fd) } else { Err(Errno(libc::ENXIO)) }
}

fn shows(device: &Fd, image: &Image, tag: &[u8; 64]) -> bool {
    sys::loop_status(device).is_ok_and(|info| {
        info.device == image.stat.device
            && info.inode == image.stat.inode
            && (info.offset, info.size_limit) == (0, 0)
            && info.flags & (READ_ONLY | AUTOCLEAR) == READ_ONLY | AUTOCLEAR
            && info.name == *tag
    })
}

/// The image's digest as far as it fits: an inode number may be used again on a remote file system, a digest not.
fn tag(image: &Image) -> [u8; 64] {
    let mut tag = [0; 64];
    let text = format!("gantry1:{:.52}", format!("{}", image.digest.hex()));
    for (to, from) in tag.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    tag
}

fn path(number: usize) -> CString {
    CString::new(format!("/dev/loop{number}")).unwrap_or_default()
}

/// Waits at most two seconds: a process stopped with the lock must not stop every start on the node.
fn lock() -> Result<Option<Fd>, Error> {
    let directory = run_directory()?;
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_NOFOLLOW;
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
    let file = sys::open(Some(&directory), c"loop.lock", flags, 0o600, resolve)
        .map_err(cannot("open /run/gantry/loop.lock"))?;
    for _ in 0..LOCK_ATTEMPTS {
        match sys::lock(&file, libc::LOCK_EX | libc::LOCK_NB) {
            Ok(()) => return Ok(Some(file)),
            Err(_) => sys::pause(LOCK_PAUSE),
        }
    }
    Ok(None)
}

/// The kernel gives out the lowest numbers first. Listing /dev costs a start more than any other of its steps, so that
/// these devices, which the kernel makes by default, are looked at without.
const FIRST: usize = 8;
const ATTEMPTS: usize = 64;
const LOCK_ATTEMPTS: u32 = 1000;
const LOCK_PAUSE: u32 = 2;
const LOOP_MAJOR: u32 = 7;
/// LO_FLAGS_READ_ONLY and LO_FLAGS_AUTOCLEAR of linux/loop.h.
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
