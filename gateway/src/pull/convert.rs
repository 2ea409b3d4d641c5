//! From a registry's blobs to one squashfs file.
//!
//! Each layer comes through a pipe: an async task writes into it what the registry sends, the conversion reads it on
//! its own threads. The conversion gets descriptors and nothing else: no address, no login, no path.

use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use futures_util::StreamExt;
use image_ref::Digest;
use oci_layers::{Compression, Layer, Options, Summary};
use oci_registry::{Descriptor, LayerCompression, RegistryError, Session};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::error::PullError;
use super::progress::Progress;
use crate::image_dir::Partial;

/// Downloads the layers, lowest first, each with the digest of its content, and packs them into `out`.
///
/// # Errors
/// The registry's error where a download failed; otherwise the conversion's. [`PullError::Interrupted`] once `stop`
/// is cancelled, [`PullError::Panic`] where the conversion panicked.
pub(super) async fn convert(
    session: Arc<Session>,
    layers: Vec<(Descriptor, Digest)>,
    out: Partial,
    options: Options,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<(Partial, Summary), PullError> {
    let downloads = Downloads {
        session,
        // A conversion that has ended for any reason takes its downloads with it.
        stop: stop.child_token(),
        failure: Arc::default(),
        runtime: Handle::current(),
    };
    let _end_of_downloads = downloads.stop.clone().drop_guard();
    let failure = Arc::clone(&downloads.failure);
    let layers = layers.into_iter().map(|(blob, diff_id)| downloads.layer(blob, diff_id)).collect();
    let work = tokio::task::spawn_blocking(move || {
        oci_layers::convert(layers, out.file(), &options, &*progress).map(|summary| (out, summary))
    });
    match work.await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) if stop.is_cancelled() => Err(PullError::Interrupted),
        // Why the download ended says more than that the conversion missed its bytes.
        Ok(Err(error)) => match failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(registry) => Err(registry.into()),
            None => Err(error.into()),
        },
        Err(_) => Err(PullError::Panic),
    }
}

/// What every download of one image needs.
#[derive(Clone)]
struct Downloads {
    session: Arc<Session>,
    stop: CancellationToken,
    /// The first failure of any of them.
    failure: Arc<Mutex<Option<RegistryError>>>,
    runtime: Handle,
}

impl Downloads {
    /// A layer that is downloaded from the moment that the conversion opens it.
    fn layer(&self, blob: Descriptor, diff_id: Digest) -> Layer {
        let compression = match blob.compression {
            LayerCompression::None => Compression::None,
            LayerCompression::Gzip => Compression::Gzip,
            LayerCompression::Zstd => Compression::Zstd,
        };
        let downloads = self.clone();
        let (digest, size) = (blob.digest, blob.size);
        let open = Box::new(move || {
            let reader = downloads.start(blob)?;
            Ok(Box::new(reader) as Box<dyn Read + Send>)
        });
        Layer { digest, diff_id, size, compression, open }
    }

    fn start(self, blob: Descriptor) -> io::Result<LayerReader> {
        let (reader, writer) = io::pipe()?;
        // A pipe holds 64 KiB by default: that would be a task switch for each packet. Fewer is slower, not wrong.
        let _ = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        let (done, outcome) = mpsc::sync_channel(1);
        let runtime = self.runtime.clone();
        runtime.spawn(async move {
            let result = tokio::select! {
                () = self.stop.cancelled() => Err(DownloadEnd::Stopped),
                result = self.download(&blob, OwnedFd::from(writer)) => result,
            };
            let clean = result.is_ok();
            if let Err(DownloadEnd::Registry(error)) = result {
                let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(error);
            }
            // The reader may be gone already: the conversion has failed elsewhere then.
            let _ = done.send(clean);
        });
        Ok(LayerReader { pipe: reader, outcome: Some(outcome) })
    }

    async fn download(&self, blob: &Descriptor, writer: OwnedFd) -> Result<(), DownloadEnd> {
        let mut pipe = pipe::Sender::from_owned_fd(writer).map_err(|_| DownloadEnd::Reader)?;
        let mut stream = self.session.blob(blob).await?;
        while let Some(bytes) = stream.next().await {
            pipe.write_all(&bytes?).await.map_err(|_| DownloadEnd::Reader)?;
        }
        Ok(())
    }
}

/// Why a download ended before its blob did.
enum DownloadEnd {
    Registry(RegistryError),
    /// The conversion reads no more.
    Reader,
    Stopped,
}

impl From<RegistryError> for DownloadEnd {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

/// The reading end; its end is an error unless the download ended well.
struct LayerReader {
    pipe: PipeReader,
    /// Says whether it did; taken at the first end of file.
    outcome: Option<mpsc::Receiver<bool>>,
}

impl Read for LayerReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.pipe.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            let Some(outcome) = self.outcome.take() else { return Ok(0) };
            if !outcome.recv().unwrap_or(false) {
                return Err(io::Error::other("the download ended early"));
            }
        }
        Ok(count)
    }
}

const PIPE_BYTES: i32 = 1 << 20;
