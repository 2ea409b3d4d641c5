//! From bytes to an encoded block: the part of the work that any number of threads can share.

use std::fmt;
use std::io;

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::compressor::{Compressor, Method};
use crate::error::WriteError;

/// Encodes blocks, one after the other, with buffers that it keeps.
///
/// What it returns depends on the compressor and the bytes alone, never on what was encoded before, so blocks can be
/// dealt out to any number of encoders.
pub struct BlockEncoder {
    compressor: Compressor,
    codec: Codec,
    scratch: Vec<u8>,
}

enum Codec {
    Gzip(Compress),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl BlockEncoder {
    /// Prepares an encoder; fails only where the compressor finds no memory.
    pub fn new(compressor: Compressor) -> Result<Self, WriteError> {
        let level = compressor.level();
        let codec = match compressor.method() {
            Method::Gzip => Codec::Gzip(Compress::new(Compression::new(level.into()), true)),
            Method::Zstd => Codec::Zstd(
                zstd::bulk::Compressor::new(level.into())
                    .map_err(|source| compress_error(compressor, 0, source))?,
            ),
        };
        Ok(Self { compressor, codec, scratch: Vec::new() })
    }

    /// Encodes one block of file data; a block of zeros alone becomes a hole.
    pub fn encode_data(&mut self, data: Vec<u8>) -> Result<Block, WriteError> {
        if data.iter().all(|byte| *byte == 0) {
            return Ok(Block { word: BlockWord::HOLE, bytes: Vec::new() });
        }
        self.encode_fragment(data)
    }

    /// Encodes one fragment block, which cannot be a hole.
    pub fn encode_fragment(&mut self, data: Vec<u8>) -> Result<Block, WriteError> {
        let length = self.compress(&data)?;
        Ok(match self.scratch.get(..length) {
            Some(compressed) if length < data.len() => {
                Block { word: BlockWord::compressed(length), bytes: compressed.to_vec() }
            }
            _ => Block { word: BlockWord::stored(data.len()), bytes: data },
        })
    }

    /// Appends one metadata block to `table`: its 16-bit head, then the bytes, compressed if that is shorter.
    pub(crate) fn append_metadata(
        &mut self,
        data: &[u8],
        table: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        let length = self.compress(data)?;
        let (stored, body) = match self.scratch.get(..length) {
            Some(compressed) if length < data.len() => (0, compressed),
            _ => (METADATA_STORED, data),
        };
        let head =
            u16::try_from(body.len()).map_err(|_| WriteError::TooLarge { what: "metadata" })?;
        table.extend_from_slice(&(head | stored).to_le_bytes());
        table.extend_from_slice(body);
        Ok(())
    }

    /// Compresses into the scratch buffer and returns how much of it counts: `data.len()` where it does not shrink.
    fn compress(&mut self, data: &[u8]) -> Result<usize, WriteError> {
        let failed = |source| compress_error(self.compressor, data.len(), source);
        match &mut self.codec {
            Codec::Zstd(zstd) => {
                let bound = zstd::zstd_safe::compress_bound(data.len());
                if self.scratch.len() < bound {
                    self.scratch.resize(bound, 0);
                }
                zstd.compress_to_buffer(data, self.scratch.as_mut_slice()).map_err(failed)
            }
            Codec::Gzip(zlib) => {
                if self.scratch.len() < data.len() {
                    self.scratch.resize(data.len(), 0);
                }
                zlib.reset();
                let room = self.scratch.get_mut(..data.len()).unwrap_or_default();
                match zlib
                    .compress(data, room, FlushCompress::Finish)
                    .map_err(|e| failed(e.into()))?
                {
                    Status::StreamEnd => {
                        Ok(usize::try_from(zlib.total_out()).unwrap_or(data.len()))
                    }
                    Status::Ok | Status::BufError => Ok(data.len()),
                }
            }
        }
    }
}

impl fmt::Debug for BlockEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockEncoder").field("compressor", &self.compressor).finish_non_exhaustive()
    }
}

fn compress_error(compressor: Compressor, length: usize, source: io::Error) -> WriteError {
    WriteError::Compress { compressor: compressor.to_string(), length, source }
}

/// One encoded block, ready to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// How the inode or the fragment table describes it.
    pub word: BlockWord,
    /// What stands in the file; empty for a hole.
    pub bytes: Vec<u8>,
}

/// The 32-bit size word of a data or fragment block: length in the file, and whether it is stored uncompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockWord(u32);

impl BlockWord {
    /// A block of zeros that takes no room.
    pub const HOLE: Self = Self(0);

    fn compressed(length: usize) -> Self {
        Self(length as u32)
    }

    fn stored(length: usize) -> Self {
        Self(length as u32 | DATA_STORED)
    }

    /// The word as the format writes it.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Takes a word back from its bits, or `None` if no block of at most 1 MiB has such a word.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        let length = bits & !DATA_STORED;
        if length > BlockSize::LARGEST || (length == 0 && bits != 0) {
            return None;
        }
        Some(Self(bits))
    }

    /// Bytes that the block takes in the file.
    pub const fn length(self) -> u32 {
        self.0 & !DATA_STORED
    }

    /// Tells whether the block is a hole.
    pub const fn is_hole(self) -> bool {
        self.0 == 0
    }
}

/// Bytes of file data in one block: a power of two from 4 KiB to 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockSize(u32);

impl BlockSize {
    const SMALLEST: u32 = 4096;
    const LARGEST: u32 = 1 << 20;

    /// Takes a number of bytes that squashfs allows, or `None`.
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= Self::SMALLEST && bytes <= Self::LARGEST {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// The number of blocks that hold `size` bytes.
    pub const fn blocks_for(self, size: u64) -> u64 {
        size.div_ceil(self.0 as u64)
    }

    pub(crate) const fn log2(self) -> u16 {
        self.0.trailing_zeros() as u16
    }
}

impl Default for BlockSize {
    /// 128 KiB: 1 MiB saves 8 % of size but doubles what a job reads to start Python.
    fn default() -> Self {
        Self(128 << 10)
    }
}

/// Set in a data or fragment word whose block is not compressed.
const DATA_STORED: u32 = 1 << 24;
/// Set in the head of a metadata block that is not compressed.
pub(crate) const METADATA_STORED: u16 = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect()
    }

    #[test]
    fn what_does_not_shrink_is_stored_as_it_is() {
        for compressor in [Compressor::default(), Compressor::gzip(6).unwrap()] {
            let block = BlockEncoder::new(compressor).unwrap().encode_data(noise(5000)).unwrap();
            assert_eq!(block.bytes, noise(5000));
            assert_eq!(block.word.bits(), 5000 | 1 << 24);
            assert_eq!(block.word.length(), 5000);
        }
    }

    #[test]
    fn zeros_are_a_hole_in_data_but_not_in_a_fragment() {
        let mut encoder = BlockEncoder::new(Compressor::default()).unwrap();
        assert_eq!(
            encoder.encode_data(vec![0; 131_072]).unwrap(),
            Block { word: BlockWord::HOLE, bytes: vec![] }
        );
        assert!(!encoder.encode_fragment(vec![0; 100]).unwrap().word.is_hole());
    }

    #[test]
    fn a_block_does_not_depend_on_the_one_before_it() {
        for compressor in [Compressor::default(), Compressor::gzip(9).unwrap()] {
            let text = b"whiteout opaque changeset ".repeat(500);
            let fresh = BlockEncoder::new(compressor).unwrap().encode_data(text.clone()).unwrap();
            let mut used = BlockEncoder::new(compressor).unwrap();
            used.encode_data(noise(100_000)).unwrap();
            used.encode_data(b"x".repeat(7)).unwrap();
            assert_eq!(used.encode_data(text).unwrap(), fresh);
            assert!(fresh.bytes.len() < 1000);
        }
    }

    #[test]
    fn only_sizes_that_squashfs_allows_are_block_sizes() {
        assert_eq!(BlockSize::new(4096).unwrap().log2(), 12);
        for bytes in [0, 2048, 5000, 1 << 21, u32::MAX] {
            assert_eq!(BlockSize::new(bytes), None);
        }
        assert_eq!(BlockSize::default().blocks_for(131_073), 2);
    }

    #[test]
    fn words_that_no_block_has_are_refused() {
        assert_eq!(BlockWord::from_bits(0), Some(BlockWord::HOLE));
        assert!(BlockWord::from_bits(1 << 24).is_none());
        assert!(BlockWord::from_bits((1 << 20) + 1).is_none());
        assert!(BlockWord::from_bits(1 << 25 | 5).is_none());
    }
}
