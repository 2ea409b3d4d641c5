//! What an image is called and what is known of it beside its bytes.
//!
//! Every program of Gantry, the set-user-id one included, reads references, digests and sidecar files through
//! this crate, so that none of them can disagree with another about what a name means. No dependencies, no
//! `std`, no input or output. The set-user-id program takes digests alone: what it has no use for stands in modules
//! behind the feature `unprivileged`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod digest;
mod published;
mod sidecar;

#[cfg(feature = "unprivileged")]
mod links;
#[cfg(feature = "unprivileged")]
mod platform;
#[cfg(feature = "unprivileged")]
mod reference;
#[cfg(feature = "unprivileged")]
mod text;
#[cfg(feature = "unprivileged")]
mod write;

pub use digest::Digest;
pub use published::{image_file, sidecar_file};
pub use sidecar::{Access, SIDECAR_LIMIT, Sidecar, SidecarError};

#[cfg(feature = "unprivileged")]
pub use links::{NAMES_DIRECTORY, meta_file, name_link};
#[cfg(feature = "unprivileged")]
pub use platform::{Platform, PlatformError};
#[cfg(feature = "unprivileged")]
pub use reference::{ImageRef, Kind, REFERENCE_LIMIT, RefError, Version};
#[cfg(feature = "unprivileged")]
pub use text::DigestError;
