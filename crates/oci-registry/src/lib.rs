//! Images from Docker and OCI registries: resolved names, checked manifests, verified blobs.
//!
//! One [`Session`] is one pull: it holds one caller's credentials and forgets them with itself, so that no caller's
//! login ever serves another. Everything a registry says is bounded and checked against the digest it was asked by;
//! what cannot be checked is not believed. Nothing here knows where blobs go.
#![forbid(unsafe_code)]

mod address;
mod asked;
mod auth;
mod blob;
mod challenge;
mod config;
mod credentials;
mod endpoint;
mod error;
mod failure;
mod index;
mod json;
mod manifest;
mod media_type;
mod patience;
mod session;
mod tags;
mod token;
mod transport;

pub use asked::{Asked, Wanted};
pub use blob::BlobStream;
pub use config::ImageConfig;
pub use credentials::Credentials;
pub use endpoint::{AuthMethod, Endpoint};
pub use error::RegistryError;
pub use manifest::{Descriptor, Manifest};
pub use media_type::{LayerCompression, ManifestKind};
pub use patience::Timeouts;
pub use reqwest::Url;
pub use session::{Resolved, Session};
pub use tokio_util::bytes::Bytes;

/// The largest manifest or index, in bytes; what docker's own registry accepts.
pub const MANIFEST_LIMIT: u64 = 4 << 20;
/// The largest configuration, in bytes.
pub const CONFIG_LIMIT: u64 = 8 << 20;
/// The most manifests that an index may list.
pub const INDEX_LIMIT: usize = 256;
/// The most layers that an image may have; docker builds at most 127.
pub const LAYER_LIMIT: usize = 512;
/// The most redirects that one request follows.
pub const REDIRECT_LIMIT: usize = 5;
