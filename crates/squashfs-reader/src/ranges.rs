//! Who has which bytes of the data: two files have the same or nothing in common.

use crate::error::{EntryProblem, ReadError, TableName, TableProblem};
use crate::image::Image;
use crate::inode::Kind;
use crate::walk::Tree;

/// A part of the data, and who it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part<'a> {
    start: u64,
    end: u64,
    owner: Owner<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner<'a> {
    /// A fragment block, with its number.
    Fragment(usize),
    /// A file: the size words of its blocks, and the place of its first name.
    File(&'a [u8], u32),
}

/// Checks the blocks of files and the fragment blocks, and the parts of files inside fragment blocks.
///
/// Equal files share their blocks, so the same range with the same size words is allowed any number of times. Anything
/// else means that writer and tables disagree on where something stands.
pub(crate) fn check_ranges(image: &Image, tree: &Tree) -> Result<(), ReadError> {
    let mut blocks = Vec::with_capacity(image.fragments.len() + tree.found.len());
    let mut pieces = Vec::with_capacity(tree.found.len());
    for (index, fragment) in image.fragments.iter().enumerate() {
        let end = fragment.start + u64::from(fragment.length);
        blocks.push(Part { start: fragment.start, end, owner: Owner::Fragment(index) });
    }
    for found in &tree.found {
        let Kind::File(file) = &found.inode.kind else { continue };
        let words = image.inodes.bytes.get(file.words.clone()).unwrap_or_default();
        let owner = Owner::File(words, found.first);
        if file.length > 0 {
            blocks.push(Part { start: file.start, end: file.start + file.length, owner });
        }
        if let Some((fragment, offset)) = file.fragment {
            // Fragment blocks are laid side by side, so that one comparison does for all.
            let start = u64::from(fragment) << 32 | u64::from(offset);
            let end = start + file.size % u64::from(image.superblock.block_size);
            pieces.push(Part { start, end, owner: Owner::File(&[], found.first) });
        }
    }
    for mut parts in [blocks, pieces] {
        parts.sort_unstable();
        for pair in parts.windows(2) {
            let [before, part] = pair else { continue };
            if part.start < before.end && !before.is_same(part) {
                return Err(overlap(image, tree, part));
            }
        }
    }
    Ok(())
}

impl Part<'_> {
    /// Tells whether two parts are those of files with the same content.
    fn is_same(&self, other: &Self) -> bool {
        match (self.owner, other.owner) {
            (Owner::File(words, _), Owner::File(others, _)) => {
                words == others && (self.start, self.end) == (other.start, other.end)
            }
            _ => false,
        }
    }
}

fn overlap(image: &Image, tree: &Tree, part: &Part<'_>) -> ReadError {
    match part.owner {
        Owner::File(_, name) => tree.error(image, name, EntryProblem::Overlap),
        Owner::Fragment(index) => {
            let offset = image.superblock.fragment_table.unwrap_or_default();
            let problem = TableProblem::Fragment { index };
            ReadError::Table { table: TableName::Fragments, offset, problem }
        }
    }
}
