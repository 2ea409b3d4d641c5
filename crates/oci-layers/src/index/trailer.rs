//! What stands behind the squashfs of an image: the parts of its index, a list of its layers, and a foot.
//!
//! The foot is the end of the file, so that it is found without knowing anything else; whoever reads a file that ends
//! otherwise finds no index. Numbers are little endian. Everything is covered by BLAKE3: the foot covers itself and the
//! list, the list the parts.
//!
//! ```text
//! squashfs | parts | list: one record of 216 bytes per layer, the lowest first | zeros | foot of 128 bytes
//! record: digest, diff_id, size, entries, file bytes, expanded bytes, start, then twice (layer, places):
//!         offset, length, expanded length, hash
//! foot:   "gantry-i", version, number of layers, offset of the list, description, hash, zeros
//! ```

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use image_ref::Digest;

use super::coding::LARGEST_PART;
use super::{LayerKey, Part, Record};
use crate::limits::Counts;

/// The list of the layers of an image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub records: Vec<Record<Reference>>,
    /// Where the squashfs ends.
    pub end: u64,
}

/// Where a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    offset: u64,
    length: u64,
    expanded: u64,
    hash: blake3::Hash,
}

impl Trailer {
    /// Reads the index of an image; `None` if there is none that says what `description` describes.
    pub(crate) fn read(image: &File, description: &blake3::Hash) -> Option<Self> {
        // Not by stat(2), which a sandbox may forbid. Nobody reads at the file's position.
        let size = { image }.seek(SeekFrom::End(0)).ok()?;
        let mut foot = [0; FOOT];
        image.read_exact_at(&mut foot, size.checked_sub(FOOT as u64)?).ok()?;
        let mut fields = Fields(&foot);
        if fields.bytes::<8>()? != MAGIC || fields.number()? != super::VERSION.into() {
            return None;
        }
        let layers = fields.number().filter(|layers| *layers <= MOST_LAYERS)?;
        let end = fields.number()?;
        let list_at = fields.number()?;
        let list_length = layers * RECORD as u64;
        if fields.bytes()? != *description.as_bytes()
            || list_at < end
            || list_at.checked_add(list_length)? > size - FOOT as u64
        {
            return None;
        }
        let mut list = vec![0; list_length as usize];
        image.read_exact_at(&mut list, list_at).ok()?;
        if fields.bytes()? != *foot_hash(&foot, &list).as_bytes() || fields.0 != [0; FOOT_ZEROS] {
            return None;
        }
        let records = list.chunks_exact(RECORD).map(|record| decode_record(record, end, list_at));
        Some(Self { records: records.collect::<Option<_>>()?, end })
    }
}

impl Reference {
    /// Reads the part from the image that it was found in; `None` if it is not what it was.
    pub(crate) fn read(&self, image: &File) -> Option<Part> {
        if self.length > LARGEST_PART {
            return None;
        }
        let mut bytes = vec![0; self.length as usize];
        image.read_exact_at(&mut bytes, self.offset).ok()?;
        (blake3::hash(&bytes) == self.hash).then_some(Part { bytes, expanded: self.expanded })
    }
}

/// Encodes the index of an image whose squashfs has `end` bytes, a multiple of 4096.
///
/// Empty where there would be nothing in it, or too much.
pub(crate) fn encode_trailer(
    records: &[Record<Part>],
    description: &blake3::Hash,
    end: u64,
) -> Vec<u8> {
    let mut trailer = Vec::new();
    let mut list = Vec::new();
    for record in records {
        let LayerKey { digest, diff_id, size } = record.key;
        let Counts { entries, file_bytes, expanded_bytes } = record.counts;
        list.extend_from_slice(digest.as_bytes());
        list.extend_from_slice(diff_id.as_bytes());
        for number in [size, entries, file_bytes, expanded_bytes, record.start] {
            list.extend_from_slice(&number.to_le_bytes());
        }
        for part in [&record.layer, &record.places] {
            let offset = end + trailer.len() as u64;
            for number in [offset, part.bytes.len() as u64, part.expanded] {
                list.extend_from_slice(&number.to_le_bytes());
            }
            list.extend_from_slice(blake3::hash(&part.bytes).as_bytes());
            trailer.extend_from_slice(&part.bytes);
        }
    }
    let list_at = end + trailer.len() as u64;
    let length = (trailer.len() + list.len() + FOOT).next_multiple_of(ALIGNMENT);
    let too_large = length as u64 > end / SHARE + ALLOWANCE;
    if records.is_empty() || too_large || records.len() as u64 > MOST_LAYERS {
        return Vec::new();
    }
    let mut foot = [0; FOOT];
    let numbers = [super::VERSION.into(), records.len() as u64, end, list_at];
    let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut rest = foot.as_mut_slice();
    put(&mut rest, &MAGIC);
    put(&mut rest, &numbers);
    put(&mut rest, description.as_bytes());
    let hash = foot_hash(&foot, &list);
    put(&mut foot.get_mut(HASHED..).unwrap_or_default(), hash.as_bytes());
    trailer.extend_from_slice(&list);
    trailer.resize(length - FOOT, 0);
    trailer.extend_from_slice(&foot);
    trailer
}

fn decode_record(record: &[u8], end: u64, list_at: u64) -> Option<Record<Reference>> {
    let mut fields = Fields(record);
    let key = LayerKey {
        digest: Digest::from_bytes(fields.bytes()?),
        diff_id: Digest::from_bytes(fields.bytes()?),
        size: fields.number()?,
    };
    let counts = Counts {
        entries: fields.number()?,
        file_bytes: fields.number()?,
        expanded_bytes: fields.number()?,
    };
    let start = fields.number()?;
    let mut part = || {
        let (offset, length) = (fields.number()?, fields.number()?);
        let inside = offset >= end && offset.checked_add(length)? <= list_at;
        let (expanded, hash) = (fields.number()?, blake3::Hash::from_bytes(fields.bytes()?));
        inside.then_some(Reference { offset, length, expanded, hash })
    };
    Some(Record { key, counts, start, layer: part()?, places: part()? })
}

/// The hash that covers the list, and of the foot all that stands before it.
fn foot_hash(foot: &[u8; FOOT], list: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(foot.get(..HASHED).unwrap_or_default());
    hasher.update(list);
    hasher.finalize()
}

/// Puts bytes at the beginning of a room that has enough of it, and leaves the rest.
fn put(room: &mut &mut [u8], bytes: &[u8]) {
    if let Some((start, rest)) = std::mem::take(room).split_at_mut_checked(bytes.len()) {
        start.copy_from_slice(bytes);
        *room = rest;
    }
}

/// Fields that follow each other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn number(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }
}

const MAGIC: [u8; 8] = *b"gantry-i";
/// Bytes of the foot, of its part before the hash, and of what it has left.
const FOOT: usize = 128;
const HASHED: usize = 8 + 4 * 8 + 32;
const FOOT_ZEROS: usize = FOOT - HASHED - 32;
/// Bytes of what the list says of one layer.
const RECORD: usize = 2 * 32 + 5 * 8 + 2 * (3 * 8 + 32);
/// More than any image has: Linux stacks 500 at most, registries and Docker stop at 127.
const MOST_LAYERS: u64 = 4096;
/// An index takes up to one part in so many of the squashfs, and so many bytes more.
const SHARE: u64 = 8;
const ALLOWANCE: u64 = 64 << 10;
/// The end of the file is a multiple of it, as that of the squashfs is.
const ALIGNMENT: usize = 4096;
