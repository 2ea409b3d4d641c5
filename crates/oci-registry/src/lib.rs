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
mod connections;
mod credentials;
mod endpoint;
mod error;
mod failure;
mod patience;
mod session;
mod tags;
mod token;
mod transport;

pub use asked::{Asked, Wanted};
pub use blob::BlobStream;
pub use connections::Connections;
pub use credentials::Credentials;
pub use endpoint::{AuthMethod, Endpoint};
pub use error::RegistryError;
pub use oci_documents::{
    CONFIG_LIMIT, Descriptor, INDEX_LIMIT, ImageConfig, LAYER_LIMIT, LayerCompression,
    MANIFEST_LIMIT, Manifest, ManifestKind,
};
pub use patience::Timeouts;
pub use reqwest::Url;
pub use session::{Resolved, Session};
pub use tokio_util::bytes::Bytes;

/// The most redirects that one request follows.
pub const REDIRECT_LIMIT: usize = 5;
