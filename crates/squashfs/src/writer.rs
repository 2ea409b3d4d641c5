//! The writer: appends encoded blocks while they come, and ends an image with its tree.

use std::collections::BTreeMap;
use std::fs::File;

use crate::block::{Block, BlockEncoder, BlockSize, BlockWord, METADATA_STORED};
use crate::compressor::Compressor;
use crate::directory::{self, Item};
use crate::error::WriteError;
use crate::inode::{self, Common};
use crate::metadata::{Metadata, Position};
use crate::sink::Sink;
use crate::superblock::{SUPERBLOCK_BYTES, Superblock};
use crate::table::write_table;
use crate::tree::{Content, ContentId, FragmentId, FragmentPart, Node, NodeId, NodeKind, Tree};
use crate::walk::Walk;

/// Writes one image into one file.
///
/// The superblock is written last, so that a file which was not finished is never mountable. Syncing and renaming
/// are the caller's.
#[derive(Debug)]
pub struct Writer<'a> {
    sink: Sink<'a>,
    compressor: Compressor,
    block_size: BlockSize,
    fragments: Vec<(u64, BlockWord)>,
}

impl<'a> Writer<'a> {
    /// Starts an image at the beginning of `file`, whose former content is overwritten.
    pub fn new(
        file: &'a File,
        compressor: Compressor,
        block_size: BlockSize,
    ) -> Result<Self, WriteError> {
        let mut sink = Sink::new(file, SUPERBLOCK_BYTES);
        let options = compressor.options();
        sink.append(&(options.len() as u16 | METADATA_STORED).to_le_bytes())?;
        sink.append(&options)?;
        Ok(Self { sink, compressor, block_size, fragments: Vec::new() })
    }

    /// Offset of the next block in the file.
    pub fn position(&self) -> u64 {
        self.sink.position()
    }

    /// Starts a segment: pads with zeros to [`SEGMENT_ALIGNMENT`], so that a file system may share the blocks of it.
    pub fn align(&mut self) -> Result<(), WriteError> {
        self.sink.align(SEGMENT_ALIGNMENT)
    }

    /// Appends one data block and returns its offset; the blocks of one file must follow each other.
    pub fn append(&mut self, block: &Block) -> Result<u64, WriteError> {
        let start = self.sink.position();
        self.sink.append(&block.bytes)?;
        Ok(start)
    }

    /// Appends blocks that stand in another image, `length` bytes from `offset` on, and returns their offset.
    ///
    /// Ranges that follow each other there and here are copied at once, later: the bytes must stay as they are until
    /// [`finish`](Self::finish).
    pub fn copy_from(
        &mut self,
        image: &'a File,
        offset: u64,
        length: u64,
    ) -> Result<u64, WriteError> {
        let start = self.sink.position();
        self.sink.copy_from(image, offset, length)?;
        Ok(start)
    }

    /// Appends one fragment block and numbers it.
    pub fn add_fragment(&mut self, block: &Block) -> Result<FragmentId, WriteError> {
        let start = self.append(block)?;
        self.list_fragment(start, block.word)
    }

    /// Numbers a block that has been appended at `start` as a fragment block.
    pub fn list_fragment(&mut self, start: u64, word: BlockWord) -> Result<FragmentId, WriteError> {
        let id = u32::try_from(self.fragments.len())
            .map_err(|_| WriteError::TooLarge { what: "fragments" })?;
        self.fragments.push((start, word));
        Ok(FragmentId(id))
    }

    /// Writes the tree and all tables, then the superblock, and returns the size of the file, a multiple of 4096.
    pub fn finish(self, tree: &Tree) -> Result<u64, WriteError> {
        self.finish_with(tree, |_| Vec::new())
    }

    /// As [`finish`](Self::finish), with bytes behind the image, where no reader of squashfs looks.
    ///
    /// `behind` is told where they will stand. If their number is no multiple of 4096, the file's size is none.
    pub fn finish_with(
        mut self,
        tree: &Tree,
        behind: impl FnOnce(u64) -> Vec<u8>,
    ) -> Result<u64, WriteError> {
        let mut encoder = BlockEncoder::new(self.compressor)?;
        let walk = Walk::of(tree)?;
        let fragments = self.number_fragments(tree, &walk)?;
        let tables = self.encode_tree(tree, &walk, &fragments, &mut encoder)?;

        let inode_table = self.sink.position();
        self.sink.append(&tables.inodes)?;
        let directory_table = self.sink.position();
        self.sink.append(&tables.directories)?;
        let fragment_table = self.write_fragments(&fragments, &mut encoder)?;
        let export_table = write_table(&tables.export, &mut self.sink, &mut encoder)?;
        let ids: Vec<u8> = tables.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        // The kernel wants the list of the id table to end exactly where the used bytes do.
        let id_table = write_table(&ids, &mut self.sink, &mut encoder)?;
        let superblock = Superblock {
            inodes: walk.order.len() as u32,
            block_size: self.block_size,
            fragments: fragments.kept.len() as u32,
            compressor: self.compressor,
            ids: tables.ids.len() as u16,
            root: tables.root.reference(),
            bytes_used: self.sink.position(),
            id_table,
            inode_table,
            directory_table,
            fragment_table,
            export_table,
        };
        self.sink.align(FILE_ALIGNMENT)?;
        let behind = behind(self.sink.position());
        self.sink.append(&behind)?;
        self.sink.finish(&superblock.encode())
    }

    /// Numbers the fragment blocks that files of the tree use; readers refuse a table with more of them than inodes.
    fn number_fragments(&self, tree: &Tree, walk: &Walk) -> Result<Fragments, WriteError> {
        let mut used = vec![false; self.fragments.len()];
        for id in &walk.order {
            let NodeKind::File(content) = &tree.node(*id)?.kind else { continue };
            let Some(part) = self.content(tree, *content)?.fragment else { continue };
            let index = part.fragment.0 as usize;
            *used.get_mut(index).ok_or(WriteError::Missing { what: "fragment", index })? = true;
        }
        let mut fragments = Fragments::default();
        for (entry, used) in self.fragments.iter().zip(used) {
            fragments.numbers.push(fragments.kept.len() as u32);
            if used {
                fragments.kept.push(*entry);
            }
        }
        Ok(fragments)
    }

    fn write_fragments(
        &mut self,
        fragments: &Fragments,
        encoder: &mut BlockEncoder,
    ) -> Result<Option<u64>, WriteError> {
        if fragments.kept.is_empty() {
            return Ok(None);
        }
        let mut entries = Vec::with_capacity(16 * fragments.kept.len());
        for (start, word) in &fragments.kept {
            entries.extend_from_slice(&start.to_le_bytes());
            entries.extend_from_slice(&word.bits().to_le_bytes());
            entries.extend_from_slice(&[0; 4]);
        }
        write_table(&entries, &mut self.sink, encoder).map(Some)
    }

    fn encode_tree(
        &self,
        tree: &Tree,
        walk: &Walk,
        fragments: &Fragments,
        encoder: &mut BlockEncoder,
    ) -> Result<Tables, WriteError> {
        let mut inodes = Metadata::default();
        let mut directories = Metadata::default();
        let mut ids = Ids::default();
        let mut places = vec![Position::default(); tree.nodes.len()];
        let mut export = Vec::with_capacity(8 * walk.order.len());
        let mut bytes = Vec::new();
        let mut root = Position::default();
        for (&id, number) in walk.order.iter().zip(1..) {
            let node = tree.node(id)?;
            let links = walk.links(id)?;
            let (uid, gid) = (ids.place(node.uid)?, ids.place(node.gid)?);
            let common = Common { node, uid, gid, number, links };
            bytes.clear();
            match &node.kind {
                NodeKind::File(content) => {
                    let content = self.content(tree, *content)?;
                    let part = content.fragment.map(|part| (fragments.number(part), part.offset));
                    inode::encode_file(common, content, part, self.block_size, &mut bytes);
                }
                NodeKind::Symlink(target) => inode::encode_symlink(common, target, &mut bytes),
                NodeKind::Directory(_) => {
                    let items = directory_items(tree, walk, node, &places)?;
                    let listing = directory::write_listing(&items, &mut directories, encoder)?;
                    let parent = walk.parent_number(id)?;
                    inode::encode_directory(common, &listing, parent, &mut bytes)?;
                }
            }
            root = inodes.position()?;
            export.extend_from_slice(&root.reference().to_le_bytes());
            if let Some(place) = places.get_mut(id.0 as usize) {
                *place = root;
            }
            inodes.write(&bytes, encoder)?;
        }
        Ok(Tables {
            inodes: inodes.finish(encoder)?,
            directories: directories.finish(encoder)?,
            export,
            ids: ids.list,
            root, // the last one of the walk
        })
    }

    fn content<'t>(&self, tree: &'t Tree, id: ContentId) -> Result<&'t Content, WriteError> {
        let index = id.0 as usize;
        let content =
            tree.contents.get(index).ok_or(WriteError::Missing { what: "content", index })?;
        content.check(self.block_size)?;
        Ok(content)
    }
}

fn directory_items<'t>(
    tree: &'t Tree,
    walk: &Walk,
    directory: &'t Node,
    places: &[Position],
) -> Result<Vec<Item<'t>>, WriteError> {
    let NodeKind::Directory(entries) = &directory.kind else { return Ok(Vec::new()) };
    let item = |entry: &'t crate::tree::DirectoryEntry| {
        let NodeId(index) = entry.node;
        Ok(Item {
            name: &entry.name,
            inode: places.get(index as usize).copied().unwrap_or_default(),
            number: walk.number(entry.node)?,
            kind: &tree.node(entry.node)?.kind,
        })
    };
    entries.iter().map(item).collect()
}

/// The fragment blocks that the image's table holds.
#[derive(Default)]
struct Fragments {
    kept: Vec<(u64, BlockWord)>,
    /// By number of the writer: the number in the table; of no meaning for those not kept.
    numbers: Vec<u32>,
}

impl Fragments {
    fn number(&self, part: FragmentPart) -> u32 {
        self.numbers.get(part.fragment.0 as usize).copied().unwrap_or_default()
    }
}

struct Tables {
    inodes: Vec<u8>,
    directories: Vec<u8>,
    export: Vec<u8>,
    ids: Vec<u32>,
    root: Position,
}

/// User and group ids in the order of their first use.
#[derive(Default)]
struct Ids {
    list: Vec<u32>,
    places: BTreeMap<u32, u16>,
}

impl Ids {
    fn place(&mut self, id: u32) -> Result<u16, WriteError> {
        if let Some(place) = self.places.get(&id) {
            return Ok(*place);
        }
        let place = u16::try_from(self.list.len())
            .ok()
            .filter(|place| *place < u16::MAX)
            .ok_or(WriteError::TooLarge { what: "different user and group ids" })?;
        self.list.push(id);
        self.places.insert(id, place);
        Ok(place)
    }
}

/// Segments start at multiples of this: the block size of every file system that can share blocks.
pub const SEGMENT_ALIGNMENT: u64 = 4096;
/// The kernel reads a loop device in pages, so the file ends with one.
const FILE_ALIGNMENT: u64 = 4096;
