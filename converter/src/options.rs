//! The gateway's options, as the conversion understands them.

use converter_api::{Failure, FailureKind, Options};
use oci_layers::BlockSize;

use crate::failure::failure;

/// Adds what the gateway decides to what the converter decides itself.
///
/// # Errors
/// Of kind `Internal`: the gateway checks its configuration with other code, and that has let something pass.
pub(crate) fn options(
    defaults: &oci_layers::Options,
    asked: &Options,
) -> Result<oci_layers::Options, Failure> {
    let mut options = defaults.clone();
    options.compressor =
        asked.compressor.parse().map_err(|error: oci_layers::CompressorError| {
            Failure::new(FailureKind::Internal, &error)
        })?;
    options.block_size = BlockSize::new(asked.block_size).ok_or_else(|| {
        failure(FailureKind::Internal, format!("there are no blocks of {} bytes", asked.block_size))
    })?;
    options.limits.entries = asked.entries;
    options.limits.expanded_bytes = asked.expanded_bytes;
    options.limits.file_bytes = asked.file_bytes;
    options.limits.ratio = asked.ratio;
    if let Some(workers) = asked.workers {
        options.workers = workers.get().into();
    }
    Ok(options)
}
