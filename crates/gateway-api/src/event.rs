//! How far a pull is.

use image_ref::Digest;
use serde::{Deserialize, Serialize};

use crate::{ErrorBody, Status};

/// One line of the event stream of a pull: everything there is to know at that moment.
///
/// The stream is newline-delimited JSON. Every event stands alone, so a client that misses some loses nothing.
/// The last one has the status `READY` or `FAILURE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PullEvent {
    /// The state.
    pub status: Status,
    /// What is going on, in words.
    pub message: String,
    /// The digest of the image, once it is resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The layers, lowest first; empty until the manifest is known.
    pub layers: Vec<LayerProgress>,
    /// Bytes of the squashfs written so far; the final size in the last event.
    pub written: u64,
    /// Seconds since the pull began.
    pub seconds: f64,
    /// Why the pull failed, in the last event of one that did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ErrorBody>,
}

/// The message of the last event where nothing had to be made, because the image was there.
pub const ALREADY_THERE: &str = "already there";

/// How far one layer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerProgress {
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Bytes of the blob taken in so far.
    pub done: u64,
    /// What is happening to it.
    pub state: LayerState,
}

/// What is happening to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerState {
    /// Not begun.
    Waiting,
    /// Being downloaded and converted.
    Pulling,
    /// Finished and its digest verified.
    Done,
    /// Finished without being downloaded: taken from an image that was there.
    Reused,
}

impl LayerState {
    /// Tells whether nothing more will happen to the layer.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Done | Self::Reused)
    }
}
