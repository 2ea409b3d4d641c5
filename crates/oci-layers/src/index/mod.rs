//! The index of an image: what its layers are made of, so that another image can take them over without reading them.
//!
//! It stands behind the squashfs in the same file, so it is published, removed and lost together with the blocks that
//! it speaks of. What it says of a layer is a function of the layer and the options, and so are its bytes, whether the
//! layer was read or taken over itself. Whatever is wrong with an index, there is none: it never fails a conversion.
//!
//! Limits: an index takes at most an eighth of the squashfs and 64 KiB (else it is left out, and the layers of that
//! image are read anew for others); what a layer's part expands to is bounded by [`coding::LARGEST_PART`].

mod coding;
mod layer;
mod places;
mod trailer;

use image_ref::Digest;

pub(crate) use layer::{StoredLayer, decode_layer, encode_layer};
pub(crate) use places::{decode_places, encode_places};
pub(crate) use trailer::{Reference, Trailer, encode_trailer};

use crate::limits::Counts;
use crate::options::Options;

/// A part of an index: compressed, with what is needed to trust and bound it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub bytes: Vec<u8>,
    /// What they expand to.
    pub expanded: u64,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record<P> {
    pub key: LayerKey,
    pub counts: Counts,
    /// Where the layer's data begins in the image.
    pub start: u64,
    /// What the layer is made of: [`layer`].
    pub layer: P,
    /// Where the image holds its blocks: [`places`].
    pub places: P,
}

/// How a layer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerKey {
    pub digest: Digest,
    pub diff_id: Digest,
    /// Bytes of the blob.
    pub size: u64,
}

impl<P> Record<P> {
    /// Tells whether a wanted layer is this one.
    ///
    /// A diff_id alone is only a claim, which is checked when the blob is read: the blob has to be the same one, or, as
    /// in archives of images, the archive itself.
    pub(crate) fn is(&self, wanted: &LayerKey) -> bool {
        let archive = wanted.digest == wanted.diff_id && wanted.size == self.counts.expanded_bytes;
        self.key == *wanted || (self.key.diff_id == wanted.diff_id && archive)
    }
}

/// What everything in an index depends on beside the layers.
pub(crate) fn description(options: &Options) -> blake3::Hash {
    let library = zstd::zstd_safe::version_string();
    let text = format!("{}, index {VERSION}, zstd {library}", options.describe());
    blake3::hash(text.as_bytes())
}

/// Raised whenever the index changes its form, or what it says of the same layer.
const VERSION: u32 = 1;

#[cfg(test)]
mod tests;
