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
use alloc::ffi::CString;
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
    let place = format!("{}/{}", job.0, digest.hex());
    let doing = || cannot(format!("mount the image at {}/{JOBS}/{place}", crate::RUN_PATH));
    let mut directory = jobs(true)?.ok_or_else(|| doing()(Errno(libc::ENOENT)))?;
    let above = sys::stat(&directory).map_err(doing())?.device;
    for name in place.split('/') {
        directory = ensure_directory(&directory, name).map_err(doing())?;
    }
    if sys::stat(&directory).map_err(doing())?.device == above {
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
    let Some(jobs) = jobs(false)? else { return Ok(()) };
    let doing = || cannot(format!("let go of {}/{JOBS}/{}", crate::RUN_PATH, job.0));
    let name = c_path(format!("{}", job.0)).map_err(doing())?;
    let directory = match sys::open(Some(&jobs), &name, DIRECTORY, 0, RESOLVE) {
        Ok(directory) => directory,
        Err(Errno(libc::ENOENT)) => return Ok(()),
        Err(errno) => return Err(doing()(errno)),
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
    let remove =
        |result: Result<(), Errno>, entry| result.and(sys::remove_directory(&directory, entry));
    let removed = entries.iter().map(CString::as_c_str).fold(Ok(()), remove);
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

/// The directory of jobs, made if it shall be, for root's eyes only.
fn jobs(make: bool) -> Result<Option<Fd>, Error> {
    let run = run_directory()?;
    let opened = if make {
        ensure_directory(&run, JOBS)
    } else {
        c_path(JOBS).and_then(|name| sys::open(Some(&run), &name, DIRECTORY, 0, RESOLVE))
    };
    match opened {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno(libc::ENOENT)) => Ok(None),
        Err(errno) => Err(cannot(format!("open {}/{JOBS}", crate::RUN_PATH))(errno)),
    }
}

fn ensure_directory(above: &Fd, name: &str) -> Result<Fd, Errno> {
    let name = c_path(name)?;
    match sys::make_directory(Some(above), &name, 0o700) {
        Ok(()) | Err(Errno(libc::EEXIST)) => sys::open(Some(above), &name, DIRECTORY, 0, RESOLVE),
        Err(errno) => Err(errno),
    }
}

const JOBS: &str = "jobs";
const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
const RESOLVE: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
