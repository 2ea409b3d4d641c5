//! All blocks of one layer in the order in which its reader handed them in, and where an image holds them.
//!
//! The order and the words follow from the layer and the options alone. Which blocks an image holds depends on the
//! layers above, so that is kept apart.

use squashfs::{BlockWord, Content, Extent, FragmentId, FragmentPart};

use crate::changeset::ObjectId;
use crate::content::{Object, Owner, Run};

/// The blocks of a layer, those that an image leaves out included.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Units {
    pub list: Vec<Unit>,
    /// Of all units, one after the other.
    pub words: Vec<BlockWord>,
}

/// A fragment block, or all blocks of one content: an image holds them side by side, or none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub owner: Owner,
    /// How many.
    pub blocks: u32,
}

/// Where an image holds the blocks of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// Offset in the file of the first one; 0 if there is none.
    pub start: u64,
    /// By unit: its offset from there, or `None` if it was left out.
    pub offsets: Vec<Option<u64>>,
}

impl Units {
    /// Adds the next block, and returns the place of its unit.
    pub(crate) fn push(&mut self, owner: Owner, word: BlockWord) -> usize {
        self.words.push(word);
        match self.list.last_mut() {
            Some(last) if last.owner == owner => last.blocks += 1,
            _ => self.list.push(Unit { owner, blocks: 1 }),
        }
        self.list.len() - 1
    }

    /// The units in order, each with the words of its blocks.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Unit, &[BlockWord])> {
        let mut rest = self.words.as_slice();
        self.list.iter().map(move |unit| {
            let (own, more) = rest.split_at_checked(unit.blocks as usize).unwrap_or_default();
            rest = more;
            (*unit, own)
        })
    }
}

/// Bytes that blocks with these words take in a file.
pub(crate) fn length(words: &[BlockWord]) -> u64 {
    words.iter().map(|word| u64::from(word.length())).sum()
}

/// By object: where it stands, or `None` if it was left out. `fragments` has the numbers of the layer's fragment
/// blocks in the image.
pub(crate) fn contents(
    objects: &[Object],
    units: &Units,
    places: &Places,
    fragments: &[Option<FragmentId>],
) -> Vec<Option<Content>> {
    let mut placed: Vec<(u64, &[BlockWord])> = vec![(0, &[]); objects.len()];
    for ((unit, words), offset) in units.iter().zip(&places.offsets) {
        if let (Owner::Object(ObjectId(object)), Some(offset)) = (unit.owner, offset)
            && let Some(slot) = placed.get_mut(object as usize)
        {
            *slot = (places.start + offset, words);
        }
    }
    let placed = objects.iter().zip(placed);
    placed.map(|(object, (start, words))| content(object, start, words, fragments)).collect()
}

fn content(
    object: &Object,
    start: u64,
    mut words: &[BlockWord],
    fragments: &[Option<FragmentId>],
) -> Option<Content> {
    let fragment = match object.part {
        Some(part) => {
            let fragment = fragments.get(part.fragment.0 as usize).copied().flatten()?;
            Some(FragmentPart { fragment, offset: part.offset })
        }
        None => None,
    };
    let mut extents = Vec::with_capacity(object.runs.len());
    for run in &object.runs {
        extents.push(match run {
            Run::Hole(blocks) => Extent::Hole(*blocks),
            Run::Data(blocks) => {
                // Fewer words than blocks: it was left out.
                let (own, rest) = words.split_at_checked(*blocks as usize)?;
                words = rest;
                Extent::Data(own.to_vec())
            }
        });
    }
    Some(Content { size: object.size, start, extents, fragment })
}
