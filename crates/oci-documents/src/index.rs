//! The index of an image: one manifest for each platform, of which one is chosen.
//!
//! OCI image specification, image index; Docker manifest list.

use crate::INDEX_LIMIT;
use crate::json;
use crate::manifest::{Flaw, RawDescriptor};
use crate::media_type::{LayerCompression, ManifestKind};
use image_ref::{Digest, Platform, PlatformError};
use serde::Deserialize;

/// The manifest that was chosen from an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The digest of the manifest.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// What the index says it is.
    pub kind: ManifestKind,
}

/// Why no manifest could be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unchosen {
    /// The index cannot be used.
    Flaw(Flaw),
    /// It has no image for the platform, but for these.
    NoPlatform(Vec<Platform>),
}

impl From<Flaw> for Unchosen {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(flaw)
    }
}

/// Chooses the image for `platform`.
///
/// An image of the very variant is best, then one that names no variant, then the first that fits. Entries without a
/// platform count only where nothing else fits; those for `unknown/unknown` are attestations (buildkit) and never do,
/// nor do those whose platform is none by its spelling. Of the platforms there are, the first [`OFFERED_LIMIT`] are told.
pub fn choose(bytes: &[u8], platform: &Platform) -> Result<Entry, Unchosen> {
    let raw: RawIndex = json::parse(bytes).map_err(Flaw::Invalid)?;
    if raw.manifests.len() > INDEX_LIMIT {
        let count = raw.manifests.len();
        return Err(Flaw::Limit(format!(
            "its index lists {count} manifests, more than {INDEX_LIMIT}"
        ))
        .into());
    }
    let mut offered = Vec::new();
    let mut best: Option<(u8, &RawEntry)> = None;
    for entry in &raw.manifests {
        let rank = match entry.platform.as_ref().map(RawPlatform::checked) {
            Some(Ok(there)) if there.os != "unknown" => {
                let rank = rank(platform, &there);
                if offered.len() < OFFERED_LIMIT && !offered.contains(&there) {
                    offered.push(there);
                }
                rank
            }
            Some(_) => continue,
            None => Some(3),
        };
        if let Some(rank) = rank
            && best.is_none_or(|(other, _)| rank < other)
        {
            best = Some((rank, entry));
        }
    }
    let Some((_, entry)) = best else { return Err(Unchosen::NoPlatform(offered)) };
    let kind = ManifestKind::parse(&entry.descriptor.media_type).map_err(Flaw::Invalid)?;
    if kind.is_index() {
        return Err(Flaw::Invalid("its index leads to another index".to_owned()).into());
    }
    let descriptor = entry.descriptor.checked(LayerCompression::None)?;
    Ok(Entry { digest: descriptor.digest, size: descriptor.size, kind })
}

/// How well an image for `there` suits `platform`, 0 being best; `None` where it does not.
fn rank(platform: &Platform, there: &Platform) -> Option<u8> {
    platform.accepts(there).then_some(match (&platform.variant, &there.variant) {
        (own, other) if own == other => 0,
        (_, None) => 1,
        _ => 2,
    })
}

#[derive(Deserialize)]
struct RawIndex {
    manifests: Vec<RawEntry>,
}

#[derive(Deserialize)]
struct RawEntry {
    #[serde(flatten)]
    descriptor: RawDescriptor,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
struct RawPlatform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl RawPlatform {
    fn checked(&self) -> Result<Platform, PlatformError> {
        parse_platform(&self.os, &self.architecture, self.variant.as_deref())
    }
}

/// Reads a platform's words as a platform is written: what is not spelt like one never reaches a reader.
pub(crate) fn parse_platform(
    os: &str,
    architecture: &str,
    variant: Option<&str>,
) -> Result<Platform, PlatformError> {
    let variant = variant.filter(|variant| !variant.is_empty());
    [os, architecture].into_iter().chain(variant).collect::<Vec<_>>().join("/").parse()
}

/// More platforms than this tell nobody more.
const OFFERED_LIMIT: usize = 16;

#[cfg(test)]
mod tests;
