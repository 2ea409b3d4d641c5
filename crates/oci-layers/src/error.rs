//! Why a conversion failed, and on which layer.

use std::io;

use image_ref::Digest;
use squashfs::WriteError;

use crate::limits::LimitExceeded;
use crate::path::LayerPath;
use crate::tar::TarError;

/// The error of [`convert`](crate::convert).
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A layer could not be read or is not what it should be.
    #[error("layer {} ({digest}) cannot be converted", .index + 1)]
    Layer {
        /// Its place in the list that was given, the lowest being 0.
        index: usize,
        /// The digest of its blob.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: LayerError,
    },
    /// The image could not be written.
    #[error("the image cannot be written")]
    Image(#[source] WriteError),
}

/// What is wrong with one layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The caller's source could not be opened or read on.
    #[error("its blob cannot be read")]
    Source(#[source] io::Error),
    /// The blob is shorter or longer than its descriptor says.
    #[error("its blob has {} bytes instead of {expected}", if *.longer { format!("more than {found}") } else { found.to_string() })]
    Size {
        /// Bytes that the descriptor announced.
        expected: u64,
        /// Bytes that came.
        found: u64,
        /// Whether there was still more.
        longer: bool,
    },
    /// The SHA-256 of the blob is not the digest that the descriptor names.
    #[error("its blob has the digest {found} instead of {expected}")]
    Digest {
        /// What the descriptor says.
        expected: Digest,
        /// What the bytes have.
        found: Digest,
    },
    /// The SHA-256 of the decompressed layer is not the diff_id that the configuration names.
    #[error("its content has the diff_id {found} instead of {expected}")]
    DiffId {
        /// What the configuration says.
        expected: Digest,
        /// What the bytes have.
        found: Digest,
    },
    /// The bytes are no valid stream of the compression that they start with.
    #[error("it cannot be decompressed as {compression}")]
    Decompress {
        /// `gzip`, `zstd`, or `plain tar`.
        compression: &'static str,
        /// What the decompressor said.
        #[source]
        source: io::Error,
    },
    /// The blob is compressed in a way that the image specification does not have.
    #[error("it is compressed with {compression}, but layers can only be plain, gzip or zstd")]
    Unsupported {
        /// The name of the compression.
        compression: &'static str,
    },
    /// The decompressed bytes are no well-formed tar archive.
    #[error("it is not a well-formed tar archive")]
    Tar(#[source] TarError),
    /// An entry cannot be applied.
    #[error("its entry `{path}` cannot be applied")]
    Entry {
        /// The entry.
        path: LayerPath,
        /// Why not.
        #[source]
        source: EntryError,
    },
    /// The layer needs more than the caller allows.
    #[error("it is over a limit")]
    Limit(#[source] LimitExceeded),
    /// Its content was taken for unreachable and is needed after all: a defect of this program.
    #[error("the content of `{path}` was dropped although it is needed")]
    Dropped {
        /// The file that needs it.
        path: LayerPath,
    },
    /// Its blocks could not be compressed.
    #[error("its content cannot be compressed")]
    Encode(#[source] WriteError),
    /// Another layer failed first; never returned to the caller.
    #[error("it was not read on because another layer failed")]
    Stopped,
}

/// Why an entry cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// A hard link to something that no layer up to here has.
    #[error("it is a hard link to `{target}`, which does not exist in the image")]
    LinkTargetMissing {
        /// The name it links to.
        target: LayerPath,
    },
    /// A hard link to a directory.
    #[error("it is a hard link to `{target}`, which is a directory")]
    LinkToDirectory {
        /// The name it links to.
        target: LayerPath,
    },
    /// The entry names the root, but is no directory.
    #[error("the root of an image can only be a directory")]
    RootNotDirectory,
    /// More symbolic links on the way to the entry than Linux would follow.
    #[error("there are too many symbolic links on the way to it")]
    LinkLoop,
    /// A symbolic link without a target.
    #[error("it is a symbolic link without a target")]
    EmptyTarget,
    /// The directories on the way to it, once symbolic links are followed, are too deep or too many.
    #[error("it needs directories beyond a limit")]
    Limit(#[source] LimitExceeded),
}

impl ConvertError {
    /// Tells whether the layer exceeds one of the limits in [`Options`](crate::Options).
    pub fn is_limit(&self) -> bool {
        self.layer_error().is_some_and(|error| {
            matches!(
                error,
                LayerError::Limit(_) | LayerError::Entry { source: EntryError::Limit(_), .. }
            )
        })
    }

    /// Tells whether a layer's bytes are not those that its descriptor and the configuration name.
    pub fn is_digest_mismatch(&self) -> bool {
        self.layer_error().is_some_and(|error| {
            matches!(
                error,
                LayerError::Digest { .. } | LayerError::DiffId { .. } | LayerError::Size { .. }
            )
        })
    }

    /// Tells whether the source of a layer failed: a broken download, or an image that blocks were copied from.
    pub fn is_source(&self) -> bool {
        match self {
            Self::Layer { source, .. } => matches!(source, LayerError::Source(_)),
            Self::Image(source) => matches!(source, WriteError::Copy { .. }),
        }
    }

    fn layer_error(&self) -> Option<&LayerError> {
        match self {
            Self::Layer { source, .. } => Some(source),
            Self::Image(_) => None,
        }
    }
}
