//! What root asks for around a job: mount its image ahead of its tasks, keep a mount, let go of all.
//!
//! Nothing here gives anybody access: the directories are root's alone, and `run` decides anew for every caller.
//! Environment and job-control variables are not looked at (CVE-2017-15566).
#![forbid(unsafe_code)]

use crate::caller::Caller;
use crate::error::{Error, Standing, cannot};
use crate::image::{self, Shelf};
use crate::mounts;
use crate::request::Job;
use crate::sys::{self, Errno, Fd, c_path};
use crate::{load_conf, run_directory};
use alloc::format;
use alloc::vec::Vec;
use image_ref::Digest;

/// Mounts an image at `/run/gantry/jobs/<job>/<digest>`, so that the job's tasks find its loop device bound and its
/// pages cached. Done already, it does nothing.
///
/// # Errors
/// As for a run, without those on access.
pub fn prepare(caller: &Caller, digest: Digest, job: Job) -> Result<(), Error> {
    let mount = mount(caller, digest)?;
    let place = format!("{JOBS}/{}/{}", job.0, digest.hex());
    let doing = || cannot(format!("mount the image at {}/{place}", crate::RUN_PATH));
    let device = |fd: &Fd| sys::stat(fd).map(|stat| stat.device).map_err(doing());
    let mut directory = run_directory()?;
    let mut above = None;
    for name in place.split('/') {
        above = Some(device(&directory)?);
        directory = ensure_directory(&directory, name).map_err(doing())?;
    }
    if above == Some(device(&directory)?) {
        sys::move_mount(&mount, &directory).map_err(doing())?;
    }
    Ok(())
}

/// Mounts an image and sends the mount, attached nowhere, over the caller's socket `number`.
///
/// # Errors
/// As for [`prepare`]; where the socket does not take it.
pub fn hold(caller: &Caller, digest: Digest, number: i32) -> Result<(), Error> {
    let mount = mount(caller, digest)?;
    sys::send_descriptor(number, &mount)
        .map_err(cannot(format!("send the mount over descriptor {number}")))
}

/// Unmounts what [`prepare`] mounted for a job. Nothing to do is success; busy mounts go when their users do.
///
/// # Errors
/// Where a directory could not be removed: the first such, when all else is gone.
pub fn release(caller: &Caller, job: Job) -> Result<(), Error> {
    only_root(caller)?;
    let run = run_directory()?;
    let doing = || cannot(format!("let go of {}/{JOBS}/{}", crate::RUN_PATH, job.0));
    let name = format!("{}", job.0);
    let opened = open(&run, JOBS).and_then(|jobs| Ok((open(&jobs, &name)?, jobs)));
    let (directory, jobs) = match opened {
        Err(Errno(libc::ENOENT)) => return Ok(()),
        opened => opened.map_err(doing())?,
    };
    sys::enter_directory(&directory).map_err(doing())?;
    let mut entries = Vec::new();
    for (entry, _) in mounts::read_directory(Some(&directory), c".", RESOLVE).map_err(doing())? {
        let entry = c_path(&entry).map_err(doing())?;
        while sys::detach(&entry).is_ok() {}
        entries.push(entry);
    }
    sys::change_directory(c"/").map_err(doing())?;
    // One that cannot be removed keeps no other.
    let removed = entries.iter().map(|entry| sys::remove_directory(&directory, entry));
    let removed = removed.fold(Ok(()), Result::and);
    let name = c_path(name).map_err(doing())?;
    removed.and_then(|()| sys::remove_directory(&jobs, &name)).map_err(doing())
}

fn mount(caller: &Caller, digest: Digest) -> Result<Fd, Error> {
    only_root(caller)?;
    let conf = load_conf()?;
    let shelf = Shelf { directory: conf.image_path, owner: conf.image_owner };
    let image = image::open_for_root(caller, &shelf, digest)?;
    mounts::mount_image(caller, &image)
}

fn only_root(caller: &Caller) -> Result<(), Error> {
    if caller.is_root() { Ok(()) } else { Err(Standing::OnlyRoot.into()) }
}

/// Opens a directory below another, and makes it where it is missing, for root's eyes only.
fn ensure_directory(above: &Fd, name: &str) -> Result<Fd, Errno> {
    match sys::make_directory(Some(above), &c_path(name)?, 0o700) {
        Ok(()) | Err(Errno(libc::EEXIST)) => open(above, name),
        Err(errno) => Err(errno),
    }
}

fn open(above: &Fd, name: impl AsRef<[u8]>) -> Result<Fd, Errno> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    sys::open(Some(above), &c_path(name)?, flags, 0, RESOLVE)
}

/// The directory of jobs, below root's own.
const JOBS: &str = "jobs";
const RESOLVE: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
