//! Inodes: one function per kind, basic form where it is wide enough, else extended.

use crate::block::BlockSize;
use crate::directory::Listing;
use crate::error::WriteError;
use crate::tree::{Content, Extent, Node};

/// What every inode begins with, beside its type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common<'a> {
    pub node: &'a Node,
    /// Places of owner and group in the id table.
    pub uid: u16,
    pub gid: u16,
    /// Its number.
    pub number: u32,
    /// Its link count.
    pub links: u32,
}

/// Appends the inode of a regular file; `part` is the number of its fragment block in the table, and the offset there.
pub(crate) fn encode_file(
    common: Common<'_>,
    content: &Content,
    part: Option<(u32, u32)>,
    block_size: BlockSize,
    out: &mut Vec<u8>,
) {
    let (fragment, offset) = part.unwrap_or((NO_FRAGMENT, 0));
    let holes = content.hole_bytes(block_size);
    let narrow = u32::try_from(content.start).ok().zip(u32::try_from(content.size).ok());
    match narrow {
        Some((start, size)) if holes == 0 && common.links == 1 => {
            common.encode(FILE, out);
            put32(out, &[start, fragment, offset, size]);
        }
        _ => {
            common.encode(EXTENDED_FILE, out);
            put64(out, content.start);
            put64(out, content.size);
            // As squashfs-tools has it: a file of holes alone still counts one byte of data.
            put64(out, if holes == content.size { holes.saturating_sub(1) } else { holes });
            put32(out, &[common.links, fragment, offset, NO_XATTRS]);
        }
    }
    for extent in &content.extents {
        match extent {
            Extent::Data(words) => words.iter().for_each(|word| put32(out, &[word.bits()])),
            Extent::Hole(blocks) => (0..*blocks).for_each(|_| put32(out, &[0])),
        }
    }
}

/// Appends the inode of a symbolic link.
pub(crate) fn encode_symlink(common: Common<'_>, target: &[u8], out: &mut Vec<u8>) {
    common.encode(SYMLINK, out);
    put32(out, &[common.links, target.len() as u32]);
    out.extend_from_slice(target);
}

/// Appends the inode of a directory whose listing has been written.
pub(crate) fn encode_directory(
    common: Common<'_>,
    listing: &Listing,
    parent: u32,
    out: &mut Vec<u8>,
) -> Result<(), WriteError> {
    // The sizes of the format count three bytes for `.` and `..`, which are not stored.
    let size = u32::try_from(listing.size + 3)
        .map_err(|_| WriteError::TooLarge { what: "entries in one directory" })?;
    match u16::try_from(size) {
        Ok(size) if listing.index.is_empty() => {
            common.encode(DIRECTORY, out);
            put32(out, &[listing.start.block, common.links]);
            put16(out, &[size, listing.start.offset]);
            put32(out, &[parent]);
        }
        _ => {
            common.encode(EXTENDED_DIRECTORY, out);
            put32(out, &[common.links, size, listing.start.block, parent]);
            put16(out, &[listing.index.len() as u16, listing.start.offset]);
            put32(out, &[NO_XATTRS]);
            for entry in &listing.index {
                put32(out, &[entry.offset, entry.block, entry.name.len() as u32 - 1]);
                out.extend_from_slice(&entry.name);
            }
        }
    }
    Ok(())
}

impl Common<'_> {
    fn encode(&self, kind: u16, out: &mut Vec<u8>) {
        put16(out, &[kind, self.node.mode & PERMISSIONS, self.uid, self.gid]);
        put32(out, &[self.node.mtime, self.number]);
    }
}

fn put16(out: &mut Vec<u8>, fields: &[u16]) {
    fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
}

fn put32(out: &mut Vec<u8>, fields: &[u32]) {
    fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
}

fn put64(out: &mut Vec<u8>, field: u64) {
    out.extend_from_slice(&field.to_le_bytes());
}

/// Types of inodes; directory entries name the basic one also where the inode is extended.
pub(crate) const DIRECTORY: u16 = 1;
pub(crate) const FILE: u16 = 2;
pub(crate) const SYMLINK: u16 = 3;
const EXTENDED_DIRECTORY: u16 = 8;
const EXTENDED_FILE: u16 = 9;

const NO_FRAGMENT: u32 = u32::MAX;
const NO_XATTRS: u32 = u32::MAX;
const PERMISSIONS: u16 = 0o7777;
