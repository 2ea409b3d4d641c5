//! The gateway's memory: which images there are, what they are called, which pulls run.
//!
//! The trait speaks the domain's words and knows no SQL; `conformance.rs` says what every implementation must do.

pub mod embedded;
pub mod record;

#[cfg(test)]
mod conformance;

use std::time::Duration;

use async_trait::async_trait;
use gateway_api::{ErrorBody, Status};
use image_ref::{Digest, ImageRef};

use crate::config::SystemName;
use record::{Content, Grant, Image, Pull, PullKey, Ticket};

/// A store of images and pulls. Every change is durable when the call returns.
#[async_trait]
pub trait Store: Send + Sync {
    /// The image that a reference stands for; `id:` finds it by its digest.
    async fn image(
        &self,
        system: &SystemName,
        reference: &ImageRef,
    ) -> Result<Option<Image>, StoreError>;

    /// Every image of a system, the latest first.
    async fn images(&self, system: &SystemName) -> Result<Vec<Image>, StoreError>;

    /// The images of a system that have a layer of any of these contents, the latest first.
    ///
    /// An image whose layers' contents were not recorded is none of them.
    async fn images_with_layers(
        &self,
        system: &SystemName,
        diff_ids: &[Digest],
    ) -> Result<Vec<Image>, StoreError>;

    /// Begins a pull, unless one with this key runs. A failed one is replaced, and one whose lease has ended.
    ///
    /// The pull is the caller's for `lease`; every [`Self::advance`] makes it so anew.
    async fn claim(
        &self,
        key: &PullKey,
        grant: &Grant,
        lease: Duration,
    ) -> Result<Claim, StoreError>;

    /// Moves a running pull to a running state, or leaves it in the one it has, and extends its lease.
    ///
    /// # Errors
    /// [`StoreError::Lost`] where somebody else has claimed the pull, or it has ended.
    async fn advance(
        &self,
        ticket: &Ticket,
        status: Status,
        lease: Duration,
    ) -> Result<(), StoreError>;

    /// Ends a pull with its image: adds the image or merges the grant into the one that is there, moves the tag to
    /// it and removes the pull, all in one step. Returns the image as it is then.
    ///
    /// `image.tags` and `image.access` are not looked at: the ticket and the grant say them.
    ///
    /// # Errors
    /// [`StoreError::Lost`] as for [`Self::advance`]; then nothing has changed.
    async fn complete(
        &self,
        ticket: &Ticket,
        image: &Image,
        grant: &Grant,
    ) -> Result<Image, StoreError>;

    /// Ends a pull with the reason why it failed.
    ///
    /// # Errors
    /// [`StoreError::Lost`] as for [`Self::advance`].
    async fn fail(&self, ticket: &Ticket, failure: &ErrorBody) -> Result<(), StoreError>;

    /// Every pull that runs or failed, the oldest first; failed ones for [`FAILURE_KEPT`] seconds.
    async fn pulls(&self, system: &SystemName) -> Result<Vec<Pull>, StoreError>;

    /// Claims every running pull whose worker is gone. To be called once, before anything is pulled.
    async fn take_over(&self, lease: Duration) -> Result<Vec<(Ticket, Pull)>, StoreError>;

    /// Removes a reference, or with `id:` an image and all its references. An image that loses its last reference
    /// so is removed too. `None`, and nothing changed, where the reference does not stand for this digest (any more).
    async fn remove(
        &self,
        system: &SystemName,
        reference: &ImageRef,
        digest: &Digest,
    ) -> Result<Option<Image>, StoreError>;

    /// Replaces what is known of an image's content; nothing where there is no such image. Who may use it stays.
    async fn describe(
        &self,
        system: &SystemName,
        digest: &Digest,
        content: &Content,
    ) -> Result<(), StoreError>;

    /// Asks the store for a sign of life, by a read and a write.
    async fn check(&self) -> Result<(), StoreError>;
}

/// How long failed pulls stay in the queue's list, in seconds; as long as Shifter keeps them.
pub const FAILURE_KEPT: f64 = 300.0;

/// What became of an attempt to begin a pull.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// The pull is the caller's to do.
    Won(Ticket),
    /// Somebody is doing it.
    Running(Pull),
}

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The pull is no longer the caller's.
    #[error("the pull of {0} was taken over or has ended")]
    Lost(ImageRef),
    /// The file system cannot hold the file safely.
    #[error(
        "{path} lies on {kind}, where the store would be damaged\nhint: set StorePath to a file on a local disk"
    )]
    NetworkFileSystem {
        /// The file.
        path: std::path::PathBuf,
        /// The file system's name.
        kind: &'static str,
    },
    /// Another gateway has the file.
    #[error("another gateway uses {0}")]
    InUse(std::path::PathBuf),
    /// A later version of Gantry wrote the file.
    #[error("{path} was written by a later version (schema {found}, known is {known})")]
    Schema {
        /// The file.
        path: std::path::PathBuf,
        /// The version in the file.
        found: i64,
        /// The version of this program.
        known: i64,
    },
    /// A file operation failed.
    #[error("cannot {operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// No room is left.
    #[error("the store has no room left")]
    Full(#[source] rusqlite::Error),
    /// SQLite failed.
    #[error("cannot {operation} in the store")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: rusqlite::Error,
    },
    /// A row does not hold what was written into it.
    #[error("the store holds a damaged {what}: {value}")]
    Damaged {
        /// What it should be.
        what: &'static str,
        /// What is there.
        value: String,
    },
    /// The thread that does the store's work ended.
    #[error("the store's thread failed while it tried to {0}")]
    Thread(&'static str),
}
