//! What must hold for an image before it is published, beyond what any image must have to be read.
//!
//! These are the things that kernels take for granted, and what our own writer always does.

use std::ops::Range;

use crate::codec::Compression;
use crate::error::{EntryProblem, ReadError, SuperblockProblem, TableName, TableProblem};
use crate::image::{Image, read};
use crate::inode::{Inode, Kind};
use crate::metadata::BLOCK;
use crate::ranges::check_ranges;
use crate::source::ReadAt;
use crate::superblock::{COMPRESSOR_OPTIONS, Superblock};
use crate::walk::{Found, Tree};

/// Checks what the superblock says, and that the file holds the whole last page of the image.
pub(crate) fn check_superblock(
    source: &(impl ReadAt + ?Sized),
    superblock: &Superblock,
) -> Result<(), ReadError> {
    check_fields(superblock).map_err(ReadError::Superblock)?;
    let used = superblock.bytes_used;
    let padding = (used.next_multiple_of(PAGE) - used) as usize;
    let length =
        source.length().map_err(|source| ReadError::Read { offset: used, length: 0, source })?;
    if length - used < padding as u64 {
        let used = used + padding as u64;
        return Err(ReadError::Superblock(SuperblockProblem::BytesUsed { used, length }));
    }
    if read(source, used, padding)?.iter().any(|byte| *byte != 0) {
        return Err(ReadError::Superblock(SuperblockProblem::Padding));
    }
    Ok(())
}

fn check_fields(superblock: &Superblock) -> Result<(), SuperblockProblem> {
    let options = superblock.options.as_deref().unwrap_or_default();
    let known = match (superblock.compression, options) {
        // Level, window of 32 KiB, default strategy.
        (Compression::Gzip, [level, 0, 0, 0, 15, 0, 0, 0]) => (1..=9).contains(level),
        (Compression::Zstd, [level, 0, 0, 0]) => (1..=22).contains(level),
        (Compression::Gzip | Compression::Zstd, _) => false,
        (other, _) => return Err(SuperblockProblem::Compressor { id: other.id() }),
    };
    let no_fragments = if superblock.fragments == 0 { NO_FRAGMENTS } else { 0 };
    if superblock.flags != EXPORTABLE | NO_ATTRIBUTES | COMPRESSOR_OPTIONS | no_fragments {
        return Err(SuperblockProblem::Flags { flags: superblock.flags });
    }
    if !known {
        return Err(SuperblockProblem::CompressorOptions);
    }
    if superblock.attribute_table.is_some() {
        return Err(SuperblockProblem::Attributes);
    }
    if superblock.export_table.is_none() {
        return Err(SuperblockProblem::Missing { table: TableName::Export });
    }
    if let Some(offset) = superblock.fragment_table.filter(|_| superblock.fragments == 0) {
        return Err(SuperblockProblem::Place { table: TableName::Fragments, offset });
    }
    if superblock.ids != 1 {
        let entries = superblock.ids.into();
        return Err(SuperblockProblem::Count { table: TableName::Ids, entries });
    }
    Ok(())
}

/// Checks a tree that was walked by the rules for published images.
pub(crate) fn check_tree(image: &Image, tree: &Tree) -> Result<(), ReadError> {
    let superblock = &image.superblock;
    if image.ids != [0] {
        return Err(wrong(TableName::Ids, superblock.id_table, TableProblem::Owners));
    }
    check_numbers(image, tree)?;
    check_coverage(
        TableName::Inodes,
        superblock.inode_table,
        tree.found.iter().map(|found| found.inode.bytes.clone()).collect(),
        image.inodes.bytes.len(),
    )?;
    check_coverage(
        TableName::Directories,
        superblock.directory_table,
        tree.listings.iter().filter(|range| !range.is_empty()).cloned().collect(),
        image.directories.bytes.len(),
    )?;
    for found in &tree.found {
        check_inode(image, tree, found)
            .map_err(|problem| tree.error(image, found.first, problem))?;
    }
    check_ranges(image, tree)
}

/// Checks that the inodes have the numbers from 1 on, and that the export table finds them.
fn check_numbers(image: &Image, tree: &Tree) -> Result<(), ReadError> {
    let superblock = &image.superblock;
    let inodes = |problem| wrong(TableName::Inodes, superblock.inode_table, problem);
    let (expected, found) = (superblock.inodes, tree.found.len() as u32);
    if expected != found {
        return Err(inodes(TableProblem::Unreached { expected, found }));
    }
    let mut seen = vec![false; tree.found.len()];
    for Found { inode, .. } in &tree.found {
        let number = inode.number;
        let index = (number as usize).wrapping_sub(1);
        match seen.get_mut(index) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(inodes(TableProblem::Number { number })),
        }
        let exported = image.export.as_ref().and_then(|export| export.get(index));
        if exported.copied() != reference(image, inode) {
            let offset = superblock.export_table.unwrap_or_default();
            return Err(wrong(TableName::Export, offset, TableProblem::Export { number }));
        }
    }
    Ok(())
}

/// How the format names the place of an inode.
fn reference(image: &Image, inode: &Inode) -> Option<u64> {
    let block = image.inodes.block_of(inode.bytes.start)?;
    Some(u64::from(block) << 16 | (inode.bytes.start % BLOCK) as u64)
}

/// Checks that the parts fill a table without a gap or an overlap.
fn check_coverage(
    table: TableName,
    offset: u64,
    mut parts: Vec<Range<usize>>,
    length: usize,
) -> Result<(), ReadError> {
    parts.sort_unstable_by_key(|part| part.start);
    let mut filled = 0;
    for part in parts {
        if part.start != filled {
            return Err(wrong(table, offset, TableProblem::Coverage));
        }
        filled = part.end;
    }
    if filled == length { Ok(()) } else { Err(wrong(table, offset, TableProblem::Coverage)) }
}

fn check_inode(image: &Image, tree: &Tree, found: &Found) -> Result<(), EntryProblem> {
    let inode = &found.inode;
    let expected = match inode.kind {
        Kind::Directory(_) => 2 + u64::from(found.subdirectories),
        _ => found.names.into(),
    };
    if u64::from(inode.links) != expected {
        return Err(EntryProblem::Links { expected, found: inode.links });
    }
    match &inode.kind {
        Kind::Directory(directory) => {
            let above = tree
                .names
                .get(found.first as usize)
                .and_then(|name| tree.found_of(tree.names.get(name.parent as usize)?));
            // squashfs-tools gives the root the number after the last one for a parent.
            let expected = match above {
                Some(above) if found.first != 0 => above.inode.number,
                _ => image.superblock.inodes + 1,
            };
            if directory.parent != expected {
                return Err(EntryProblem::Parent { expected, found: directory.parent });
            }
        }
        Kind::File(file) => {
            // A kernel subtracts this from the size. squashfs-tools lets a file of holes alone count one byte of data, and
            // does not count zeros as holes where they were not holes on disk.
            let expected = match file.holes {
                holes if holes == file.size => holes.saturating_sub(1),
                holes => holes,
            };
            if file.said_holes != expected && file.said_holes != 0 {
                return Err(EntryProblem::Holes { expected, found: file.said_holes });
            }
        }
        Kind::Symlink(_) | Kind::Device(..) | Kind::Fifo | Kind::Socket => {}
    }
    Ok(())
}

fn wrong(table: TableName, offset: u64, problem: TableProblem) -> ReadError {
    ReadError::Table { table, offset, problem }
}

/// A loop device is read in pages, so the file must hold the last one whole.
const PAGE: u64 = 4096;
/// Flags of the superblock; see `squashfs_fs.h`, and squashfs-tools for the one about attributes.
const NO_FRAGMENTS: u16 = 1 << 4;
const EXPORTABLE: u16 = 1 << 7;
const NO_ATTRIBUTES: u16 = 1 << 9;
