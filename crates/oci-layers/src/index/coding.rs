//! How an index is written: variable-length numbers, bytes, and paths that share a beginning with the one before.
//!
//! Reading never trusts a number: what is not there is `None`, and nothing is allocated before it was read.

use std::io::Read;

use super::Part;
use crate::limits::Limits;
use crate::path::LayerPath;

/// Writes the inside of a part.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    path: Vec<u8>,
}

impl Encoder {
    /// Appends a number in groups of seven bits, the lowest first.
    pub(crate) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// Appends how far `value` is from where it was expected; neighbours are small numbers.
    pub(crate) fn delta(&mut self, value: u64, expected: u64) {
        let delta = value.wrapping_sub(expected) as i64;
        self.number(((delta << 1) ^ (delta >> 63)) as u64);
    }

    /// Appends bytes with their number.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a path as what it has in common with the last one, and the rest.
    pub(crate) fn path(&mut self, path: &LayerPath) {
        let path = path.as_bytes();
        let common = path.iter().zip(&self.path).take_while(|(a, b)| a == b).count();
        let rest = path.get(common..).unwrap_or_default();
        self.number(common as u64);
        self.path.truncate(common);
        self.path.extend_from_slice(rest);
        self.number(rest.len() as u64);
        self.bytes.extend_from_slice(rest);
    }

    /// Compresses what was written; `None` if it is too much for an index, or memory ran out.
    pub(crate) fn finish(self) -> Option<Part> {
        let expanded = self.bytes.len() as u64;
        if expanded > LARGEST_PART {
            return None;
        }
        let bytes = zstd::bulk::compress(&self.bytes, LEVEL).ok()?;
        Some(Part { bytes, expanded })
    }
}

/// Reads the inside of a part.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    path: Vec<u8>,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(expanded: &'a [u8]) -> Self {
        Self { rest: expanded, path: Vec::new() }
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn delta(&mut self, expected: u64) -> Option<u64> {
        let number = self.number()?;
        Some(expected.wrapping_add((number >> 1) ^ (number & 1).wrapping_neg()))
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    pub(crate) fn path(&mut self, limits: &Limits) -> Option<LayerPath> {
        let common = usize::try_from(self.number()?).ok()?;
        if common > self.path.len() {
            return None;
        }
        let rest = self.bytes()?;
        self.path.truncate(common);
        self.path.extend_from_slice(rest);
        LayerPath::from_stored(&self.path, limits)
    }

    /// Ends the reading: `None` if something is left.
    pub(crate) fn finish(self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

impl Part {
    /// What the part holds; never more than it says, nor than [`LARGEST_PART`].
    pub(crate) fn expand(&self) -> Option<Vec<u8>> {
        if self.expanded > LARGEST_PART {
            return None;
        }
        let mut expanded = Vec::new();
        let mut decoder = zstd::stream::read::Decoder::with_buffer(self.bytes.as_slice()).ok()?;
        decoder.window_log_max(LARGEST_PART.ilog2()).ok()?;
        decoder.take(self.expanded + 1).read_to_end(&mut expanded).ok()?;
        (expanded.len() as u64 == self.expanded).then_some(expanded)
    }
}

/// Bytes that a part may expand to, some thirty for each entry of the largest layer that the default limits allow.
pub(crate) const LARGEST_PART: u64 = 64 << 20;
/// Of zstd: an index is a hundredth of the image, and read for each image that has a layer of it.
const LEVEL: i32 = 3;
