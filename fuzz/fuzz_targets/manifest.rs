//! Manifests, indexes and configurations are what a registry says: what is believed keeps the limits.
//!
//! The parsers are private to their crate, so that their files are compiled in here.
#![no_main]
#![allow(dead_code, missing_docs, reason = "only the parsers of these files are used")]

#[rustfmt::skip]
#[path = "../../crates/oci-registry/src/config.rs"]
mod config;
#[rustfmt::skip]
#[path = "../../crates/oci-registry/src/index.rs"]
mod index;
#[rustfmt::skip]
#[path = "../../crates/oci-registry/src/json.rs"]
mod json;
#[rustfmt::skip]
#[path = "../../crates/oci-registry/src/manifest.rs"]
mod manifest;
#[rustfmt::skip]
#[path = "../../crates/oci-registry/src/media_type.rs"]
mod media_type;

use image_ref::{Digest, Platform};
use libfuzzer_sys::fuzz_target;
use oci_registry::{CONFIG_LIMIT, INDEX_LIMIT, LAYER_LIMIT};

fuzz_target!(|bytes: &[u8]| {
    let platform = Platform::host();
    for header in [None, Some("application/vnd.oci.image.manifest.v1+json")] {
        let _ = manifest::parse_kind(bytes, header);
    }
    if let Ok(manifest) = manifest::parse_manifest(bytes, Digest::from_bytes([0; 32]), &platform) {
        assert!(manifest.layers.len() <= LAYER_LIMIT && manifest.config.size <= CONFIG_LIMIT);
    }
    let _ = index::choose(bytes, &platform);
    if let Ok(config) = config::parse_config(bytes, 1) {
        assert_eq!(config.diff_ids.len(), 1);
        assert!(!config.env.iter().any(|text| text.contains('\0')));
    }
});
