//! Sparse maps: which parts of a file an archive holds.

use super::TarProblem;
use super::header::{Block, field, parse_number};
use super::pax::parse_decimal;

/// A part of a file that is not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// The parts of a file and its whole size.
#[derive(Debug)]
pub(super) struct Map {
    pub segments: Vec<Segment>,
    pub size: u64,
}

impl Map {
    /// Checks that the segments ascend, stay inside the file, and are together what the archive holds.
    pub(super) fn check(&self, stored: u64) -> Result<(), TarProblem> {
        let mut end = 0_u64;
        let mut sum = 0_u64;
        for segment in &self.segments {
            if segment.offset < end {
                return Err(TarProblem::SparseMap);
            }
            end = segment.offset.checked_add(segment.length).ok_or(TarProblem::SparseMap)?;
            sum += segment.length; // cannot wrap: no more than `end`
        }
        if end <= self.size && sum == stored { Ok(()) } else { Err(TarProblem::SparseMap) }
    }
}

/// The size, the first four segments, and whether more blocks follow, of an old GNU header (type `S`).
pub(super) fn parse_old_header(block: &Block) -> Result<(u64, Vec<Segment>, bool), TarProblem> {
    let size = number(field(block, 483, 12))?;
    let mut segments = Vec::new();
    take_old_segments(field(block, 386, 96), &mut segments)?;
    Ok((size, segments, field(block, 482, 1) != [0]))
}

/// Adds the 21 segments of a block that continues an old GNU header; tells whether more follow.
pub(super) fn parse_old_continuation(
    block: &Block,
    segments: &mut Vec<Segment>,
) -> Result<bool, TarProblem> {
    take_old_segments(field(block, 0, 504), segments)?;
    Ok(field(block, 504, 1) != [0])
}

fn take_old_segments(fields: &[u8], segments: &mut Vec<Segment>) -> Result<(), TarProblem> {
    for pair in fields.chunks_exact(24) {
        let (offset, length) = pair.split_at(12);
        // An empty field ends the list.
        if offset.first() == Some(&0) || length.first() == Some(&0) {
            break;
        }
        segments.push(Segment { offset: number(offset)?, length: number(length)? });
    }
    Ok(())
}

fn number(field: &[u8]) -> Result<u64, TarProblem> {
    let value = parse_number(field, "sparse map")?;
    u64::try_from(value).map_err(|_| TarProblem::Number("sparse map"))
}

/// The map of PAX form 1.0 while its blocks come: a count, then offset and length of each segment.
#[derive(Debug, Default)]
pub(super) struct DataMap {
    digits: Vec<u8>,
    numbers: Vec<u64>,
}

impl DataMap {
    /// Takes one block; gives the segments once they are complete.
    pub(super) fn take(&mut self, block: &Block) -> Result<Option<Vec<Segment>>, TarProblem> {
        for byte in block {
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > LONGEST_NUMBER {
                    return Err(TarProblem::SparseMap);
                }
                continue;
            }
            self.numbers.push(parse_decimal(&self.digits).ok_or(TarProblem::SparseMap)?);
            self.digits.clear();
            if let Some((count, numbers)) = self.numbers.split_first()
                && count.checked_mul(2) == Some(numbers.len() as u64)
            {
                return Ok(Some(pairs(numbers)));
            }
        }
        Ok(None)
    }
}

fn pairs(numbers: &[u64]) -> Vec<Segment> {
    let pair = |pair: &[u64]| match pair {
        [offset, length] => Some(Segment { offset: *offset, length: *length }),
        _ => None,
    };
    numbers.chunks_exact(2).filter_map(pair).collect()
}

/// Digits of 2^64.
const LONGEST_NUMBER: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn map(parts: &[(u64, u64)], size: u64) -> Map {
        let segment = |(offset, length): &(u64, u64)| Segment { offset: *offset, length: *length };
        Map { segments: parts.iter().map(segment).collect(), size }
    }

    #[test]
    fn segments_must_ascend_and_fit() {
        assert_eq!(map(&[(0, 5), (5, 5), (100, 0)], 100).check(10), Ok(()));
        for (parts, size, stored) in [
            (&[(5, 5), (0, 5)][..], 100, 10),
            (&[(0, 6), (5, 5)], 100, 11),
            (&[(0, 101)], 100, 101),
            (&[(0, 5)], 100, 6),
            (&[(u64::MAX, 2)], u64::MAX, 2),
        ] {
            assert!(map(parts, size).check(stored).is_err(), "{parts:?}");
        }
    }

    #[test]
    fn a_map_in_the_data_may_cross_blocks() {
        let text: Vec<u8> = std::iter::once("100\n".to_owned())
            .chain((0..100).map(|n| format!("{}\n1\n", n * 1000)))
            .collect::<String>()
            .into_bytes();
        let mut data = DataMap::default();
        let mut found = None;
        for chunk in text.chunks(512) {
            let mut block = [0; 512];
            block[..chunk.len()].copy_from_slice(chunk);
            assert!(found.is_none());
            found = data.take(&block).unwrap();
        }
        let segments = found.unwrap();
        assert_eq!(segments.len(), 100);
        assert_eq!(segments[99], Segment { offset: 99_000, length: 1 });
    }

    #[test]
    fn a_map_without_line_ends_or_with_a_huge_count_is_refused() {
        assert!(DataMap::default().take(&[b'1'; 512]).is_err());
        let mut block = [b'\n'; 512];
        block[..20].copy_from_slice(b"18446744073709551615");
        assert!(DataMap::default().take(&block).is_err(), "empty numbers follow");
    }
}
