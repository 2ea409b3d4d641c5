//! Layers that another image has: their blocks are copied from there, and nothing is read or compressed.
//!
//! The same decisions are made over what the index says of the blocks as would be made over the blocks themselves, so
//! the image comes out the same. Where the other image lacks a block that this one needs, because there it was hidden,
//! the layer is not taken from it at all.

use std::convert::Infallible;
use std::fs::File;
use std::mem;

use squashfs::{BlockWord, Content, WriteError, Writer};

use crate::changeset::{Changeset, EntryKind, ObjectId};
use crate::commit::{Needed, Order, Segment};
use crate::index::{
    LayerKey, Part, Record, Reference, StoredLayer, Trailer, decode_layer, decode_places,
    description,
};
use crate::layer::LayerIndex;
use crate::limits::Counts;
use crate::mask::{Mask, Reach};
use crate::options::Options;
use crate::units::{Places, length};

/// The images that layers may be taken from.
#[derive(Debug)]
pub(crate) struct Sources {
    images: Vec<(File, Trailer)>,
}

/// A layer in one of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    image: &'a File,
    /// Where its squashfs ends.
    end: u64,
    record: &'a Record<Reference>,
}

/// A layer with all that a source says of it, and what is to be copied.
#[derive(Debug)]
pub(crate) struct Reusable<'a> {
    pub stored: StoredLayer,
    /// As the source has it.
    pub part: Part,
    pub reach: Reach,
    image: &'a File,
    copies: Vec<Copy>,
}

/// The blocks of one unit in a source.
#[derive(Clone, Copy, Debug)]
struct Copy {
    unit: usize,
    offset: u64,
    length: u64,
    /// Of the last block.
    word: BlockWord,
}

impl Sources {
    /// Opens images; those without an index of the same making are of no use and left out.
    pub(crate) fn open(files: Vec<File>, options: &Options) -> Self {
        let description = description(options);
        let open = |file| Trailer::read(&file, &description).map(|trailer| (file, trailer));
        Self { images: files.into_iter().filter_map(open).collect() }
    }

    /// The places where a layer may be found, in the order in which the images were given.
    pub(crate) fn find(&self, wanted: &LayerKey) -> Vec<Found<'_>> {
        let mut all = Vec::new();
        for (image, trailer) in &self.images {
            if let Some(record) = trailer.records.iter().find(|record| record.is(wanted)) {
                all.push(Found { image, end: trailer.end, record });
            }
        }
        all
    }
}

impl<'a> Found<'a> {
    pub(crate) fn counts(&self) -> Counts {
        self.record.counts
    }

    /// Reads what the index says of the layer, and finds out whether the image has all blocks that are needed under
    /// `mask`; `None` if not, or if the index is damaged.
    pub(crate) fn load(&self, mask: &Mask, options: &Options) -> Option<Reusable<'a>> {
        let Record { counts, start, layer, places, .. } = self.record;
        let part = layer.read(self.image)?;
        let stored = decode_layer(&part, counts, options.block_size, &options.limits)?;
        let places = places.read(self.image)?;
        let places = decode_places(&places, &stored.units, *start, self.end)?;
        let reach = mask.reach(&stored.index.changeset, stored.index.objects.len());
        let copies = plan_copies(&stored, &places, &reach)?;
        Some(Reusable { stored, part, reach, image: self.image, copies })
    }
}

impl<'a> Reusable<'a> {
    /// Bytes of blocks that are copied.
    pub(crate) fn bytes(&self) -> u64 {
        self.copies.iter().map(|copy| copy.length).sum()
    }

    /// Copies the blocks. Returns where this image holds them, and the layer's contents.
    pub(crate) fn commit(
        &self,
        writer: &mut Writer<'a>,
    ) -> Result<(Places, Vec<Option<Content>>), WriteError> {
        let mut segment = Segment::new(writer);
        let StoredLayer { index, units } = &self.stored;
        for Copy { unit, offset, length, word } in self.copies.iter().copied() {
            segment.copy(unit, units.list.get(unit), word, (self.image, offset, length))?;
        }
        Ok(segment.finish(&index.objects, units))
    }
}

/// What has to be copied, in the order of the new image; `None` if a unit is needed that was left out of the source.
fn plan_copies(
    StoredLayer { index, units }: &StoredLayer,
    places: &Places,
    reach: &Reach,
) -> Option<Vec<Copy>> {
    let LayerIndex { changeset, objects, .. } = index;
    let claims = visible_objects(changeset, objects.len(), &reach.hidden);
    let visible = Needed::of(objects, &claims);
    let needed = Needed::of(objects, &reach.objects);
    let mut order = Order::default();
    let mut written: Vec<usize> = Vec::with_capacity(units.list.len());
    let mut write = |unit, ()| {
        // All blocks of a unit are written one behind the other.
        if written.last() != Some(&unit) {
            written.push(unit);
        }
        Ok::<(), Infallible>(())
    };
    for (place, (unit, words)) in units.iter().enumerate() {
        for word in words {
            let hidden = || !visible.unit(Some(&unit));
            let Ok(()) = order.add(place, word.length(), (), hidden, &mut write);
        }
    }
    let Ok(()) = order.finish(|unit| needed.unit(units.list.get(unit)), &mut write);

    let extents: Vec<(u64, BlockWord)> = units
        .iter()
        .map(|(_, words)| (length(words), words.last().copied().unwrap_or(BlockWord::HOLE)))
        .collect();
    let copy = |unit| {
        let (length, word) = *extents.get(unit)?;
        let offset = places.start + places.offsets.get(unit).copied().flatten()?;
        Some(Copy { unit, offset, length, word })
    };
    written.into_iter().map(copy).collect()
}

/// By object: whether the path under which it first came can be seen, as [`Claim`](crate::content::Claim) says it of
/// the blocks of a layer that is read.
fn visible_objects(changeset: &Changeset, count: usize, hidden: &[bool]) -> Vec<bool> {
    let mut visible = vec![true; count];
    let mut named = vec![false; count];
    for (entry, hidden) in changeset.entries.iter().zip(hidden) {
        if let EntryKind::File(ObjectId(object)) = entry.kind
            && let Some(named) = named.get_mut(object as usize)
            && !mem::replace(named, true)
            && let Some(visible) = visible.get_mut(object as usize)
        {
            *visible = !hidden;
        }
    }
    visible
}
