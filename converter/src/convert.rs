//! A conversion of layers that the gateway downloads.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::thread;

use converter_api::{Compression, Convert, Converted, Failure, FailureKind, LayerSpec};
use oci_layers::{Layer, Options, Summary};

use crate::conversation::Conversation;
use crate::failure::{convert_failure, failure, write_failure};
use crate::options::options;
use crate::tell::Teller;
use crate::writeback::{Writeback, keep_up};

/// Writes the image of the asked layers into `out`, reusing blocks of `sources` where it can.
pub(crate) fn run(
    conversation: &Arc<Conversation>,
    defaults: &Options,
    request: &Convert,
    out: &File,
    sources: Vec<File>,
) -> Result<Converted, Failure> {
    let options = options(defaults, &request.options)?;
    let layers = request.layers.iter().enumerate();
    let layers = layers.map(|(index, spec)| layer(conversation, index, spec)).collect();
    convert_layers(conversation, layers, sources, out, &options)
}

/// Converts, tells how far it is, and has the image go to the disk meanwhile.
pub(crate) fn convert_layers(
    conversation: &Conversation,
    layers: Vec<Layer>,
    sources: Vec<File>,
    out: &File,
    options: &Options,
) -> Result<Converted, Failure> {
    let (writeback, woken) = Writeback::new();
    thread::scope(|scope| {
        let synced = scope.spawn(move || keep_up(out, &woken));
        let teller = Teller::new(conversation, &writeback, layers.len());
        let summary = oci_layers::convert(layers, sources, out, options, &teller);
        drop(teller);
        drop(writeback);
        let synced = synced.join();
        let summary = summary.map_err(|error| convert_failure(&error))?;
        match synced {
            Ok(Ok(())) => Ok(converted(&summary, options)),
            Ok(Err(error)) => Err(write_failure(&error)),
            Err(_) => Err(failure(FailureKind::Internal, "the image's writeback broke off")),
        }
    })
}

/// A layer that the gateway starts to download once the conversion gets to it.
fn layer(conversation: &Arc<Conversation>, index: usize, spec: &LayerSpec) -> Layer {
    let conversation = Arc::clone(conversation);
    Layer {
        digest: spec.digest,
        diff_id: spec.diff_id,
        size: spec.size,
        compression: match spec.compression {
            Compression::None => oci_layers::Compression::None,
            Compression::Gzip => oci_layers::Compression::Gzip,
            Compression::Zstd => oci_layers::Compression::Zstd,
        },
        open: Box::new(move || {
            Ok(Box::new(conversation.open_layer(index)?) as Box<dyn Read + Send>)
        }),
    }
}

fn converted(summary: &Summary, options: &Options) -> Converted {
    Converted {
        made_by: options.describe(),
        entries: summary.entries,
        bytes: summary.bytes,
        files: summary.files,
        directories: summary.directories,
        links: summary.links,
        hard_links: summary.hard_links,
        devices: summary.skipped.devices,
        fifos: summary.skipped.fifos,
        reused_layers: summary.reused.layers,
        reused_bytes: summary.reused.bytes,
    }
}
