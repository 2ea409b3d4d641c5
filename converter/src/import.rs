//! An import: what an uploaded file holds, and the image of it.

use std::fs::File;
use std::sync::Arc;

use converter_api::{
    Answer, ChannelError, Converted, Failure, FailureKind, Import, MESSAGE_LIMIT, Plan,
    PlannedLayer, Reply,
};
use image_ref::Platform;
use oci_archives::{ArchiveError, ErrorKind, LayerCompression, Planned, Wanted};
use oci_layers::{Compression, Layer, Options};

use crate::conversation::Conversation;
use crate::convert::convert_layers;
use crate::failure::failure;
use crate::options::options;

/// Plans the import of `upload`, has the gateway agree to it, and writes the image into `out`.
///
/// Every layer is a range of the upload, read by position: nothing is unpacked.
pub(crate) fn run(
    conversation: &Arc<Conversation>,
    defaults: &Options,
    request: &Import,
    out: &File,
    upload: File,
) -> Result<Converted, Failure> {
    let options = options(defaults, &request.options)?;
    let platform: Platform = request
        .platform
        .parse()
        .map_err(|error: image_ref::PlatformError| Failure::new(FailureKind::Internal, &error))?;
    let expanded_bytes = request.options.expanded_bytes;
    let wanted = Wanted { platform, image: request.image.clone(), expanded_bytes };
    let planned = oci_archives::plan(upload, &wanted).map_err(|error| archive_failure(&error))?;
    let plan = plan(&planned);
    let answer = conversation.ask(&Reply::Planned(plan.clone())).map_err(|error| {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        match cause {
            Some(ChannelError::TooLong) => too_large(&plan),
            _ => Failure::new(FailureKind::Internal, &error),
        }
    })?;
    let (Answer::Go { .. }, sources) = answer else {
        let text = "the gateway answered something else than was asked";
        return Err(failure(FailureKind::Internal, text));
    };
    let sources = sources.into_iter().map(File::from).collect();
    let layers = planned.layers.into_iter().map(layer).collect();
    convert_layers(conversation, layers, sources, out, &options)
}

fn plan(planned: &Planned) -> Plan {
    let config = &planned.config;
    let layers = planned.layers.iter().map(|layer| PlannedLayer {
        digest: layer.digest,
        diff_id: layer.diff_id,
        size: layer.size,
    });
    Plan {
        digest: planned.digest,
        format: planned.format.to_string(),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        workdir: config.workdir.clone(),
        labels: config.labels.clone(),
        created: config.created.clone(),
        platform: config.platform.to_string(),
        layers: layers.collect(),
    }
}

/// Says what of an image makes it more than the gateway can be told.
fn too_large(plan: &Plan) -> Failure {
    let length = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
    let labels = plan.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    let parts = [
        ("environment", length(&plan.env)),
        ("entrypoint", length(&plan.entrypoint)),
        ("command", length(&plan.cmd)),
        ("working directory", plan.workdir.len()),
        ("labels", labels),
    ];
    let (part, bytes) = parts.into_iter().max_by_key(|(_, bytes)| *bytes).unwrap_or_default();
    let text = format!(
        "its configuration is too large, above all its {part} with {bytes} bytes: with the list of layers it may have \
         {MESSAGE_LIMIT} bytes of JSON"
    );
    failure(FailureKind::Limit, text)
}

/// Of a squashfs the conversion reads the tar archive that is made of it: that has digests of its own.
fn layer(layer: oci_archives::Layer) -> Layer {
    let (digest, size) = layer.stream();
    Layer {
        digest,
        diff_id: layer.diff_id,
        size,
        compression: match layer.compression {
            LayerCompression::None => Compression::None,
            LayerCompression::Gzip => Compression::Gzip,
            LayerCompression::Zstd => Compression::Zstd,
        },
        open: Box::new(move || layer.open()),
    }
}

fn archive_failure(error: &ArchiveError) -> Failure {
    let kind = match error.kind() {
        ErrorKind::Limit => FailureKind::Limit,
        ErrorKind::Mismatch => FailureKind::Mismatch,
        ErrorKind::Source => FailureKind::Source,
        ErrorKind::Platform => FailureKind::Platform,
        ErrorKind::Invalid => FailureKind::Invalid,
    };
    Failure::new(kind, error)
}
