//! The manifest of one image: its configuration and its layers, checked.
//!
//! OCI image specification, image manifest; Docker image manifest version 2, schema 2.

use crate::json;
use crate::media_type::{FOREIGN, LayerCompression, ManifestKind, SCHEMA1, check_config};
use crate::{CONFIG_LIMIT, LAYER_LIMIT};
use image_ref::{Digest, Platform};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// One image, as its manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of the manifest itself: what the image is known by from here on.
    pub digest: Digest,
    /// The platform that it was chosen for.
    pub platform: Platform,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// How many bytes the layers have as they are stored.
    pub fn layer_bytes(&self) -> u64 {
        self.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size))
    }
}

/// A blob by its digest (OCI image specification, content descriptor).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The digest of its bytes as they are stored.
    pub digest: Digest,
    /// How many bytes these are.
    pub size: u64,
    /// How they are compressed; a configuration never is.
    pub compression: LayerCompression,
}

/// Why bytes are no manifest to work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// They are malformed, or of a kind that cannot be run.
    Invalid(String),
    /// They exceed a limit.
    Limit(String),
}

impl From<String> for Flaw {
    fn from(reason: String) -> Self {
        Self::Invalid(reason)
    }
}

/// Decides what a manifest or index is, from the media types that the answer's header and the body itself name.
///
/// Both must agree: one document that is read in two ways is how CVE-2021-41190 works.
pub fn parse_kind(bytes: &[u8], header: Option<&str>) -> Result<ManifestKind, Flaw> {
    let header = header.map(ManifestKind::parse).transpose()?;
    let outline: Outline = json::parse(bytes)?;
    match outline.schema_version {
        2 => {}
        1 => return Err(SCHEMA1.to_owned().into()),
        other => return Err(format!("its manifest has schema version {other}").into()),
    }
    let body = outline.media_type.as_deref().map(ManifestKind::parse).transpose()?;
    let kind = match (header, body) {
        (Some(header), Some(body)) if header != body => {
            return Err(format!(
                "the registry calls it `{}`, it calls itself `{}`",
                header.media_type(),
                body.media_type()
            )
            .into());
        }
        (Some(kind), _) | (None, Some(kind)) => kind,
        (None, None) => return Err("nothing says what media type it has".to_owned().into()),
    };
    let has_image = outline.layers.is_some() || outline.config.is_some();
    let has_list = outline.manifests.is_some();
    if (kind.is_index() && has_image) || (!kind.is_index() && has_list) {
        return Err("it is manifest and index at once".to_owned().into());
    }
    Ok(kind)
}

/// Reads the manifest of one image.
pub fn parse_manifest(bytes: &[u8], digest: Digest, platform: &Platform) -> Result<Manifest, Flaw> {
    let raw: RawManifest = json::parse(bytes)?;
    check_config(&raw.config.media_type)?;
    if raw.config.size > CONFIG_LIMIT {
        return Err(Flaw::Limit(format!(
            "its configuration has {} bytes, more than {CONFIG_LIMIT}",
            raw.config.size
        )));
    }
    if raw.layers.len() > LAYER_LIMIT {
        return Err(Flaw::Limit(format!(
            "it has {} layers, more than {LAYER_LIMIT}",
            raw.layers.len()
        )));
    }
    let config = raw.config.checked(LayerCompression::None)?;
    let layers = raw.layers.iter().map(|layer| {
        let compression = LayerCompression::parse(&layer.media_type)?;
        layer.checked(compression)
    });
    let layers = layers.collect::<Result<Vec<_>, Flaw>>()?;
    Ok(Manifest { digest, platform: platform.clone(), config, layers })
}

/// What tells the kinds of documents apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RawManifest {
    config: RawDescriptor,
    layers: Vec<RawDescriptor>,
}

/// A descriptor as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawDescriptor {
    /// What the blob is.
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    #[serde(default)]
    urls: Option<Vec<IgnoredAny>>,
}

impl RawDescriptor {
    /// Refuses what only another place has and sizes that no file can have.
    ///
    /// # Errors
    /// [`Flaw`], which says what.
    pub fn checked(&self, compression: LayerCompression) -> Result<Descriptor, Flaw> {
        if self.urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
            return Err(FOREIGN.to_owned().into());
        }
        if i64::try_from(self.size).is_err() {
            return Err(Flaw::Limit(format!("a part of it has {} bytes", self.size)));
        }
        Ok(Descriptor { digest: self.digest, size: self.size, compression })
    }
}

#[cfg(test)]
mod tests;
