//! Has the image go to the disk while it is being written.
//!
//! The gateway syncs the file before it publishes it. Were nothing written back until then, the whole image would wait
//! for the disk at the end, when nothing else is left to do.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Counts what is written and says when it is time.
#[derive(Debug)]
pub(crate) struct Writeback {
    due: AtomicU64,
    /// Gone once the conversion has ended.
    wake: SyncSender<()>,
}

impl Writeback {
    /// The counter and what [`keep_up`] waits for.
    pub(crate) fn new() -> (Self, Receiver<()>) {
        let (wake, woken) = sync_channel(1);
        (Self { due: AtomicU64::new(STRIDE), wake }, woken)
    }

    /// The image has `bytes` bytes so far; quick, and may be called often.
    pub(crate) fn written(&self, bytes: u64) {
        if bytes >= self.due.load(Ordering::Relaxed) {
            self.due.store(bytes.saturating_add(STRIDE), Ordering::Relaxed);
            // One that is still under way will be followed by another.
            let _ = self.wake.try_send(());
        }
    }
}

/// Syncs the file's data whenever it is time, until the counter is gone.
///
/// # Errors
/// That of the first sync that failed. It must not be lost: the kernel tells it once for an open file, so the gateway's
/// own sync would succeed.
pub(crate) fn keep_up(out: &File, woken: &Receiver<()>) -> io::Result<()> {
    while let Ok(()) = woken.recv() {
        out.sync_data()?;
    }
    Ok(())
}

const STRIDE: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_wakes_once_for_each_stride_and_ends_with_its_counter() {
        let (writeback, woken) = Writeback::new();
        writeback.written(STRIDE - 1);
        assert!(woken.try_recv().is_err());
        writeback.written(STRIDE);
        writeback.written(STRIDE + 1);
        assert!(woken.try_recv().is_ok());
        assert!(woken.try_recv().is_err());
        writeback.written(u64::MAX);
        drop(writeback);
        keep_up(&tempfile::tempfile().unwrap(), &woken).unwrap();
    }

    #[test]
    fn a_sync_that_fails_is_told() {
        let (writeback, woken) = Writeback::new();
        writeback.written(STRIDE);
        drop(writeback);
        // A pipe cannot be synchronised.
        let (reader, _writer) = io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(reader));
        assert!(keep_up(&pipe, &woken).is_err());
    }
}
