//! From a registry's blobs to one squashfs file, and the look at it before it is published.
//!
//! Each layer comes through a pipe: an async task writes into it what the registry sends, a child reads it. The child
//! gets descriptors and nothing else: no address, no login, no path; and it is believed nothing that can be checked.

use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use converter_api::{
    Answer, Channel, Compression, Convert, Converted, LayerSpec, MAX_SOURCES, Options, Reply,
    Request,
};
use futures_util::StreamExt;
use gateway_api::Status;
use image_ref::Digest;
use oci_registry::{Descriptor, LayerCompression, RegistryError, Session};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::blocking;
use super::child::{ChildError, Converter, LastWord, Listener};
use super::error::{PullError, chain};
use super::progress::Progress;
use super::queue::locked;
use crate::image_dir::{ImageDir, Partial};

/// Downloads the layers, lowest first, each with the digest of its content, and has them packed into a new file in `dir`.
/// Layers that one of `sources` has need not be downloaded.
///
/// Where a source turns out not to be what it was said to be, or the converter dies over them, everything is downloaded
/// once, without them. Dropping the future kills the child and ends the downloads.
///
/// # Errors
/// The registry's error where a download failed; otherwise the conversion's.
pub(super) async fn convert(
    converter: &Converter,
    session: &Arc<Session>,
    layers: &[(Descriptor, Digest)],
    mut sources: Vec<File>,
    dir: &Arc<ImageDir>,
    options: &Options,
    progress: &Arc<Progress>,
) -> Result<(Partial, Converted), PullError> {
    sources.truncate(MAX_SOURCES);
    let reusing = !sources.is_empty();
    let work = Work { converter, session, layers, dir, options, progress };
    match work.run(sources).await {
        Err(error) if reusing && error.may_lie_in_sources() => {
            warn!(
                "images whose layers were to be reused are of no use, makes the image without them: {}",
                chain(&error)
            );
        }
        made => return made,
    }
    progress.layers(layers.iter().map(|(blob, _)| (blob.digest, blob.size)));
    progress.status(Status::Pulling, "downloading the layers anew");
    work.run(Vec::new()).await
}

/// Has an independent reader look a finished image over.
///
/// # Errors
/// [`PullError::Unfit`] where it must not be published; the child's.
pub(super) async fn examine(
    converter: &Converter,
    out: Partial,
    progress: &Progress,
) -> Result<Partial, PullError> {
    progress.status(Status::Examination, "examining the image");
    let (out, image) = blocking(move || Ok(out.reader().map(|image| (out, image))?)).await?;
    match converter.ask(Request::Examine, vec![image.into()], Silent(out)).await? {
        (LastWord::Examined, Silent(out)) => Ok(out),
        (LastWord::Failed(failure), _) => {
            let unfit = PullError::Unfit(failure.into());
            error!("a defect of Gantry, or a converter in foreign hands: {}", chain(&unfit));
            Err(unfit)
        }
        (LastWord::Converted(_), _) => Err(out_of_order().into()),
    }
}

/// One image to make.
struct Work<'a> {
    converter: &'a Converter,
    session: &'a Arc<Session>,
    layers: &'a [(Descriptor, Digest)],
    dir: &'a Arc<ImageDir>,
    options: &'a Options,
    progress: &'a Arc<Progress>,
}

impl Work<'_> {
    /// One attempt, with a file of its own.
    async fn run(&self, sources: Vec<File>) -> Result<(Partial, Converted), PullError> {
        let dir = Arc::clone(self.dir);
        let out = blocking(move || Ok(dir.partial()?)).await?;
        let request = Request::Convert(Convert {
            options: self.options.clone(),
            layers: self.layers.iter().map(|(blob, diff_id)| spec(blob, *diff_id)).collect(),
            sources: sources.len(),
        });
        let downloads = Downloads {
            session: Arc::clone(self.session),
            stop: CancellationToken::new(),
            failure: Arc::default(),
            runtime: Handle::current(),
        };
        // A conversion that has ended for any reason takes its downloads with it.
        let _end_of_downloads = downloads.stop.clone().drop_guard();
        let failure = Arc::clone(&downloads.failure);
        let first = out.file().try_clone().map_err(ChildError::Pipe)?;
        let descriptors =
            std::iter::once(first).chain(sources).map(OwnedFd::from).collect::<Vec<_>>();
        let making = Making {
            reusing: descriptors.len() > 1,
            layers: self.layers.iter().map(|(blob, _)| (*blob, Stage::Waiting)).collect(),
            downloads,
            out,
            progress: Arc::clone(self.progress),
        };
        let said = self.converter.ask(request, descriptors, making).await;
        // Why a download ended says more than that the conversion missed its bytes.
        if let Some(registry) = locked(&failure).take() {
            return Err(registry.into());
        }
        let (word, making) = said?;
        match word {
            LastWord::Converted(converted) => Ok((making.finish(&converted)?, converted)),
            LastWord::Failed(failure) => Err(PullError::Convert(failure.into())),
            LastWord::Examined => Err(out_of_order().into()),
        }
    }
}

fn spec(blob: &Descriptor, diff_id: Digest) -> LayerSpec {
    LayerSpec {
        digest: blob.digest,
        diff_id,
        size: blob.size,
        compression: match blob.compression {
            LayerCompression::None => Compression::None,
            LayerCompression::Gzip => Compression::Gzip,
            LayerCompression::Zstd => Compression::Zstd,
        },
    }
}

/// Hears how a conversion goes, and starts its downloads.
struct Making {
    layers: Vec<(Descriptor, Stage)>,
    /// Whether there is anything to take layers from.
    reusing: bool,
    downloads: Downloads,
    out: Partial,
    progress: Arc<Progress>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Downloading,
    Done,
}

impl Listener for Making {
    type Error = ChildError;

    fn hear(&mut self, reply: Reply, channel: &Channel) -> Result<(), ChildError> {
        match reply {
            Reply::Open { layer } => {
                let (blob, stage) = self.layers.get_mut(layer).ok_or(NO_SUCH_LAYER)?;
                if *stage != Stage::Waiting {
                    return Err(ChildError::Protocol("it asks for a layer twice"));
                }
                *stage = Stage::Downloading;
                let pipe = self.downloads.clone().start(*blob).map_err(ChildError::Pipe)?;
                // Where it is gone, the next that is heard of it is its end.
                let _ = channel.send(&Answer::Layer { layer }, &[pipe.as_fd()]);
            }
            Reply::Taken { layer, bytes } => {
                let (_, stage) = self.layers.get(layer).ok_or(NO_SUCH_LAYER)?;
                if *stage == Stage::Downloading {
                    self.progress.taken(layer, bytes);
                }
            }
            Reply::LayerDone { layer, reused } => {
                let reusing = self.reusing;
                let (_, stage) = self.layers.get_mut(layer).ok_or(NO_SUCH_LAYER)?;
                match (*stage, reused) {
                    (Stage::Downloading, false) => {}
                    (Stage::Waiting, true) if reusing => {}
                    _ => return Err(ChildError::Protocol("it has a layer from nowhere")),
                }
                *stage = Stage::Done;
                self.progress.layer_done(layer, reused);
            }
            Reply::Written { bytes } => self.progress.written(bytes),
            _ => return Err(out_of_order()),
        }
        Ok(())
    }
}

impl Making {
    /// Checks what can be checked of a success.
    fn finish(self, converted: &Converted) -> Result<Partial, PullError> {
        if self.layers.iter().any(|(_, stage)| *stage != Stage::Done) {
            return Err(ChildError::Protocol("it has an image before it has the layers").into());
        }
        check_file(&self.out, converted)?;
        Ok(self.out)
    }
}

/// Sees that a converter that says it has written an image speaks of the file that is there.
pub(super) fn check_file(out: &Partial, converted: &Converted) -> Result<(), PullError> {
    let length = out.file().metadata().map_err(ChildError::Pipe)?.len();
    if length != converted.bytes {
        return Err(ChildError::Protocol("the image has another size than it says").into());
    }
    let made_by = &converted.made_by;
    if made_by.len() > MADE_BY_LIMIT || !made_by.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Err(ChildError::Protocol("its options are no text").into());
    }
    Ok(())
}

/// Hears nothing before the last word.
struct Silent(Partial);

impl Listener for Silent {
    type Error = ChildError;

    fn hear(&mut self, _: Reply, _: &Channel) -> Result<(), ChildError> {
        Err(out_of_order())
    }
}

pub(super) fn out_of_order() -> ChildError {
    ChildError::Protocol("it says something out of order")
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
    /// Begins a download. The pipe ends early where it fails, and the failure is known before that.
    fn start(self, blob: Descriptor) -> io::Result<PipeReader> {
        let (reader, writer) = io::pipe()?;
        // A pipe holds 64 KiB by default: that would be a task switch for each packet. Fewer is slower, not wrong.
        let _ = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        let runtime = self.runtime.clone();
        let _inside = runtime.enter();
        let mut pipe = pipe::Sender::from_owned_fd(OwnedFd::from(writer))?;
        runtime.spawn(async move {
            let result = tokio::select! {
                () = self.stop.cancelled() => Ok(()),
                result = self.download(&blob, &mut pipe) => result,
            };
            if let Err(error) = result {
                locked(&self.failure).get_or_insert(error);
            }
            drop(pipe);
        });
        Ok(reader)
    }

    async fn download(
        &self,
        blob: &Descriptor,
        pipe: &mut pipe::Sender,
    ) -> Result<(), RegistryError> {
        // The converter hashes every layer, and answers for the image that comes of it, whatever is found here.
        let mut stream = self.session.unverified_blob(blob).await?;
        while let Some(bytes) = stream.next().await {
            if pipe.write_all(&bytes?).await.is_err() {
                // Nobody reads any more: the conversion has failed elsewhere.
                return Ok(());
            }
        }
        Ok(())
    }
}

const NO_SUCH_LAYER: ChildError = ChildError::Protocol("it speaks of a layer that does not exist");
const PIPE_BYTES: i32 = 1 << 20;
const MADE_BY_LIMIT: usize = 200;

#[cfg(test)]
mod tests;
