//! Why a request was not granted.

use image_ref::{ImageRef, RefError};

use crate::image_dir::ImageDirError;
use crate::pull::error::PullError;
use crate::registries::SourceError;
use crate::store::StoreError;

/// Why a request was not granted; knows no HTTP.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The text is no reference.
    #[error("`{}` is not a reference to an image: {why}", .text.escape_debug())]
    Reference {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: RefError,
    },
    /// There is no such image, or none for this caller: which of both is not said.
    #[error("image not found: {0} has not been pulled, or you may not use it")]
    NotFound(ImageRef),
    /// The image is known and its file is gone.
    #[error("image not found: the file of {0} is gone from the image directory")]
    FileGone(ImageRef),
    /// Only the image's owner may do this.
    #[error("{reference} belongs to user {owner}; only its owner or an admin can delete it")]
    NotOwner {
        /// The image.
        reference: ImageRef,
        /// Whose it is.
        owner: u32,
    },
    /// Images of this kind come from no registry.
    #[error("{0} cannot be pulled: only docker: images come from registries")]
    NotPullable(ImageRef),
    /// The reference means no registry that may be used.
    #[error("cannot pull {reference}: {why}")]
    Source {
        /// The reference.
        reference: ImageRef,
        /// Why not.
        why: SourceError,
    },
    /// An access list is malformed.
    #[error("{key} is `{}`, not numbers with commas between them", .text.escape_debug())]
    AccessList {
        /// Which list.
        key: &'static str,
        /// What it says.
        text: String,
    },
    /// A pull could not even begin.
    #[error(transparent)]
    Pull(Box<PullFailure>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The image directory failed.
    #[error(transparent)]
    ImageDir(#[from] ImageDirError),
    /// The image directory does not answer: a file system that hangs.
    #[error("the image directory does not answer")]
    Silent {
        /// How long it was waited for.
        seconds: u64,
    },
    /// A thread ended before its work did.
    #[error("a thread of the gateway failed")]
    Thread(#[from] tokio::task::JoinError),
}

/// A pull that could not begin, and of what.
#[derive(Debug, thiserror::Error)]
#[error("cannot pull {reference}")]
pub struct PullFailure {
    /// What was to be pulled.
    pub reference: ImageRef,
    /// Why it could not.
    #[source]
    pub error: PullError,
}
