//! An examination: an independent reader looks the image over before it is published.

use std::fs::File;

use converter_api::{Failure, FailureKind};
use squashfs_reader::{Limits, Rules, examine};

/// Sees that the image is one that the kernel of every node may be given.
pub(crate) fn run(image: &File) -> Result<(), Failure> {
    // How much may be in it was decided when it was made; what looking at it may take is limited by the sandbox.
    let limits =
        Limits { inodes: u32::MAX, names: u32::MAX, table_bytes: 3 << 30, ..Limits::default() };
    match examine(image, &Rules { limits, ..Rules::published() }) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::new(FailureKind::Invalid, &error)),
    }
}
