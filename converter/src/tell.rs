//! Tells the gateway how far a conversion is, now and then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use converter_api::Reply;
use oci_layers::Progress;

use crate::conversation::Conversation;
use crate::writeback::Writeback;

/// Passes a conversion's progress on, and has written bytes go to the disk meanwhile.
#[derive(Debug)]
pub(crate) struct Teller<'a> {
    conversation: &'a Conversation,
    writeback: &'a Writeback,
    began: Instant,
    /// Milliseconds after `began` at which each layer may be told of again.
    layers: Vec<AtomicU64>,
    image: AtomicU64,
}

impl<'a> Teller<'a> {
    pub(crate) fn new(
        conversation: &'a Conversation,
        writeback: &'a Writeback,
        layers: usize,
    ) -> Self {
        Self {
            conversation,
            writeback,
            began: Instant::now(),
            layers: (0..layers).map(|_| AtomicU64::new(0)).collect(),
            image: AtomicU64::new(0),
        }
    }

    /// Tells whether it is time again, and if so, when the next time is.
    fn is_due(&self, next: &AtomicU64) -> bool {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = next.load(Ordering::Relaxed);
        now >= due
            && next
                .compare_exchange(due, now + INTERVAL_MS, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn tell(&self, reply: &Reply) {
        // Who does not hear how far it is hears how it ends; and without gateway this process is about to be killed.
        let _ = self.conversation.tell(reply);
    }
}

impl Progress for Teller<'_> {
    fn layer(&self, layer: usize, bytes: u64) {
        if self.layers.get(layer).is_some_and(|next| self.is_due(next)) {
            self.tell(&Reply::Taken { layer, bytes });
        }
    }

    fn layer_done(&self, layer: usize, reused: bool) {
        self.tell(&Reply::LayerDone { layer, reused });
    }

    fn written(&self, bytes: u64) {
        self.writeback.written(bytes);
        if self.is_due(&self.image) {
            self.tell(&Reply::Written { bytes });
        }
    }
}

const INTERVAL_MS: u64 = 100;
