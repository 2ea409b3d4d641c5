//! Neutralises what a process inherits from its caller, before anything is read or opened.
//!
//! What the command shall have again is kept in [`Inherited`]. Signal dispositions are never touched.
#![forbid(unsafe_code)]

use crate::error::{Error, cannot};
use crate::sys;
use alloc::vec::Vec;
use core::ffi::c_long;

/// What was changed and must be as before when the command starts.
#[derive(Debug)]
pub struct Inherited {
    umask: u32,
    signals: u64,
    timer: [c_long; 4],
    limits: Vec<(u32, [u64; 2])>,
}

/// Makes the process safe to act in: undumpable, descriptors 0 to 2 open, signals blocked, limits sufficient.
///
/// # Errors
/// The kernel's, in which case nothing has been done for the caller.
pub fn process() -> Result<Inherited, Error> {
    sys::process_control(libc::PR_SET_DUMPABLE, 0, 0).map_err(cannot("forbid core dumps"))?;
    open_standard_descriptors()?;
    let umask = sys::set_umask(0o022);
    let signals = sys::set_signal_mask(u64::MAX).map_err(cannot("block signals"))?;
    let timer = sys::set_timer([0; 4]).map_err(cannot("stop the caller's timer"))?;
    let mut limits = Vec::new();
    for (resource, least) in NEEDED_LIMITS {
        let before = sys::limit(resource, None).map_err(cannot("read a resource limit"))?;
        if before[0] < least {
            limits.push((resource, before));
            // Without CAP_SYS_RESOURCE, as in some containers, as far as the hard limit; what is still too little
            // ends the run later, with the kernel's reason.
            if sys::limit(resource, Some([least, before[1].max(least)])).is_err() {
                let _ = sys::limit(resource, Some([before[1], before[1]]));
            }
        }
    }
    Ok(Inherited { umask, signals, timer, limits })
}

impl Inherited {
    /// Gives the command what the caller had. Called as the caller, right before execve.
    ///
    /// # Errors
    /// The kernel's; lowering limits and restoring masks is always allowed.
    pub fn restore(&self) -> Result<(), Error> {
        sys::set_umask(self.umask);
        for (resource, before) in &self.limits {
            sys::limit(*resource, Some(*before)).map_err(cannot("restore a resource limit"))?;
        }
        sys::set_timer(self.timer).map_err(cannot("restore the caller's timer"))?;
        sys::set_signal_mask(self.signals).map(drop).map_err(cannot("unblock signals"))
    }
}

/// A closed descriptor 0, 1 or 2 would otherwise become a privileged file that the command writes to.
fn open_standard_descriptors() -> Result<(), Error> {
    for number in 0..=2 {
        if !sys::is_open(number) {
            let opened = sys::open_standard(c"/dev/null")
                .map_err(cannot("open /dev/null for a closed descriptor"))?;
            if opened != number {
                return Err(cannot("open descriptors 0, 1 and 2")(sys::Errno(libc::EBADF)));
            }
        }
    }
    Ok(())
}

/// Descriptors enough for 64 volumes, and room for the account files that are written.
const NEEDED_LIMITS: [(u32, u64); 2] = [(libc::RLIMIT_NOFILE, 256), (libc::RLIMIT_FSIZE, 4 << 20)];
