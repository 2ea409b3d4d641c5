//! Manifests, indexes and configurations are what a registry or a file says: what is believed keeps the limits.
#![no_main]

use image_ref::{Digest, Platform};
use libfuzzer_sys::fuzz_target;
use oci_documents::{CONFIG_LIMIT, LAYER_LIMIT, choose, parse_config, parse_kind, parse_manifest};

fuzz_target!(|bytes: &[u8]| {
    let platform = Platform::host();
    for header in [None, Some("application/vnd.oci.image.manifest.v1+json")] {
        let _ = parse_kind(bytes, header);
    }
    if let Ok(manifest) = parse_manifest(bytes, Digest::from_bytes([0; 32]), &platform) {
        assert!(manifest.layers.len() <= LAYER_LIMIT && manifest.config.size <= CONFIG_LIMIT);
    }
    let _ = choose(bytes, &platform);
    if let Ok(config) = parse_config(bytes, 1) {
        assert_eq!(config.diff_ids.len(), 1);
        assert!(!config.env.iter().any(|text| text.contains('\0')));
    }
});
