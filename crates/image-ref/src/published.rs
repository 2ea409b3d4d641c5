//! Where a published image lies in the image directory.

use crate::Digest;
use alloc::format;
use alloc::string::String;

/// The file name of the image itself.
pub fn image_file(digest: &Digest) -> String {
    format!("{}.squashfs", digest.hex())
}

/// The file name of Gantry's sidecar: see [`crate::Sidecar`].
pub fn sidecar_file(digest: &Digest) -> String {
    format!("{}.gantry", digest.hex())
}
