//! Lookup tables: metadata blocks followed by a list of where each of them starts.

use crate::block::BlockEncoder;
use crate::error::WriteError;
use crate::metadata::METADATA_BLOCK;
use crate::sink::Sink;

/// Writes `entries` as a lookup table and returns the offset of its list of blocks, which is what the superblock
/// names.
pub(crate) fn write_table(
    entries: &[u8],
    sink: &mut Sink<'_>,
    encoder: &mut BlockEncoder,
) -> Result<u64, WriteError> {
    let mut list = Vec::new();
    for chunk in entries.chunks(METADATA_BLOCK) {
        list.extend_from_slice(&sink.position().to_le_bytes());
        let mut block = Vec::new();
        encoder.append_metadata(chunk, &mut block)?;
        sink.append(&block)?;
    }
    let start = sink.position();
    sink.append(&list)?;
    Ok(start)
}
