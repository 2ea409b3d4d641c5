//! Manifests, indexes and configurations of images, wherever they came from: a registry or a file.
//!
//! Pure functions of bytes: bounded in depth and number, and checked as far as a document alone can be. Who has the
//! bytes compares them with their digest; nothing here opens anything.
#![forbid(unsafe_code)]

mod config;
mod index;
mod json;
mod manifest;
mod media_type;

pub use config::{ImageConfig, parse_config};
pub use index::{Entry, Unchosen, choose};
pub use json::parse as parse_json;
pub use manifest::{Descriptor, Flaw, Manifest, RawDescriptor, parse_kind, parse_manifest};
pub use media_type::{LayerCompression, ManifestKind};

/// The largest manifest or index, in bytes; what docker's own registry accepts.
pub const MANIFEST_LIMIT: u64 = 4 << 20;
/// The largest configuration, in bytes.
pub const CONFIG_LIMIT: u64 = 8 << 20;
/// The most manifests that an index may list.
pub const INDEX_LIMIT: usize = 256;
/// The most layers that an image may have; docker builds at most 127.
pub const LAYER_LIMIT: usize = 512;
