//! The conversion: threads that read layers and encode blocks around one that writes the image.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use image_ref::Digest;
use squashfs::{BlockEncoder, Writer};

use crate::blob::{Expected, Source};
use crate::commit::{Committed, Segment};
use crate::content::Owner;
use crate::error::{ConvertError, LayerError};
use crate::flatten::flatten;
use crate::layer::read_layer;
use crate::limits::{Limits, Usage};
use crate::mask::Mask;
use crate::merge::MergedTree;
use crate::options::Options;
use crate::path::LayerPath;
use crate::pipeline::{EndOnPanic, LayerSink, Next, Pipeline, Stopped};

/// Opens the blob of a layer; called once, when the pipeline gets to it.
pub type Open = Box<dyn FnOnce() -> io::Result<Box<dyn Read + Send>> + Send>;

/// One layer of an image.
pub struct Layer {
    /// SHA-256 of the blob, as the manifest names it.
    pub digest: Digest,
    /// SHA-256 of the decompressed layer, as the configuration names it.
    pub diff_id: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// What the media type says; the bytes decide where they say otherwise.
    pub compression: Compression,
    /// Opens the blob.
    pub open: Open,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A tar archive as it is.
    None,
    /// Gzip, of one or more members.
    Gzip,
    /// Zstandard, of one or more frames, with windows up to 128 MiB.
    Zstd,
}

/// Is told how far a conversion is; called from several threads, often, so it must be quick.
pub trait Progress {
    /// `bytes_taken` bytes of the blob of layer `index` have been read.
    fn layer(&self, index: usize, bytes_taken: u64);
    /// Layer `index` has been read whole and its digests are right.
    fn layer_done(&self, index: usize);
    /// The image has `bytes` bytes so far.
    fn written(&self, bytes: u64);
}

/// What a conversion made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Names in the image, the root not counted.
    pub entries: u64,
    /// Size of the image file, a multiple of 4096.
    pub bytes: u64,
    /// Regular files.
    pub files: u64,
    /// Directories, the root not counted.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Names beyond the first of files and symbolic links.
    pub hard_links: u64,
    /// What the layers show and the image does not.
    pub skipped: Skipped,
}

/// Names that are left out of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Character and block devices.
    pub devices: u64,
    /// Named pipes.
    pub fifos: u64,
}

/// Writes what `layers`, the lowest first, show when stacked into `out`, as one squashfs.
///
/// Returns only after size, digest and diff_id of every layer were found right. The file is not synced, and on an error
/// holds no superblock, so that nothing mounts it. What is written depends on the layers, the compressor and the block
/// size alone, not on the number of threads, the budget or the speed of the sources.
pub fn convert(
    layers: Vec<Layer>,
    out: &File,
    options: &Options,
    progress: &(dyn Progress + Sync),
) -> Result<Summary, ConvertError> {
    let usage = Usage::new(&options.limits);
    let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
    let pipeline = Pipeline::new(layers.len(), options.budget);
    let stack = Stack {
        digests: &digests,
        unread: layers.into_iter().map(|layer| Mutex::new(Some(layer))).collect(),
        taken: AtomicUsize::new(0),
        pipeline: &pipeline,
        usage: &usage,
        options,
        progress,
    };
    let committed = thread::scope(|scope| {
        for _ in 0..options.workers.max(1) {
            scope.spawn(|| stack.encode_blocks());
        }
        for _ in 0..options.readers.max(1) {
            scope.spawn(|| stack.read_layers());
        }
        let _guard = EndOnPanic(&pipeline);
        let committed = stack.commit_layers(out);
        pipeline.end();
        committed
    });
    // The reason why the pipeline stopped counts more than that it did.
    if let Some(error) = pipeline.failure() {
        return Err(error);
    }
    let (writer, committed) = committed?;
    let (tree, mut summary) = merge(committed, &digests, &options.limits)?;
    summary.bytes = writer.finish(&tree).map_err(ConvertError::Image)?;
    progress.written(summary.bytes);
    Ok(summary)
}

/// The layers and everything that the threads share.
struct Stack<'a> {
    digests: &'a [Digest],
    unread: Vec<Mutex<Option<Layer>>>,
    /// How many layers readers have taken, from the top.
    taken: AtomicUsize,
    pipeline: &'a Pipeline,
    usage: &'a Usage<'a>,
    options: &'a Options,
    progress: &'a (dyn Progress + Sync),
}

impl Stack<'_> {
    /// A reader: takes one layer after the other, in the order in which they are committed.
    fn read_layers(&self) {
        let _guard = EndOnPanic(self.pipeline);
        loop {
            let taken = self.taken.fetch_add(1, Ordering::Relaxed);
            let Some(index) = self.unread.len().checked_sub(taken + 1) else { return };
            let layer = self
                .unread
                .get(index)
                .and_then(|layer| layer.lock().unwrap_or_else(PoisonError::into_inner).take());
            let Some(layer) = layer else { return };
            if self.pipeline.is_ended() {
                return;
            }
            match self.read_layer(index, layer) {
                Ok(()) => self.progress.layer_done(index),
                Err(LayerError::Stopped) => return,
                Err(error) => return self.pipeline.fail(self.layer_error(index, error)),
            }
        }
    }

    fn read_layer(&self, index: usize, layer: Layer) -> Result<(), LayerError> {
        let Layer { digest, diff_id, size, open, compression: _ } = layer;
        let watch = |bytes| {
            self.progress.layer(index, bytes);
            !self.pipeline.is_ended()
        };
        let source = Source::new(open().map_err(LayerError::Source)?, size, &watch);
        let expected = Expected { digest, diff_id, size };
        let sink = LayerSink::new(self.pipeline, index);
        let (found, sink) =
            read_layer(source, expected, self.usage, self.options.block_size, sink)?;
        sink.finish(found);
        Ok(())
    }

    /// A worker: encodes blocks until there are none.
    fn encode_blocks(&self) {
        let _guard = EndOnPanic(self.pipeline);
        let mut encoder = match BlockEncoder::new(self.options.compressor) {
            Ok(encoder) => encoder,
            Err(error) => return self.pipeline.fail(ConvertError::Image(error)),
        };
        while let Some(mut job) = self.pipeline.next_job() {
            let data = std::mem::take(&mut job.data);
            let length = data.len();
            let block = match job.owner {
                Owner::Object(_) => encoder.encode_data(data),
                Owner::Fragment(_) => encoder.encode_fragment(data),
            };
            match block {
                Ok(block) => self.pipeline.deliver(job, length, block),
                Err(error) => return self.pipeline.fail(ConvertError::Image(error)),
            }
        }
    }

    /// The committer: writes the data of all layers, the uppermost first.
    fn commit_layers<'f>(
        &self,
        out: &'f File,
    ) -> Result<(Writer<'f>, Vec<Committed>), ConvertError> {
        let mut writer = Writer::new(out, self.options.compressor, self.options.block_size)
            .map_err(ConvertError::Image)?;
        let mut mask = Mask::default();
        let mut committed = Vec::with_capacity(self.digests.len());
        for layer in (0..self.digests.len()).rev() {
            let done = self.commit_layer(layer, &mut writer, &mut mask)?;
            committed.push(done);
        }
        committed.reverse();
        Ok((writer, committed))
    }

    fn commit_layer(
        &self,
        layer: usize,
        writer: &mut Writer<'_>,
        mask: &mut Mask,
    ) -> Result<Committed, ConvertError> {
        let mut segment = Segment::new(writer);
        for sequence in 0.. {
            match self.pipeline.take(layer, sequence) {
                Ok(Next::Block(encoded)) => {
                    segment.add(encoded, mask).map_err(ConvertError::Image)?;
                    self.progress.written(segment.position());
                }
                Ok(Next::End(index)) => {
                    return segment.finish(index, mask).map_err(ConvertError::Image);
                }
                Err(Stopped) => break,
            }
        }
        Err(self.layer_error(layer, LayerError::Stopped))
    }

    fn layer_error(&self, index: usize, source: LayerError) -> ConvertError {
        layer_error(self.digests, index, source)
    }
}

fn merge(
    committed: Vec<Committed>,
    digests: &[Digest],
    limits: &Limits,
) -> Result<(squashfs::Tree, Summary), ConvertError> {
    let mut merged = MergedTree::new(limits.depth);
    let mut contents = Vec::with_capacity(committed.len());
    for (layer, Committed { changeset, contents: own }) in committed.into_iter().enumerate() {
        merged.apply(layer, &changeset).map_err(|(path, source)| {
            layer_error(digests, layer, LayerError::Entry { path: path.clone(), source })
        })?;
        contents.push(own);
    }
    flatten(&merged, contents).map_err(|missing| {
        let path = LayerPath::default().child(&missing.name);
        layer_error(digests, missing.layer, LayerError::Dropped { path })
    })
}

fn layer_error(digests: &[Digest], index: usize, source: LayerError) -> ConvertError {
    let digest = digests.get(index).copied().unwrap_or(Digest::from_bytes([0; 32]));
    ConvertError::Layer { index, digest, source }
}
