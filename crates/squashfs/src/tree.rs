//! What an image holds: nodes, their names, and where their content stands.

use crate::block::{BlockSize, BlockWord};
use crate::error::WriteError;

/// The whole tree. Node 0 is the root directory.
///
/// Nodes and contents are named by their place in the two lists; a hard link is a second directory entry for one
/// node, and equal files share one content.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// All nodes; those that no directory entry reaches are left out of the image.
    pub nodes: Vec<Node>,
    /// What regular files hold.
    pub contents: Vec<Content>,
}

/// The place of a node in [`Tree::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The root directory.
    pub const ROOT: Self = Self(0);
}

/// The place of a content in [`Tree::contents`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(pub u32);

/// A fragment block of one image, as [`Writer::add_fragment`](crate::Writer::add_fragment) numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentId(pub(crate) u32);

/// One file, directory or symbolic link.
#[derive(Clone, Debug)]
pub struct Node {
    /// The permission bits, set-id and sticky bits included (12 bits; others are cut off).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since 1970.
    pub mtime: u32,
    /// What it is.
    pub kind: NodeKind,
}

/// The kinds of node that this writer knows; devices, fifos and sockets are left out by design.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// A directory with its entries in ascending byte order of their names.
    Directory(Vec<DirectoryEntry>),
    /// A regular file.
    File(ContentId),
    /// A symbolic link with its target, 1 to 4095 bytes.
    Symlink(Vec<u8>),
}

/// A name in a directory.
#[derive(Clone, Debug)]
pub struct DirectoryEntry {
    /// 1 to 255 bytes, no slash, no NUL, not `.` or `..`; any other bytes.
    pub name: Vec<u8>,
    /// What it names.
    pub node: NodeId,
}

/// Where the bytes of a file are.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Size of the file.
    pub size: u64,
    /// Offset of the first data block in the image file; the others follow without a gap. 0 if there is none.
    pub start: u64,
    /// The data blocks in order.
    pub extents: Vec<Extent>,
    /// The last `size % block size` bytes, if they stand in a fragment block.
    pub fragment: Option<FragmentPart>,
}

/// A run of blocks.
#[derive(Clone, Debug)]
pub enum Extent {
    /// Blocks that were written, or turned out to be all zeros.
    Data(Vec<BlockWord>),
    /// This many blocks of zeros.
    Hole(u64),
}

/// A place in a fragment block.
#[derive(Clone, Copy, Debug)]
pub struct FragmentPart {
    /// Which block.
    pub fragment: FragmentId,
    /// Offset in the block once it is decompressed.
    pub offset: u32,
}

impl Content {
    /// Checks that blocks and fragment add up to the size.
    pub(crate) fn check(&self, block_size: BlockSize) -> Result<(), WriteError> {
        let expected = match self.fragment {
            Some(_) => self.size / u64::from(block_size.bytes()),
            None => block_size.blocks_for(self.size),
        };
        let found = self.extents.iter().map(Extent::blocks).fold(0, u64::saturating_add);
        if found == expected {
            Ok(())
        } else {
            Err(WriteError::BlockCount { size: self.size, expected, found })
        }
    }

    /// Bytes of the file that stand in blocks of zeros.
    pub(crate) fn hole_bytes(&self, block_size: BlockSize) -> u64 {
        let holes: u64 = self.extents.iter().map(Extent::holes).sum();
        let block = u64::from(block_size.bytes());
        let ends_in_hole = match self.extents.last() {
            Some(Extent::Data(words)) => words.last().is_some_and(|word| word.is_hole()),
            Some(Extent::Hole(blocks)) => *blocks > 0,
            None => false,
        };
        // The last block may be shorter than the others.
        let missing = match self.size % block {
            tail if tail > 0 && ends_in_hole && self.fragment.is_none() => block - tail,
            _ => 0,
        };
        holes.saturating_mul(block).saturating_sub(missing).min(self.size)
    }
}

impl Extent {
    fn blocks(&self) -> u64 {
        match self {
            Self::Data(words) => words.len() as u64,
            Self::Hole(blocks) => *blocks,
        }
    }

    fn holes(&self) -> u64 {
        match self {
            Self::Data(words) => words.iter().filter(|word| word.is_hole()).count() as u64,
            Self::Hole(blocks) => *blocks,
        }
    }
}

impl Node {
    /// Checks what only this node can have wrong: names, their order, the length of a target.
    pub(crate) fn check(&self) -> Result<(), WriteError> {
        match &self.kind {
            NodeKind::File(_) => Ok(()),
            NodeKind::Symlink(target) if (1..=SYMLINK_LIMIT).contains(&target.len()) => Ok(()),
            NodeKind::Symlink(target) => Err(WriteError::SymlinkTarget { length: target.len() }),
            NodeKind::Directory(entries) => {
                let mut before: &[u8] = &[];
                for DirectoryEntry { name, .. } in entries {
                    if !is_name(name) {
                        return Err(WriteError::Name { name: name.clone() });
                    }
                    if name.as_slice() <= before {
                        return Err(WriteError::Order { name: name.clone() });
                    }
                    before = name;
                }
                Ok(())
            }
        }
    }
}

fn is_name(name: &[u8]) -> bool {
    (1..=NAME_LIMIT).contains(&name.len())
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// The longest symbolic link target: Linux resolves no path of 4096 bytes, and newer kernels refuse an image that
/// holds a longer one (CVE-2024-46744).
pub const SYMLINK_LIMIT: usize = 4095;
/// `NAME_MAX` of Linux; the format would allow one byte more.
const NAME_LIMIT: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_at_the_end_counts_as_far_as_the_file_goes() {
        let block_size = BlockSize::new(4096).unwrap();
        let data = |words: &[u32]| {
            Extent::Data(words.iter().map(|bits| BlockWord::from_bits(*bits).unwrap()).collect())
        };
        let part = FragmentPart { fragment: FragmentId(0), offset: 0 };
        for (size, extents, fragment, holes) in [
            (4097, vec![data(&[9]), Extent::Hole(1)], None, 1),
            (4097, vec![data(&[9, 0])], None, 1),
            (8192, vec![data(&[9]), Extent::Hole(1)], None, 4096),
            (4097, vec![Extent::Hole(1), data(&[9])], None, 4096),
            (4097, vec![Extent::Hole(1)], Some(part), 4096),
            (100_000, vec![Extent::Hole(25)], None, 100_000),
            (5, vec![data(&[9])], None, 0),
        ] {
            let content = Content { size, start: 0, extents, fragment };
            assert_eq!(content.hole_bytes(block_size), holes, "{content:?}");
        }
    }
}
