//! What an image is called and what is known of it beside its bytes.
//!
//! Every program of Gantry, the set-user-id one included, reads references, digests and sidecar files through
//! this crate, so that none of them can disagree with another about what a name means. No dependencies, no
//! `std`, no input or output.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod digest;
mod platform;
mod published;
mod reference;
mod sidecar;

pub use digest::{Digest, DigestError};
pub use platform::{Platform, PlatformError};
pub use published::{NAMES_DIRECTORY, image_file, meta_file, name_link, sidecar_file};
pub use reference::{ImageRef, Kind, REFERENCE_LIMIT, RefError, Version};
pub use sidecar::{Access, SIDECAR_LIMIT, Sidecar, SidecarError};
