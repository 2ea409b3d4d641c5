//! What a layer is made of, as an index keeps it: contents, blocks, entries and whiteouts.
//!
//! What is decoded fits together as what a reader of the layer returns does; anything else is `None`. Memory is in
//! proportion to the bytes that are there and bounded by the counts, which the caller has held against the limits.

use squashfs::{BlockSize, BlockWord};

use super::Part;
use super::coding::{Decoder, Encoder};
use crate::changeset::{Changeset, Entry, EntryKind, ObjectId, Special, Whiteout};
use crate::content::{FragmentIndex, Object, Owner, Part as FragmentPart, Run};
use crate::layer::LayerIndex;
use crate::limits::{Counts, Limits};
use crate::units::{Unit, Units};

/// A layer taken from an index.
#[derive(Debug)]
pub(crate) struct StoredLayer {
    pub index: LayerIndex,
    pub units: Units,
}

/// Encodes a layer; `None` if it is too large for an index.
pub(crate) fn encode_layer(index: &LayerIndex, units: &Units) -> Option<Part> {
    let mut encoder = Encoder::default();
    encode_objects(&index.objects, &mut encoder);
    encode_units(units, &mut encoder)?;
    encode_changeset(&index.changeset, &mut encoder);
    encoder.finish()
}

/// Decodes a layer that counted `counts`.
pub(crate) fn decode_layer(
    part: &Part,
    counts: &Counts,
    block_size: BlockSize,
    limits: &Limits,
) -> Option<StoredLayer> {
    let expanded = part.expand()?;
    let mut decoder = Decoder::new(&expanded);
    let objects = decode_objects(&mut decoder, counts, block_size)?;
    let units = decode_units(&mut decoder, &objects, block_size)?;
    let changeset = decode_changeset(&mut decoder, counts, objects.len(), limits)?;
    decoder.finish()?;
    Some(StoredLayer { index: LayerIndex { changeset, objects, counts: *counts }, units })
}

fn encode_objects(objects: &[Object], encoder: &mut Encoder) {
    encoder.number(objects.len() as u64);
    let mut next = (0, 0);
    for Object { size, runs, part } in objects {
        encoder.number(*size);
        encoder.number(runs.len() as u64 * 2 + u64::from(part.is_some()));
        for run in runs {
            encoder.number(match run {
                Run::Data(blocks) => blocks << 1,
                Run::Hole(blocks) => blocks << 1 | 1,
            });
        }
        if let Some(FragmentPart { fragment: FragmentIndex(fragment), offset }) = *part {
            encoder.delta(fragment.into(), next.0);
            encoder.delta(offset.into(), if u64::from(fragment) == next.0 { next.1 } else { 0 });
            next = (fragment.into(), u64::from(offset) + size);
        }
    }
}

fn decode_objects(
    decoder: &mut Decoder<'_>,
    counts: &Counts,
    block_size: BlockSize,
) -> Option<Vec<Object>> {
    let count = decoder.number().filter(|count| *count <= counts.entries)?;
    let mut objects = Vec::new();
    let mut next = (0, 0);
    let mut bytes = 0_u64;
    for _ in 0..count {
        let size = decoder.number()?;
        bytes = bytes.checked_add(size).filter(|bytes| *bytes <= counts.file_bytes)?;
        let shape = decoder.number()?;
        let mut object = Object { size, ..Object::default() };
        let mut blocks = 0_u64;
        for _ in 0..shape / 2 {
            // An empty one would be memory for nothing.
            let run = decoder.number().filter(|run| run >> 1 > 0)?;
            blocks = blocks.checked_add(run >> 1)?;
            object.runs.push(if run & 1 == 0 { Run::Data(run >> 1) } else { Run::Hole(run >> 1) });
        }
        let expected = if shape % 2 == 1 {
            let fragment = decoder.delta(next.0)?;
            let offset = decoder.delta(if fragment == next.0 { next.1 } else { 0 })?;
            let tail = size % u64::from(block_size.bytes());
            let end = offset.checked_add(tail).filter(|end| *end <= block_size.bytes().into())?;
            next = (fragment, end);
            let fragment = FragmentIndex(u32::try_from(fragment).ok()?);
            object.part = Some(FragmentPart { fragment, offset: offset as u32 });
            size / u64::from(block_size.bytes())
        } else {
            block_size.blocks_for(size)
        };
        if blocks != expected {
            return None;
        }
        objects.push(object);
    }
    Some(objects)
}

/// Units are in the order of what they belong to: a content is told by how far it is from the one before, a fragment
/// block, which is always the next one, by zero.
fn encode_units(units: &Units, encoder: &mut Encoder) -> Option<()> {
    encoder.number(units.list.len() as u64);
    let mut next = 0;
    for (unit, words) in units.iter() {
        match unit.owner {
            Owner::Fragment(_) => encoder.number(0),
            Owner::Object(ObjectId(object)) => {
                encoder.number(u64::from(object.checked_sub(next)?) + 1);
                next = object + 1;
            }
        }
        for word in words {
            let stored = word.bits() != word.length();
            encoder.number(u64::from(word.length()) << 1 | u64::from(stored));
        }
    }
    Some(())
}

fn decode_units(
    decoder: &mut Decoder<'_>,
    objects: &[Object],
    block_size: BlockSize,
) -> Option<Units> {
    let count = decoder.number()?;
    let mut units = Units::default();
    let (mut next, mut fragments) = (0_u64, 0_u32);
    for _ in 0..count {
        let (owner, blocks) = match decoder.number()? {
            0 => {
                fragments += 1;
                (Owner::Fragment(FragmentIndex(fragments - 1)), 1)
            }
            step => {
                let object = next.checked_add(step - 1)?;
                next = object + 1;
                let blocks = data_blocks(objects.get(usize::try_from(object).ok()?)?);
                (Owner::Object(ObjectId(object as u32)), u32::try_from(blocks).ok()?)
            }
        };
        if blocks == 0 {
            return None;
        }
        for _ in 0..blocks {
            let word = decode_word(decoder, block_size)?;
            if word.is_hole() && matches!(owner, Owner::Fragment(_)) {
                return None;
            }
            units.words.push(word);
        }
        units.list.push(Unit { owner, blocks });
    }
    let owners = units.list.iter().filter(|unit| matches!(unit.owner, Owner::Object(_))).count();
    let complete = objects.iter().filter(|object| data_blocks(object) > 0).count() == owners
        && objects.iter().filter_map(|o| o.part).all(|part| part.fragment.0 < fragments);
    complete.then_some(units)
}

fn data_blocks(object: &Object) -> u64 {
    let data = |run: &Run| if let Run::Data(blocks) = run { *blocks } else { 0 };
    object.runs.iter().map(data).sum() // holes and blocks together have been counted
}

fn decode_word(decoder: &mut Decoder<'_>, block_size: BlockSize) -> Option<BlockWord> {
    let number = decoder.number()?;
    let length = u32::try_from(number >> 1).ok().filter(|l| *l <= block_size.bytes())?;
    BlockWord::from_bits(length | if number & 1 == 1 { DATA_STORED } else { 0 })
}

fn encode_changeset(changeset: &Changeset, encoder: &mut Encoder) {
    encoder.number(changeset.entries.len() as u64);
    let (mut mtime, mut next) = (0, 0);
    for entry in &changeset.entries {
        let kind = match entry.kind {
            EntryKind::Directory => 0,
            EntryKind::File(_) => 1,
            EntryKind::Symlink(_) => 2,
            EntryKind::HardLink(_) => 3,
            EntryKind::Special(Special::CharDevice) => 4,
            EntryKind::Special(Special::BlockDevice) => 5,
            EntryKind::Special(Special::Fifo) => 6,
        };
        encoder.number(u64::from(entry.mode) << 4 | kind << 1 | u64::from(entry.anchored));
        encoder.delta(entry.mtime.into(), mtime);
        mtime = entry.mtime.into();
        encoder.path(&entry.path);
        match &entry.kind {
            EntryKind::File(ObjectId(object)) => {
                encoder.delta((*object).into(), next);
                next = next.max(u64::from(*object) + 1);
            }
            EntryKind::Symlink(target) => encoder.bytes(target),
            EntryKind::HardLink(target) => encoder.path(target),
            EntryKind::Directory | EntryKind::Special(_) => {}
        }
    }
    encoder.number(changeset.whiteouts.len() as u64);
    for whiteout in &changeset.whiteouts {
        let (opaque, path) = match whiteout {
            Whiteout::Path(path) => (0, path),
            Whiteout::Opaque(path) => (1, path),
        };
        encoder.number(opaque);
        encoder.path(path);
    }
}

fn decode_changeset(
    decoder: &mut Decoder<'_>,
    counts: &Counts,
    objects: usize,
    limits: &Limits,
) -> Option<Changeset> {
    let count = decoder.number().filter(|count| *count <= counts.entries)?;
    let mut changeset = Changeset::default();
    let (mut mtime, mut next) = (0, 0);
    for _ in 0..count {
        let head = decoder.number()?;
        let mode = u16::try_from(head >> 4).ok().filter(|mode| mode & !0o1777 == 0)?;
        mtime = decoder.delta(mtime)?;
        let path = decoder.path(limits)?;
        let kind = match head >> 1 & 7 {
            0 => EntryKind::Directory,
            1 => {
                let object = decoder.delta(next).filter(|object| *object < objects as u64)?;
                next = next.max(object + 1);
                EntryKind::File(ObjectId(object as u32))
            }
            2 => EntryKind::Symlink(decode_target(decoder, limits)?),
            3 => EntryKind::HardLink(decoder.path(limits)?),
            4 => EntryKind::Special(Special::CharDevice),
            5 => EntryKind::Special(Special::BlockDevice),
            6 => EntryKind::Special(Special::Fifo),
            _ => return None,
        };
        let is_root = path.as_bytes().is_empty();
        if is_root && !matches!(kind, EntryKind::Directory) {
            return None;
        }
        let mtime = u32::try_from(mtime).ok()?;
        changeset.entries.push(Entry { path, mode, mtime, kind, anchored: head & 1 == 1 });
    }
    let count = decoder.number().filter(|more| more.saturating_add(count) <= counts.entries)?;
    for _ in 0..count {
        let opaque = decoder.number()?;
        let path = decoder.path(limits)?;
        changeset.whiteouts.push(match opaque {
            0 => Whiteout::Path(path),
            1 => Whiteout::Opaque(path),
            _ => return None,
        });
    }
    Some(changeset)
}

fn decode_target(decoder: &mut Decoder<'_>, limits: &Limits) -> Option<Box<[u8]>> {
    let target = decoder.bytes()?;
    let limit = limits.symlink_bytes.min(squashfs::SYMLINK_LIMIT as u64);
    (1..=limit).contains(&(target.len() as u64)).then(|| target.into())
}

/// In a word, says that the block is not compressed.
const DATA_STORED: u32 = 1 << 24;
