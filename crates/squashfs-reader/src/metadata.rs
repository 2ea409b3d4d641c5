//! Metadata: streams of bytes that are cut into blocks of 8 KiB, each compressed on its own behind a head of two bytes.

use crate::codec::Codec;
use crate::error::{ReadError, TableName, TableProblem};
use crate::image::{read, read_into};
use crate::source::ReadAt;

/// A table that was read whole: the inodes or the directories.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub bytes: Vec<u8>,
    /// Where each block begins in the file, counted from the beginning of the table, in ascending order.
    blocks: Vec<u32>,
}

impl Stream {
    /// Reads the blocks that fill the range from `start` to `end` of the image, at most `limit` bytes of content.
    ///
    /// Each but the last one must be full: kernels compute places in long directories by that.
    pub(crate) fn read(
        source: &(impl ReadAt + ?Sized),
        codec: &mut Codec,
        table: TableName,
        (start, end): (u64, u64),
        limit: u64,
    ) -> Result<Self, ReadError> {
        let mut stream = Self::default();
        let mut blocks = Blocks::new(source, table, start, end);
        let mut block = [0; BLOCK];
        while blocks.position < end {
            let at = blocks.position;
            let length = blocks.read(codec, &mut block)?;
            let offset = u32::try_from(at - start).map_err(|_| blocks.limit(limit))?;
            let filled = stream.bytes.len();
            if !filled.is_multiple_of(BLOCK) {
                let problem = TableProblem::BlockBytes { expected: BLOCK, found: filled % BLOCK };
                return Err(ReadError::Table { table, offset: at, problem });
            }
            if (filled + length) as u64 > limit {
                return Err(blocks.limit(limit));
            }
            stream.blocks.push(offset);
            stream.bytes.extend_from_slice(block.get(..length).unwrap_or_default());
        }
        Ok(stream)
    }

    /// A table with this content, as if each of its blocks took a byte of the file.
    #[cfg(test)]
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        let blocks = (0..bytes.len().div_ceil(BLOCK) as u32).collect();
        Self { bytes, blocks }
    }

    /// The place in [`Self::bytes`] that the format names by the block it is in and the offset there.
    pub(crate) fn place(&self, block: u32, offset: u16) -> Option<usize> {
        let index = self.blocks.binary_search(&block).ok()?;
        let place = index * BLOCK + usize::from(offset);
        let inside = usize::from(offset) < BLOCK && place < self.bytes.len();
        inside.then_some(place)
    }

    /// Where the block begins that holds `place`, counted from the beginning of the table.
    pub(crate) fn block_of(&self, place: usize) -> Option<u32> {
        self.blocks.get(place / BLOCK).copied()
    }
}

/// Reads the entries of a lookup table, `bytes` together, whose list of blocks begins at `list`.
///
/// Returns the entries, and where the first block begins. The blocks must follow each other without a gap up to the list.
pub(crate) fn read_lookup(
    source: &(impl ReadAt + ?Sized),
    codec: &mut Codec,
    table: TableName,
    list: u64,
    bytes: usize,
) -> Result<(Vec<u8>, u64), ReadError> {
    let wrong = |offset, problem| ReadError::Table { table, offset, problem };
    let starts: Vec<u64> = read(source, list, 8 * bytes.div_ceil(BLOCK))?
        .as_chunks()
        .0
        .iter()
        .map(|start| u64::from_le_bytes(*start))
        .collect();
    let first = starts.first().copied().unwrap_or(list);
    if first > list {
        return Err(wrong(list, TableProblem::List));
    }
    let mut entries = Vec::new();
    let mut blocks = Blocks::new(source, table, first, list);
    let mut block = [0; BLOCK];
    for start in starts {
        if blocks.position != start {
            return Err(wrong(list, TableProblem::List));
        }
        let found = blocks.read(codec, &mut block)?;
        let expected = (bytes - entries.len()).min(BLOCK);
        if found != expected {
            return Err(wrong(start, TableProblem::BlockBytes { expected, found }));
        }
        entries.extend_from_slice(block.get(..found).unwrap_or_default());
    }
    if blocks.position != list {
        return Err(wrong(list, TableProblem::List));
    }
    Ok((entries, first))
}

/// Goes through the blocks of a range, reading ahead.
struct Blocks<'a, S: ?Sized> {
    source: &'a S,
    table: TableName,
    position: u64,
    end: u64,
    /// Bytes of the image from `buffered` on.
    buffer: Vec<u8>,
    buffered: u64,
}

impl<'a, S: ReadAt + ?Sized> Blocks<'a, S> {
    fn new(source: &'a S, table: TableName, start: u64, end: u64) -> Self {
        Self { source, table, position: start, end, buffer: Vec::new(), buffered: start }
    }

    /// Reads the block at the position into the beginning of `block`, and goes to the one behind it.
    fn read(&mut self, codec: &mut Codec, block: &mut [u8; BLOCK]) -> Result<usize, ReadError> {
        let offset = self.position;
        let table = self.table;
        let wrong = |problem| ReadError::Table { table, offset, problem };
        let head = match self.peek(2)? {
            [low, high] => u16::from_le_bytes([*low, *high]),
            _ => return Err(wrong(TableProblem::CutOff)),
        };
        let length = head & !STORED;
        if length == 0 || usize::from(length) > BLOCK {
            return Err(wrong(TableProblem::BlockLength { length }));
        }
        self.position += 2;
        let body = self.peek(length.into())?;
        let filled = if head & STORED != 0 {
            let room = block.get_mut(..body.len()).unwrap_or_default();
            room.copy_from_slice(body);
            body.len()
        } else {
            codec
                .decompress(body, block)
                .map_err(|problem| wrong(TableProblem::Decompress(problem)))?
        };
        if filled == 0 {
            return Err(wrong(TableProblem::BlockBytes { expected: BLOCK, found: 0 }));
        }
        self.position += u64::from(length);
        Ok(filled)
    }

    /// The next `length` bytes, which the range must have.
    fn peek(&mut self, length: usize) -> Result<&[u8], ReadError> {
        let table = self.table;
        let cut_off = |offset| ReadError::Table { table, offset, problem: TableProblem::CutOff };
        let left = self.end.saturating_sub(self.position);
        if left < length as u64 {
            return Err(cut_off(self.position));
        }
        let buffered_to = self.buffered + self.buffer.len() as u64;
        if self.position + length as u64 > buffered_to {
            let ahead = left.min(READ_AHEAD) as usize;
            self.buffer.resize(ahead, 0);
            read_into(self.source, self.position, &mut self.buffer)?;
            self.buffered = self.position;
        }
        let from = (self.position - self.buffered) as usize;
        self.buffer.get(from..from + length).ok_or(cut_off(self.position))
    }

    fn limit(&self, allowed: u64) -> ReadError {
        let what = match self.table {
            TableName::Inodes => "bytes in its inode table",
            _ => "bytes in its directory table",
        };
        ReadError::Limit { what, allowed }
    }
}

/// Bytes of a metadata block before compression (`SQUASHFS_METADATA_SIZE`).
pub(crate) const BLOCK: usize = 8192;
/// Set in the head of a block that is not compressed (`SQUASHFS_COMPRESSED_BIT`).
const STORED: u16 = 1 << 15;
/// More than a block with its head.
const READ_AHEAD: u64 = 64 << 10;
