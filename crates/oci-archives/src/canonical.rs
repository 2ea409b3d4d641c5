//! The manifest and configuration that an image is given whose file has none with a digest.
//!
//! Their bytes decide what such an image is known by, for ever: JSON without blanks, the keys in the order in which they
//! stand here, nothing else in it. See the decision about identities of imports.

use image_ref::{Digest, Platform};
use oci_documents::{LayerCompression, ManifestKind};
use serde::Serialize;

use crate::layer::{Layer, hash_bytes};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: Digest,
    size: u64,
}

#[derive(Serialize)]
struct Config<'a> {
    architecture: &'a str,
    os: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
    rootfs: RootFs<'a>,
}

#[derive(Serialize)]
struct RootFs<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: [&'a Digest; 1],
}

/// The digest of the manifest for a configuration and layers.
pub(crate) fn manifest(config: Digest, config_size: usize, layers: &[Layer]) -> Digest {
    let descriptor = |media_type, digest, size| Descriptor { media_type, digest, size };
    let layers = layers.iter().map(|layer| {
        let media_type = match layer.compression {
            LayerCompression::None => "application/vnd.oci.image.layer.v1.tar",
            LayerCompression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            LayerCompression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        };
        let media_type = if layer.is_squashfs() { SQUASHFS } else { media_type };
        descriptor(media_type, layer.digest, layer.size)
    });
    let manifest = Manifest {
        schema_version: 2,
        media_type: ManifestKind::OciManifest.media_type(),
        config: descriptor("application/vnd.oci.image.config.v1+json", config, config_size as u64),
        layers: layers.collect(),
    };
    // Numbers and strings always have a JSON form.
    hash_bytes(&serde_json::to_vec(&manifest).unwrap_or_default())
}

/// The configuration of a file system that says nothing of itself.
pub(crate) fn config(platform: &Platform, content: &Digest) -> Vec<u8> {
    let config = Config {
        architecture: &platform.architecture,
        os: &platform.os,
        variant: platform.variant.as_deref(),
        rootfs: RootFs { kind: "layers", diff_ids: [content] },
    };
    serde_json::to_vec(&config).unwrap_or_default()
}

/// There is no registered media type for it.
const SQUASHFS: &str = "application/vnd.gantry.layer.v1.squashfs";
