//! The data of one file, block after block, and which parts of it are worth giving.

use crate::codec::Codec;
use crate::error::{EntryProblem, ReadError};
use crate::image::{Image, STORED, read_into};
use crate::inode::File;
use crate::source::ReadAt;
use crate::tar::{self, Segment};
use crate::walk::Tree;

/// The parts of a file that are not holes, or `None` if it has no hole.
///
/// Where there are too many parts for a header, the shortest holes are given as zeros.
pub(crate) fn segments_of(image: &Image, file: &File) -> Option<Vec<Segment>> {
    if file.holes == 0 {
        return None;
    }
    let words = image.inodes.bytes.get(file.words.clone()).unwrap_or_default();
    let mut shortest = 1;
    loop {
        let segments = segments_around(words, file, image.superblock.block_size.into(), shortest);
        if segments.len() <= SEGMENT_LIMIT {
            return Some(segments);
        }
        shortest *= 2;
    }
}

/// The parts of a file between holes of at least `shortest` blocks; an empty one marks the end of a file behind a hole.
fn segments_around(words: &[u8], file: &File, block_size: u64, shortest: u64) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut push = |from: u64, end: u64| {
        let offset = from * block_size;
        let end = (end * block_size).min(file.size);
        if offset < end {
            segments.push(Segment { offset, length: end - offset });
        }
    };
    let blocks = words.as_chunks::<4>().0.iter().map(|word| *word != [0; 4]);
    let (mut from, mut hole, mut count) = (0, 0, 0);
    for is_data in blocks.chain(file.fragment.map(|_| true)) {
        if !is_data {
            hole += 1;
        } else {
            if hole >= shortest {
                push(from, count - hole);
                from = count;
            }
            hole = 0;
        }
        count += 1;
    }
    if hole >= shortest {
        push(from, count - hole);
        segments.push(Segment { offset: file.size, length: 0 });
    } else {
        push(from, count);
    }
    segments
}

/// How far the data of a file was given.
pub(crate) struct Cursor {
    name: u32,
    file: File,
    /// The parts that are given, and which one is next.
    segments: std::vec::IntoIter<Segment>,
    /// What is left of the current part.
    offset: u64,
    end: u64,
    /// Where the block with number `block` stands in the image.
    block: u64,
    position: u64,
    /// All bytes given.
    given: u64,
}

impl Cursor {
    pub(crate) fn new(name: u32, file: File, segments: Option<Vec<Segment>>) -> Self {
        let whole = || vec![Segment { offset: 0, length: file.size }];
        let segments = segments.unwrap_or_else(whole).into_iter();
        let position = file.start;
        Self { name, file, segments, offset: 0, end: 0, block: 0, position, given: 0 }
    }

    /// Appends the next block; `false` after the last one, which the zeros that fill the archive's block follow.
    pub(crate) fn give<S: ReadAt>(
        &mut self,
        image: &Image,
        tree: &Tree,
        blocks: &mut Blocks<S>,
        out: &mut Vec<u8>,
    ) -> Result<bool, ReadError> {
        while self.offset >= self.end {
            let Some(segment) = self.segments.next() else {
                out.resize(tar::padding(self.given), 0);
                return Ok(false);
            };
            (self.offset, self.end) = (segment.offset, segment.offset + segment.length);
        }
        let block_size = u64::from(image.superblock.block_size);
        let index = self.offset / block_size;
        // Parts begin at blocks, and end with one or with the file.
        let length = (self.end - self.offset).min(block_size) as usize;
        let words = image.inodes.bytes.get(self.file.words.clone()).unwrap_or_default();
        let words: &[[u8; 4]] = words.as_chunks().0;
        let word_at = |index: u64| words.get(index as usize).map(|word| u32::from_le_bytes(*word));
        while self.block < index {
            self.position += u64::from(word_at(self.block).unwrap_or_default() & !STORED);
            self.block += 1;
        }
        let given = match (word_at(index), self.file.fragment) {
            (Some(0), _) => {
                out.resize(length, 0);
                Ok(())
            }
            (Some(word), _) => blocks.read_block(self.position, word, length, out),
            (None, Some(fragment)) => blocks.read_fragment(image, fragment, length, out),
            (None, None) => Err(Stop::Entry(EntryProblem::CutOff)),
        };
        given.map_err(|stop| match stop {
            Stop::Entry(problem) => tree.error(image, self.name, problem),
            Stop::Read(error) => error,
        })?;
        self.offset += length as u64;
        self.given += length as u64;
        Ok(true)
    }
}

/// Reads data blocks, and keeps the fragment block that was read last.
pub(crate) struct Blocks<S> {
    source: S,
    codec: Codec,
    compressed: Vec<u8>,
    fragment: Option<(u32, Vec<u8>)>,
}

enum Stop {
    Entry(EntryProblem),
    Read(ReadError),
}

impl<S: ReadAt> Blocks<S> {
    pub(crate) fn new(source: S, codec: Codec) -> Self {
        Self { source, codec, compressed: Vec::new(), fragment: None }
    }

    /// Reads a block of exactly `length` bytes into `out`, which is empty.
    fn read_block(
        &mut self,
        offset: u64,
        word: u32,
        expected: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        self.decode(offset, word & !STORED, word & STORED != 0, expected, out)?;
        if out.len() != expected {
            let found = out.len();
            return Err(Stop::Entry(EntryProblem::BlockBytes { offset, expected, found }));
        }
        Ok(())
    }

    /// Appends `length` bytes of a fragment block.
    fn read_fragment(
        &mut self,
        image: &Image,
        (index, from): (u32, u32),
        length: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        let outside = || Stop::Entry(EntryProblem::Fragment { index });
        if self.fragment.as_ref().is_none_or(|(kept, _)| *kept != index) {
            let block = *image.fragments.get(index as usize).ok_or_else(outside)?;
            let (_, mut bytes) = self.fragment.take().unwrap_or_default();
            let room = image.superblock.block_size as usize;
            self.decode(block.start, block.length, block.stored, room, &mut bytes)?;
            self.fragment = Some((index, bytes));
        }
        let (_, bytes) = self.fragment.as_ref().ok_or_else(outside)?;
        let part = bytes.get(from as usize..).and_then(|rest| rest.get(..length));
        out.extend_from_slice(part.ok_or_else(outside)?);
        Ok(())
    }

    /// Fills `out` with what a block holds, at most `room` bytes.
    fn decode(
        &mut self,
        offset: u64,
        length: u32,
        stored: bool,
        room: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        if stored {
            out.clear();
            out.resize(length as usize, 0);
            return read_into(&self.source, offset, out).map_err(Stop::Read);
        }
        self.compressed.resize(length as usize, 0);
        read_into(&self.source, offset, &mut self.compressed).map_err(Stop::Read)?;
        out.clear();
        out.resize(room, 0);
        let length = self
            .codec
            .decompress(&self.compressed, out)
            .map_err(|problem| Stop::Entry(EntryProblem::Decompress { offset, problem }))?;
        out.truncate(length);
        Ok(())
    }
}

/// The most parts of a sparse file; readers keep them in memory.
const SEGMENT_LIMIT: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of a file whose blocks are given as `#` (data) and `.` (holes), and perhaps a fragment of 100 bytes.
    fn segments(blocks: &str, fragment: bool, shortest: u64) -> Vec<(u64, u64)> {
        let words: Vec<u8> =
            blocks.bytes().flat_map(|block| u32::from(block == b'#').to_le_bytes()).collect();
        let size = blocks.len() as u64 * 4096 + if fragment { 100 } else { 0 };
        let fragment = fragment.then_some((0, 0));
        let (length, holes, words_at) = (0, 1, 0..words.len());
        let file =
            File { size, start: 96, length, words: words_at, fragment, holes, said_holes: 0 };
        let found = segments_around(&words, &file, 4096, shortest);
        found.into_iter().map(|segment| (segment.offset, segment.length)).collect()
    }

    #[test]
    fn holes_stand_between_the_parts_and_an_empty_part_at_the_end() {
        assert_eq!(segments("##..#", false, 1), [(0, 8192), (16_384, 4096)]);
        assert_eq!(segments("..#.", false, 1), [(8192, 4096), (16_384, 0)]);
        assert_eq!(segments("....", false, 1), [(16_384, 0)]);
        assert_eq!(segments("#..", true, 1), [(0, 4096), (12_288, 100)]);
        assert_eq!(segments("..", true, 1), [(8192, 100)]);
        assert_eq!(segments("#.#", true, 1), [(0, 4096), (8192, 4196)]);
    }

    #[test]
    fn holes_that_are_too_short_are_given_as_zeros() {
        assert_eq!(segments("#.#..#", false, 2), [(0, 12_288), (20_480, 4096)]);
        assert_eq!(segments("#.", false, 2), [(0, 8192)]);
        assert_eq!(segments("#.", true, 2), [(0, 8292)]);
        assert_eq!(segments(".#", false, 2), [(0, 8192)]);
    }
}
