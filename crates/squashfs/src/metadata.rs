//! Metadata: a stream of bytes cut into blocks of 8 KiB, each compressed on its own.

use crate::block::BlockEncoder;
use crate::error::WriteError;

/// One metadata stream, such as the inode table, growing in memory in its compressed form.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    table: Vec<u8>,
    pending: Vec<u8>,
}

/// Where the next byte of a metadata stream will stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Offset of the compressed block from the start of the table.
    pub block: u32,
    /// Offset inside the block once it is decompressed, always below 8192.
    pub offset: u16,
}

impl Position {
    /// The 64-bit inode reference of the format.
    pub(crate) fn reference(self) -> u64 {
        u64::from(self.block) << 16 | u64::from(self.offset)
    }
}

impl Metadata {
    /// Where the next byte will stand; fails once the table has passed 4 GiB.
    pub(crate) fn position(&self) -> Result<Position, WriteError> {
        let block = u32::try_from(self.table.len())
            .map_err(|_| WriteError::TooLarge { what: "metadata tables" })?;
        Ok(Position { block, offset: self.pending.len() as u16 })
    }

    /// Appends bytes, compressing each block as it fills.
    pub(crate) fn write(
        &mut self,
        mut bytes: &[u8],
        encoder: &mut BlockEncoder,
    ) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            let room = METADATA_BLOCK - self.pending.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == METADATA_BLOCK {
                self.flush(encoder)?;
            }
        }
        Ok(())
    }

    /// Ends the stream and returns the table.
    pub(crate) fn finish(mut self, encoder: &mut BlockEncoder) -> Result<Vec<u8>, WriteError> {
        if !self.pending.is_empty() {
            self.flush(encoder)?;
        }
        Ok(self.table)
    }

    fn flush(&mut self, encoder: &mut BlockEncoder) -> Result<(), WriteError> {
        encoder.append_metadata(&self.pending, &mut self.table)?;
        self.pending.clear();
        Ok(())
    }
}

/// Bytes of a metadata block before compression (`SQUASHFS_METADATA_SIZE`).
pub(crate) const METADATA_BLOCK: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compressor::Compressor;

    #[test]
    fn positions_follow_block_borders() {
        let mut encoder = BlockEncoder::new(Compressor::default()).unwrap();
        let mut metadata = Metadata::default();
        metadata.write(&[7; 8191], &mut encoder).unwrap();
        assert_eq!(metadata.position().unwrap(), Position { block: 0, offset: 8191 });
        metadata.write(&[7; 3], &mut encoder).unwrap();
        let position = metadata.position().unwrap();
        assert_eq!(position.offset, 2);
        assert!(position.block > 2);
        let table = metadata.finish(&mut encoder).unwrap();
        let first = u16::from_le_bytes([table[0], table[1]]);
        assert_eq!(u32::from(first) + 2, position.block);
    }
}
