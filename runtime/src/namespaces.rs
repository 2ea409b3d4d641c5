//! The private mount namespace, and how it gets its root.
#![forbid(unsafe_code)]

use crate::error::{Error, cannot};
use crate::sys::{self, Fd};

/// Leaves the host's mount namespace: mounts of the host still arrive, none of ours goes back.
///
/// # Errors
/// The kernel's.
pub fn make_private() -> Result<(), Error> {
    sys::unshare(libc::CLONE_NEWNS).map_err(cannot("make a private mount namespace"))?;
    sys::add_attributes(None, c"/", libc::AT_RECURSIVE, 0, libc::MS_SLAVE)
        .map_err(cannot("keep mounts from the host"))
}

/// Makes `root` the root directory and takes everything else out of the namespace.
///
/// `pivot_root`, not `chroot`: nested user namespaces stay possible, and no mount of the host is held busy.
///
/// # Errors
/// The kernel's; EINVAL where the node itself runs from an initramfs.
pub fn enter(root: &Fd) -> Result<(), Error> {
    let failed = || cannot("make the image the root directory");
    sys::enter_directory(root).map_err(failed())?;
    sys::pivot_root_here().map_err(failed())?;
    sys::detach(c".").map_err(failed())?;
    sys::change_directory(c"/").map_err(failed())
}
