//! The committer: appends the blocks of one layer in their order, and leaves out what no one can reach.
//!
//! Layers are committed from the top down, so that everything above is known. A block whose paths are all hidden waits
//! in limbo until the layer's end, because a later hard link or an equal file in the same layer may still need it.
//! All decisions follow from the order of the blocks, never from when they arrive.

use std::mem;

use squashfs::{Block, BlockWord, Content, Extent, FragmentId, FragmentPart, WriteError, Writer};

use crate::changeset::{Changeset, ObjectId};
use crate::content::{Object, Owner, Run};
use crate::layer::LayerIndex;
use crate::mask::Mask;
use crate::pipeline::Encoded;

/// A layer that has been committed.
#[derive(Debug)]
pub(crate) struct Committed {
    pub changeset: Changeset,
    /// By object: where it stands, or `None` if it was left out.
    pub contents: Vec<Option<Content>>,
}

/// The part of the image that one layer's data makes up, while it is written.
#[derive(Debug)]
pub(crate) struct Segment<'w, 'f> {
    writer: &'w mut Writer<'f>,
    begun: bool,
    /// By object: where its blocks begin, and their words so far.
    placed: Vec<Option<(u64, Vec<BlockWord>)>>,
    /// By fragment block of the layer: its number in the image.
    fragments: Vec<Option<FragmentId>>,
    limbo: Vec<(Owner, Block)>,
    limbo_bytes: usize,
}

impl<'w, 'f> Segment<'w, 'f> {
    pub(crate) fn new(writer: &'w mut Writer<'f>) -> Self {
        Self {
            writer,
            begun: false,
            placed: Vec::new(),
            fragments: Vec::new(),
            limbo: Vec::new(),
            limbo_bytes: 0,
        }
    }

    /// Takes the layer's next block.
    pub(crate) fn add(&mut self, encoded: Encoded, mask: &Mask) -> Result<(), WriteError> {
        let Encoded { owner, claim, block } = encoded;
        if self.is_placed(owner) || !mask.hides(&claim) {
            return self.write(owner, block);
        }
        self.limbo_bytes += block.bytes.len() + LIMBO_OVERHEAD;
        self.limbo.push((owner, block));
        if self.limbo_bytes > LIMBO_LIMIT {
            // Too much to hold on to: written, at the price of an image that is larger than it need be.
            self.limbo_bytes = 0;
            for (owner, block) in mem::take(&mut self.limbo) {
                self.write(owner, block)?;
            }
        }
        Ok(())
    }

    /// Bytes of the image so far.
    pub(crate) fn position(&self) -> u64 {
        self.writer.position()
    }

    /// Ends the layer: decides on what is in limbo and adds the layer to the mask.
    pub(crate) fn finish(
        mut self,
        index: LayerIndex,
        mask: &mut Mask,
    ) -> Result<Committed, WriteError> {
        let LayerIndex { changeset, objects } = index;
        let reachable = mask.reachable(&changeset, objects.len());
        let fragments = reachable_fragments(&objects, &reachable);
        for (owner, block) in mem::take(&mut self.limbo) {
            let needed = match owner {
                Owner::Object(ObjectId(object)) => reachable.get(object as usize),
                Owner::Fragment(index) => fragments.get(index.0 as usize),
            };
            if needed.copied().unwrap_or(false) {
                self.write(owner, block)?;
            }
        }
        mask.add(&changeset);
        self.placed.resize(objects.len(), None);
        let placed = mem::take(&mut self.placed);
        let contents =
            objects.iter().zip(placed).map(|(object, placed)| self.content(object, placed));
        Ok(Committed { contents: contents.collect(), changeset })
    }

    fn is_placed(&self, owner: Owner) -> bool {
        match owner {
            Owner::Object(ObjectId(object)) => {
                self.placed.get(object as usize).is_some_and(Option::is_some)
            }
            Owner::Fragment(_) => false,
        }
    }

    fn write(&mut self, owner: Owner, block: Block) -> Result<(), WriteError> {
        if !mem::replace(&mut self.begun, true) {
            self.writer.align()?;
        }
        match owner {
            Owner::Object(ObjectId(object)) => {
                let start = self.writer.append(&block)?;
                let (_, words) =
                    slot(&mut self.placed, object).get_or_insert_with(|| (start, Vec::new()));
                words.push(block.word);
            }
            Owner::Fragment(index) => {
                *slot(&mut self.fragments, index.0) = Some(self.writer.add_fragment(&block)?);
            }
        }
        Ok(())
    }

    fn content(&self, object: &Object, placed: Option<(u64, Vec<BlockWord>)>) -> Option<Content> {
        let fragment = match object.part {
            Some(part) => {
                let fragment = self.fragments.get(part.fragment.0 as usize).copied().flatten()?;
                Some(FragmentPart { fragment, offset: part.offset })
            }
            None => None,
        };
        let (start, words) = placed.unwrap_or_default();
        let mut words = words.into_iter();
        let mut extents = Vec::with_capacity(object.runs.len());
        for run in &object.runs {
            extents.push(match run {
                Run::Hole(blocks) => Extent::Hole(*blocks),
                Run::Data(blocks) => {
                    let own: Vec<_> = words.by_ref().take(*blocks as usize).collect();
                    if own.len() as u64 != *blocks {
                        return None; // it was left out
                    }
                    Extent::Data(own)
                }
            });
        }
        Some(Content { size: object.size, start, extents, fragment })
    }
}

fn reachable_fragments(objects: &[Object], reachable: &[bool]) -> Vec<bool> {
    let mut fragments = Vec::new();
    for (object, reachable) in objects.iter().zip(reachable) {
        if let Some(part) = object.part {
            let index = part.fragment.0 as usize;
            if fragments.len() <= index {
                fragments.resize(index + 1, false);
            }
            if let Some(slot) = fragments.get_mut(index) {
                *slot |= *reachable;
            }
        }
    }
    fragments
}

/// The element at `index` of a list that grows as needed.
fn slot<T: Clone>(list: &mut Vec<Option<T>>, index: u32) -> &mut Option<T> {
    let index = index as usize;
    if list.len() <= index {
        list.resize(index + 1, None);
    }
    &mut list[index]
}

/// Bytes of encoded blocks that one layer may have in limbo.
const LIMBO_LIMIT: usize = 32 << 20;
/// What a block in limbo takes beside its bytes.
const LIMBO_OVERHEAD: usize = 64;
