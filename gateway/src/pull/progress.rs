//! How far a pull is, for everybody who watches it.
//!
//! One cell with the latest event; a watcher that is slow misses some and loses nothing.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use gateway_api::{ALREADY_THERE, ErrorBody, LayerProgress, LayerState, PullEvent, Status};
use image_ref::Digest;
use tokio::sync::watch;

/// The place where a pull says how far it is.
#[derive(Debug)]
pub struct Progress {
    events: watch::Sender<PullEvent>,
    began: Instant,
    /// When the last event of mere bytes was sent.
    told: Mutex<Instant>,
}

impl Progress {
    /// A pull that begins now.
    pub fn begin() -> Self {
        let event = PullEvent {
            status: Status::Init,
            message: "queued".into(),
            digest: None,
            layers: Vec::new(),
            written: 0,
            seconds: 0.0,
            failure: None,
        };
        let now = Instant::now();
        Self { events: watch::Sender::new(event), began: now, told: Mutex::new(now) }
    }

    /// The latest event.
    pub fn latest(&self) -> PullEvent {
        self.events.borrow().clone()
    }

    /// Watches from now on; the latest event counts as unseen.
    pub fn watch(&self) -> watch::Receiver<PullEvent> {
        let mut receiver = self.events.subscribe();
        receiver.mark_changed();
        receiver
    }

    /// Moves to another state.
    pub fn status(&self, status: Status, message: impl Into<String>) {
        let message = message.into();
        self.change(|event| {
            event.status = status;
            event.message = message;
        });
    }

    /// Says which image it is.
    pub fn digest(&self, digest: Digest) {
        self.change(|event| event.digest = Some(digest));
    }

    /// Says which layers there are, as digests and sizes, lowest first.
    pub fn layers(&self, layers: impl Iterator<Item = (Digest, u64)>) {
        let layers = layers
            .map(|(digest, size)| LayerProgress {
                digest,
                size,
                done: 0,
                state: LayerState::Waiting,
            })
            .collect();
        self.change(|event| event.layers = layers);
    }

    /// Takes over what another pull, of the same image, says of itself.
    pub fn follow(&self, other: &PullEvent) {
        self.change(|event| {
            event.status = other.status;
            event.message.clone_from(&other.message);
            event.layers.clone_from(&other.layers);
            event.written = other.written;
        });
    }

    /// Ends with the image.
    pub fn ready(&self, digest: Digest, size: u64) {
        self.ready_as("ready", digest, size);
    }

    /// Ends with an image that was there, so that nothing had to be made.
    pub fn there(&self, digest: Digest, size: u64) {
        self.ready_as(ALREADY_THERE, digest, size);
    }

    fn ready_as(&self, message: &str, digest: Digest, size: u64) {
        self.change(|event| {
            event.status = Status::Ready;
            event.message = message.into();
            event.digest = Some(digest);
            event.written = size;
            for layer in &mut event.layers {
                layer.done = layer.size;
                if !layer.state.is_finished() {
                    layer.state = LayerState::Done;
                }
            }
        });
    }

    /// Ends without.
    pub fn failed(&self, failure: ErrorBody) {
        self.change(|event| {
            event.status = Status::Failure;
            event.message.clone_from(&failure.error);
            event.failure = Some(failure);
        });
    }

    /// A layer has been taken in as far as `bytes_taken` of its blob. May be called often.
    pub fn taken(&self, index: usize, bytes_taken: u64) {
        self.count(|event| {
            if let Some(layer) = event.layers.get_mut(index) {
                layer.done = bytes_taken.min(layer.size);
                layer.state = LayerState::Pulling;
            }
        });
    }

    /// A layer is finished: `reused` from an image that was there, or downloaded and its digest verified.
    pub fn layer_done(&self, index: usize, reused: bool) {
        self.change(|event| {
            if let Some(layer) = event.layers.get_mut(index) {
                layer.done = layer.size;
                layer.state = if reused { LayerState::Reused } else { LayerState::Done };
            }
            if event.layers.iter().all(|layer| layer.state.is_finished()) {
                event.status = Status::Conversion;
                event.message = "writing the image".into();
            }
        });
    }

    /// The image has been written as far as `bytes`. May be called often.
    pub fn written(&self, bytes: u64) {
        self.count(|event| event.written = bytes);
    }

    fn change(&self, edit: impl FnOnce(&mut PullEvent)) {
        self.events.send_modify(|event| {
            edit(event);
            event.seconds = self.began.elapsed().as_secs_f64();
        });
    }

    /// Changes a number, and wakes the watchers at most ten times a second.
    fn count(&self, edit: impl FnOnce(&mut PullEvent)) {
        self.events.send_if_modified(|event| {
            edit(event);
            event.seconds = self.began.elapsed().as_secs_f64();
            let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let due = told.elapsed() >= BETWEEN_COUNTS;
            if due {
                *told = Instant::now();
            }
            due
        });
    }
}

const BETWEEN_COUNTS: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_api::Code;

    #[test]
    fn a_pull_goes_from_init_through_its_layers_to_ready() {
        let progress = Progress::begin();
        assert_eq!(progress.latest().status, Status::Init);
        progress.layers(
            [(Digest::from_bytes([1; 32]), 10), (Digest::from_bytes([2; 32]), 5)].into_iter(),
        );
        progress.status(Status::Pulling, "pulling");
        progress.taken(0, 7);
        progress.taken(0, 99);
        progress.taken(9, 1);
        assert_eq!(progress.latest().layers[0].done, 10);
        progress.layer_done(0, false);
        assert_eq!(progress.latest().status, Status::Pulling);
        progress.layer_done(1, true);
        progress.layer_done(9, true);
        assert_eq!(progress.latest().status, Status::Conversion);
        progress.ready(Digest::from_bytes([3; 32]), 4096);
        let last = progress.latest();
        assert_eq!((last.status, last.written), (Status::Ready, 4096));
        let states: Vec<_> = last.layers.iter().map(|layer| layer.state).collect();
        assert_eq!(states, [LayerState::Done, LayerState::Reused], "how it went stays to be seen");
    }

    #[test]
    fn bytes_wake_the_watchers_only_now_and_then_and_states_always() {
        let progress = Progress::begin();
        progress.layers([(Digest::from_bytes([1; 32]), 1000)].into_iter());
        let mut watch = progress.watch();
        watch.mark_unchanged();
        for bytes in 0..1000 {
            progress.taken(0, bytes);
        }
        let quick = progress.began.elapsed() < BETWEEN_COUNTS;
        assert!(!quick || !watch.has_changed().unwrap());
        progress.failed(ErrorBody::new(Code::Internal, "x"));
        assert!(watch.has_changed().unwrap());
    }
}
