//! The committer: appends the blocks of one layer in their order, and leaves out what no one can reach.
//!
//! Layers are committed from the top down, so that everything above is known. A block whose paths are all hidden waits
//! in limbo until the layer's end, because a later hard link or an equal file in the same layer may still need it.
//! All decisions follow from the order of the blocks, never from when they arrive or where they come from.

use std::fs::File;
use std::mem;

use squashfs::{Block, BlockWord, Content, FragmentId, WriteError, Writer};

use crate::changeset::{Changeset, ObjectId};
use crate::content::{Object, Owner};
use crate::layer::LayerIndex;
use crate::mask::{Mask, Reach};
use crate::pipeline::Encoded;
use crate::units::{Places, Unit, Units, contents};

/// A layer that has been committed.
#[derive(Debug)]
pub(crate) struct Committed {
    pub changeset: Changeset,
    /// By object: where it stands, or `None` if it was left out.
    pub contents: Vec<Option<Content>>,
}

/// The blocks of a layer that is being read, on their way into its segment.
#[derive(Debug)]
pub(crate) struct Incoming<'w, 'f> {
    segment: Segment<'w, 'f>,
    units: Units,
    order: Order<Block>,
}

impl<'w, 'f> Incoming<'w, 'f> {
    pub(crate) fn new(writer: &'w mut Writer<'f>) -> Self {
        Self { segment: Segment::new(writer), units: Units::default(), order: Order::default() }
    }

    /// Takes the layer's next block.
    pub(crate) fn add(&mut self, encoded: Encoded, mask: &Mask) -> Result<(), WriteError> {
        let Self { segment, units, order } = self;
        let Encoded { owner, claim, block } = encoded;
        let unit = units.push(owner, block.word);
        let length = block.word.length();
        order.add(
            unit,
            length,
            block,
            || mask.hides(&claim),
            |unit, block| segment.append(unit, units.list.get(unit), &block),
        )
    }

    /// Bytes of the image so far.
    pub(crate) fn position(&self) -> u64 {
        self.segment.writer.position()
    }

    /// Ends the layer: decides on what is in limbo. Returns what the layer is made of and where this image holds it.
    pub(crate) fn finish(
        mut self,
        index: &LayerIndex,
        reach: &Reach,
    ) -> Result<(Units, Places, Vec<Option<Content>>), WriteError> {
        let needed = Needed::of(&index.objects, &reach.objects);
        let segment = &mut self.segment;
        let list = &self.units.list;
        self.order.finish(
            |unit| needed.unit(list.get(unit)),
            |unit, block| segment.append(unit, list.get(unit), &block),
        )?;
        let (places, contents) = self.segment.finish(&index.objects, &self.units);
        Ok((self.units, places, contents))
    }
}

/// Decides when the blocks of one layer are written, and whether at all.
#[derive(Debug)]
pub(crate) struct Order<B> {
    /// By unit.
    written: Vec<bool>,
    limbo: Vec<(usize, B)>,
    limbo_bytes: usize,
}

impl<B> Order<B> {
    /// Takes the next block, of so many bytes; `hidden` tells whether all paths of its unit are.
    pub(crate) fn add<E>(
        &mut self,
        unit: usize,
        length: u32,
        block: B,
        hidden: impl FnOnce() -> bool,
        mut write: impl FnMut(usize, B) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.written.get(unit).copied().unwrap_or(false) || !hidden() {
            self.mark(unit);
            return write(unit, block);
        }
        self.limbo_bytes += length as usize + LIMBO_OVERHEAD;
        self.limbo.push((unit, block));
        if self.limbo_bytes > LIMBO_LIMIT {
            // Too much to hold on to: written, at the price of an image that is larger than it need be.
            self.limbo_bytes = 0;
            for (unit, block) in mem::take(&mut self.limbo) {
                self.mark(unit);
                write(unit, block)?;
            }
        }
        Ok(())
    }

    /// Writes what is in limbo and needed after all.
    pub(crate) fn finish<E>(
        self,
        needed: impl Fn(usize) -> bool,
        mut write: impl FnMut(usize, B) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut limbo = self.limbo.into_iter().filter(|(unit, _)| needed(*unit));
        limbo.try_for_each(|(unit, block)| write(unit, block))
    }

    fn mark(&mut self, unit: usize) {
        if self.written.len() <= unit {
            self.written.resize(unit + 1, false);
        }
        if let Some(slot) = self.written.get_mut(unit) {
            *slot = true;
        }
    }
}

impl<B> Default for Order<B> {
    fn default() -> Self {
        Self { written: Vec::new(), limbo: Vec::new(), limbo_bytes: 0 }
    }
}

/// Which contents of a layer are of interest, and the fragment blocks that hold one of them.
#[derive(Debug)]
pub(crate) struct Needed<'a> {
    objects: &'a [bool],
    fragments: Vec<bool>,
}

impl<'a> Needed<'a> {
    pub(crate) fn of(objects: &[Object], wanted: &'a [bool]) -> Self {
        let mut fragments = Vec::new();
        for (object, needed) in objects.iter().zip(wanted) {
            if let Some(part) = object.part
                && let Some(slot) = slot(&mut fragments, part.fragment.0)
            {
                *slot |= *needed;
            }
        }
        Self { objects: wanted, fragments }
    }

    pub(crate) fn unit(&self, unit: Option<&Unit>) -> bool {
        let needed = match unit.map(|unit| unit.owner) {
            Some(Owner::Object(ObjectId(object))) => self.objects.get(object as usize),
            Some(Owner::Fragment(index)) => self.fragments.get(index.0 as usize),
            None => None,
        };
        needed.copied().unwrap_or(false)
    }
}

/// The part of the image that one layer's data makes up, while it is written.
#[derive(Debug)]
pub(crate) struct Segment<'w, 'f> {
    writer: &'w mut Writer<'f>,
    begun: bool,
    places: Places,
    /// By fragment block of the layer: its number in the image.
    fragments: Vec<Option<FragmentId>>,
}

impl<'w, 'f> Segment<'w, 'f> {
    pub(crate) fn new(writer: &'w mut Writer<'f>) -> Self {
        Self { writer, begun: false, places: Places::default(), fragments: Vec::new() }
    }

    /// Appends a block of unit number `index`.
    fn append(
        &mut self,
        index: usize,
        unit: Option<&Unit>,
        block: &Block,
    ) -> Result<(), WriteError> {
        self.begin()?;
        let at = self.writer.append(block)?;
        self.place(index, unit, at, block.word)
    }

    /// Copies all blocks of unit number `index`, `length` bytes, from another image.
    ///
    /// `word` is that of its last block.
    pub(crate) fn copy(
        &mut self,
        index: usize,
        unit: Option<&Unit>,
        word: BlockWord,
        (image, offset, length): (&'f File, u64, u64),
    ) -> Result<(), WriteError> {
        self.begin()?;
        let at = self.writer.copy_from(image, offset, length)?;
        self.place(index, unit, at, word)
    }

    /// Ends the segment: where its units stand, and with them the contents of the layer.
    pub(crate) fn finish(
        mut self,
        objects: &[Object],
        units: &Units,
    ) -> (Places, Vec<Option<Content>>) {
        self.places.offsets.resize(units.list.len(), None);
        let contents = contents(objects, units, &self.places, &self.fragments);
        (self.places, contents)
    }

    fn begin(&mut self) -> Result<(), WriteError> {
        if !mem::replace(&mut self.begun, true) {
            self.writer.align()?;
            self.places.start = self.writer.position();
        }
        Ok(())
    }

    fn place(
        &mut self,
        index: usize,
        unit: Option<&Unit>,
        at: u64,
        word: BlockWord,
    ) -> Result<(), WriteError> {
        let offset = at - self.places.start;
        if let Some(place) = slot(&mut self.places.offsets, index as u32) {
            place.get_or_insert(offset);
        }
        if let Some(Unit { owner: Owner::Fragment(fragment), .. }) = unit {
            let id = self.writer.list_fragment(at, word)?;
            if let Some(number) = slot(&mut self.fragments, fragment.0) {
                *number = Some(id);
            }
        }
        Ok(())
    }
}

/// The element at `index` of a list that grows as needed.
fn slot<T: Clone + Default>(list: &mut Vec<T>, index: u32) -> Option<&mut T> {
    let index = index as usize;
    if list.len() <= index {
        list.resize(index + 1, T::default());
    }
    list.get_mut(index)
}

/// Bytes of encoded blocks that one layer may have in limbo.
const LIMBO_LIMIT: usize = 32 << 20;
/// What a block in limbo takes beside its bytes.
const LIMBO_OVERHEAD: usize = 64;
