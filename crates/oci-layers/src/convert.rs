//! The conversion: threads that read layers and encode blocks around one that writes the image.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};

use image_ref::Digest;
use squashfs::{BlockEncoder, Content, Writer};

use crate::blob::{Expected, Source};
use crate::commit::{Committed, Incoming};
use crate::content::Owner;
use crate::error::{ConvertError, LayerError};
use crate::flatten::flatten;
use crate::index::{
    LayerKey, Part, Record, StoredLayer, description, encode_layer, encode_places, encode_trailer,
};
use crate::layer::{LayerIndex, read_layer};
use crate::limits::{Limits, Usage};
use crate::mask::{Mask, Reach};
use crate::merge::MergedTree;
use crate::options::Options;
use crate::path::LayerPath;
use crate::pipeline::{EndOnPanic, LayerSink, Next, Pipeline, Stopped};
use crate::reuse::{Found, Reusable, Sources};
use crate::units::{Places, Units};

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

impl Layer {
    fn key(&self) -> LayerKey {
        LayerKey { digest: self.digest, diff_id: self.diff_id, size: self.size }
    }
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
    /// Layer `index` is done: read whole and found right, or, if `reused`, its blocks are taken from another image.
    fn layer_done(&self, index: usize, reused: bool);
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
    /// What was taken from other images.
    pub reused: Reused,
}

/// What a conversion took from the images that it was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reused {
    /// Layers that were not read.
    pub layers: u64,
    /// Bytes of blocks that were copied instead of compressed.
    pub bytes: u64,
}

/// Names that are left out of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Character and block devices.
    pub devices: u64,
    /// Named pipes.
    pub fifos: u64,
}

/// Writes what `layers`, the lowest first, show when stacked into `out`, as one squashfs with its index behind it.
///
/// Layers that one of `sources` has are not opened: their blocks are copied from there. These are images that this
/// function wrote, none of which is changed before it returns; one that is damaged or made otherwise is of no use, and
/// no error. Whoever gives them answers for it that the image's readers may see those layers.
///
/// Returns only after size, digest and diff_id of every layer that is read were found right. The file is not synced,
/// and on an error holds no superblock, so that nothing mounts it. What is written depends on the layers, the compressor
/// and the block size alone, not on the sources, the number of threads, the budget or the speed of anything.
pub fn convert(
    layers: Vec<Layer>,
    sources: Vec<File>,
    out: &File,
    options: &Options,
    progress: &(dyn Progress + Sync),
) -> Result<Summary, ConvertError> {
    let usage = Usage::new(&options.limits);
    let sources = Sources::open(sources, options);
    let keys: Vec<LayerKey> = layers.iter().map(Layer::key).collect();
    let pipeline = Pipeline::new(layers.len(), options.budget);
    let stack = Stack {
        found: keys.iter().map(|key| sources.find(key)).collect(),
        keys: &keys,
        unread: layers.into_iter().map(|layer| Mutex::new(Some(layer))).collect(),
        taken: AtomicUsize::new(0),
        pipeline: &pipeline,
        usage: &usage,
        options,
        progress,
    };
    let committed = thread::scope(|scope| {
        // Before there are threads: where one cannot be had, the others must not be waited for.
        let _guard = EndOnPanic(&pipeline);
        for _ in 0..options.workers.max(1) {
            scope.spawn(|| stack.encode_blocks());
        }
        for _ in 0..options.readers.max(1) {
            scope.spawn(|| stack.read_layers());
        }
        let committed = stack.commit_layers(scope, out);
        pipeline.end();
        committed
    });
    // The reason why the pipeline stopped counts more than that it did.
    if let Some(error) = pipeline.failure() {
        return Err(error);
    }
    let Image { writer, mask: _, layers, records, reused } = committed?;
    let (tree, mut summary) = merge(layers, &keys, &options.limits)?;
    let index = |end| encode_trailer(&records, &description(options), end);
    summary.bytes = writer.finish_with(&tree, index).map_err(ConvertError::Image)?;
    summary.reused = reused;
    progress.written(summary.bytes);
    Ok(summary)
}

/// An image whose data has been written.
struct Image<'f> {
    writer: Writer<'f>,
    mask: Mask,
    /// The lowest first, once all are there.
    layers: Vec<Committed>,
    /// Of those layers that fit in an index.
    records: Vec<Record<Part>>,
    reused: Reused,
}

/// The layers and everything that the threads share.
struct Stack<'a> {
    keys: &'a [LayerKey],
    /// By layer: where it may be taken from. Readers leave those layers alone.
    found: Vec<Vec<Found<'a>>>,
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
            if self.found.get(index).is_some_and(Vec::is_empty) && !self.read_layer(index) {
                return;
            }
        }
    }

    /// Reads a layer, unless it has been read; tells whether to go on.
    fn read_layer(&self, index: usize) -> bool {
        let layer = self
            .unread
            .get(index)
            .and_then(|layer| layer.lock().unwrap_or_else(PoisonError::into_inner).take());
        let Some(layer) = layer else { return true };
        if self.pipeline.is_ended() {
            return false;
        }
        match self.read_blob(index, layer) {
            Ok(()) => self.progress.layer_done(index, false),
            Err(LayerError::Stopped) => return false,
            Err(error) => {
                self.pipeline.fail(self.layer_error(index, error));
                return false;
            }
        }
        true
    }

    fn read_blob(&self, index: usize, layer: Layer) -> Result<(), LayerError> {
        let Layer { digest, diff_id, size, open, compression: _ } = layer;
        let watch = |bytes| {
            self.progress.layer(index, bytes);
            !self.pipeline.is_ended()
        };
        let source = Source::new(open().map_err(LayerError::Source)?, size, &watch);
        let expected = Expected { digest, diff_id, size };
        let sink = LayerSink::new(self.pipeline, index);
        let usage = self.usage.layer();
        let (found, sink) = read_layer(source, expected, &usage, self.options.block_size, sink)?;
        sink.finish(found);
        Ok(())
    }

    /// A worker: encodes blocks until there are none.
    fn encode_blocks(&self) {
        let _guard = EndOnPanic(self.pipeline);
        step_back();
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
    fn commit_layers<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        out: &'env File,
    ) -> Result<Image<'env>, ConvertError> {
        let writer = Writer::new(out, self.options.compressor, self.options.block_size)
            .map_err(ConvertError::Image)?;
        let mut image = Image {
            writer,
            mask: Mask::default(),
            layers: Vec::new(),
            records: Vec::new(),
            reused: Reused::default(),
        };
        for layer in (0..self.keys.len()).rev() {
            if self.reuse_layer(layer, &mut image)? {
                continue;
            }
            if self.found.get(layer).is_some_and(|found| !found.is_empty()) {
                // No reader has taken it. It gets one of its own: the others may wait for room, which they get only
                // when this layer is done.
                scope.spawn(move || {
                    let _guard = EndOnPanic(self.pipeline);
                    self.read_layer(layer);
                });
            }
            self.commit_layer(layer, &mut image)?;
        }
        image.layers.reverse();
        image.records.reverse();
        Ok(image)
    }

    /// Takes a layer from one of the sources; `false` if none of them has all that is needed.
    fn reuse_layer<'env>(
        &'env self,
        layer: usize,
        image: &mut Image<'env>,
    ) -> Result<bool, ConvertError> {
        for found in self.found.get(layer).into_iter().flatten() {
            // Before anything is decoded: what that takes is in proportion to the counts. The source only claims them: a
            // layer that truly has so much is refused when it is read.
            if self.usage.check_layer(found.counts()).is_err() {
                continue;
            }
            let Some(reusable) = found.load(&image.mask, self.options) else { continue };
            if !self.usage.add_layer(found.counts()) {
                continue;
            }
            let (places, contents) =
                reusable.commit(&mut image.writer).map_err(ConvertError::Image)?;
            image.reused.layers += 1;
            image.reused.bytes += reusable.bytes();
            let Reusable { stored: StoredLayer { index, units }, part, reach, .. } = reusable;
            self.keep(layer, image, Some(part), (index, units, places), (contents, reach));
            self.progress.layer_done(layer, true);
            self.progress.written(image.writer.position());
            return Ok(true);
        }
        Ok(false)
    }

    fn commit_layer(&self, layer: usize, image: &mut Image<'_>) -> Result<(), ConvertError> {
        let mut incoming = Incoming::new(&mut image.writer);
        for sequence in 0.. {
            match self.pipeline.take(layer, sequence) {
                Ok(Next::Block(encoded)) => {
                    incoming.add(encoded, &image.mask).map_err(ConvertError::Image)?;
                    self.progress.written(incoming.position());
                }
                Ok(Next::End(index)) => {
                    let reach = image.mask.reach(&index.changeset, index.objects.len());
                    let (units, places, contents) =
                        incoming.finish(&index, &reach).map_err(ConvertError::Image)?;
                    let part = encode_layer(&index, &units);
                    self.keep(layer, image, part, (index, units, places), (contents, reach));
                    return Ok(());
                }
                Err(Stopped) => break,
            }
        }
        Err(self.layer_error(layer, LayerError::Stopped))
    }

    /// Remembers a layer whose blocks are written, for the tree, the index and the layers below.
    fn keep(
        &self,
        layer: usize,
        image: &mut Image<'_>,
        part: Option<Part>,
        (index, units, places): (LayerIndex, Units, Places),
        (contents, reach): (Vec<Option<Content>>, Reach),
    ) {
        let LayerIndex { changeset, objects: _, counts } = index;
        if let (Some(key), Some(part), Some(placed)) =
            (self.keys.get(layer), part, encode_places(&units, &places))
        {
            let start = places.start;
            image.records.push(Record { key: *key, counts, start, layer: part, places: placed });
        }
        if layer > 0 {
            image.mask.add(&changeset, reach);
        }
        image.layers.push(Committed { changeset, contents });
    }

    fn layer_error(&self, index: usize, source: LayerError) -> ConvertError {
        layer_error(self.keys, index, source)
    }
}

/// Lets this thread run only where the readers and the committer need no processor.
///
/// A layer is a serial thing: on few cores, threads that take turns with its reader slow it down until they have nothing
/// left to do. It took an eighth of the time on two.
fn step_back() {
    // Linux has priorities for threads, and None is the calling one (setpriority(2), NOTES). Without it it is slower.
    let _ = rustix::process::setpriority_process(None, ENCODER_NICENESS);
}

fn merge(
    committed: Vec<Committed>,
    keys: &[LayerKey],
    limits: &Limits,
) -> Result<(squashfs::Tree, Summary), ConvertError> {
    let mut merged = MergedTree::new(limits.depth);
    let mut contents = Vec::with_capacity(committed.len());
    for (layer, Committed { changeset, contents: own }) in committed.into_iter().enumerate() {
        merged.apply(layer, &changeset).map_err(|(path, source)| {
            layer_error(keys, layer, LayerError::Entry { path: path.clone(), source })
        })?;
        contents.push(own);
    }
    flatten(merged, contents).map_err(|missing| {
        let path = LayerPath::default().child(&missing.name);
        layer_error(keys, missing.layer, LayerError::Dropped { path })
    })
}

fn layer_error(keys: &[LayerKey], index: usize, source: LayerError) -> ConvertError {
    let digest = keys.get(index).map_or(Digest::from_bytes([0; 32]), |key| key.digest);
    ConvertError::Layer { index, digest, source }
}

/// A tenth of an ordinary thread's share.
const ENCODER_NICENESS: i32 = 10;
