//! Why a request was not granted.

use image_ref::{ImageRef, Kind, RefError};

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
    #[error("image not found: {} has not been {}, or you may not use it", .0, come(.0))]
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
    /// The site lets nobody import.
    #[error("this site takes no imports")]
    NoImports,
    /// The site lets only some users import.
    #[error("you may not import images at this site")]
    NoImporter,
    /// An import cannot have such a name.
    #[error("{0} cannot be imported: imports are called custom:NAME:TAG")]
    NotImportable(ImageRef),
    /// The name is another user's.
    #[error("{0} is an import of another user; only they or an admin can import it anew")]
    NameTaken(ImageRef),
    /// The caller has an import that is not over.
    #[error("another import of yours is not over; there can be one at a time")]
    Busy,
    /// Somebody else is importing under that name.
    #[error("somebody is importing {0} at this moment")]
    NameBusy(ImageRef),
    /// The file is too large.
    #[error("the file has {size} bytes, {allowed} are allowed at this site")]
    TooLarge {
        /// Bytes of the file.
        size: u64,
        /// Bytes that are allowed.
        allowed: u64,
    },
    /// The image directory cannot hold the file.
    #[error("the image directory has no room for the file")]
    NoRoom,
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

/// How an image of this name would have come.
fn come(reference: &ImageRef) -> &'static str {
    match reference.kind() {
        Kind::Custom => "imported",
        Kind::Docker | Kind::Id => "pulled",
    }
}

/// A pull or import that could not begin, and of what.
#[derive(Debug, thiserror::Error)]
#[error("cannot begin with {reference}")]
pub struct PullFailure {
    /// What was to be pulled.
    pub reference: ImageRef,
    /// Why it could not.
    #[source]
    pub error: PullError,
}
