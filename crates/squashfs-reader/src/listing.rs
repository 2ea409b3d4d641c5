//! Directory listings: groups of entries that share a header.

use std::ops::Range;

use crate::error::EntryProblem;
use crate::fields::Fields;
use crate::image::Image;
use crate::inode::{Directory, index_entry};
use crate::rules::Origin;

/// One name in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub name: &'a [u8],
    /// Where the name stands in the directory table.
    pub name_at: usize,
    /// Where the inode stands: a block of the inode table and an offset in it.
    pub inode: (u32, u16),
    pub number: u32,
    pub kind: u16,
}

/// Calls `each` for every entry of a directory, after checking it; returns the bytes of the table that the listing takes.
pub(crate) fn read_listing<'a, E: From<EntryProblem>>(
    image: &'a Image,
    directory: &Directory,
    origin: Origin,
    mut each: impl FnMut(Entry<'a>) -> Result<(), E>,
) -> Result<Range<usize>, E> {
    if directory.size == 0 {
        // Nothing is read of it, so it may also begin behind the last block.
        return if directory.index == 0 { Ok(0..0) } else { Err(EntryProblem::Index.into()) };
    }
    let table = &image.directories;
    let start = table.place(directory.block, directory.offset).ok_or(EntryProblem::Listing)?;
    let end = start + directory.size as usize;
    let listing = table.bytes.get(..end).ok_or(EntryProblem::Listing)?;
    let mut index = Index::new(image, directory, start);
    let mut fields = Fields::new(listing, start);
    let cut_off = |_| EntryProblem::ListingEnd;
    let mut before: &[u8] = b"";
    while fields.position() < end {
        let group = fields.position();
        let count = u64::from(fields.u32().map_err(cut_off)?) + 1;
        let block = fields.u32().map_err(cut_off)?;
        let base = fields.u32().map_err(cut_off)?;
        if count > GROUP_LIMIT {
            return Err(EntryProblem::Group { count }.into());
        }
        for place in 0..count {
            let offset = fields.u16().map_err(cut_off)?;
            let delta = fields.u16().map_err(cut_off)?.cast_signed();
            let kind = fields.u16().map_err(cut_off)?;
            let length = usize::from(fields.u16().map_err(cut_off)?) + 1;
            let name_at = fields.position();
            let name = fields.take(length).map_err(cut_off)?;
            if !is_name(name) {
                return Err(EntryProblem::Name { name: name.to_vec() }.into());
            }
            if name <= before {
                return Err(EntryProblem::Order { name: name.to_vec() }.into());
            }
            before = name;
            if origin == Origin::Published && place == 0 {
                index.take_group(group, name)?;
            }
            let number = base.wrapping_add_signed(delta.into());
            each(Entry { name, name_at, inode: (block, offset), number, kind })?;
        }
    }
    if origin == Origin::Published {
        index.finish()?;
    }
    Ok(start..end)
}

/// Compares a directory's index with its groups while they are read.
///
/// Kernels begin to look for a name where the index says. What it names must be groups, in their order.
struct Index<'a> {
    image: &'a Image,
    start: usize,
    fields: Fields<'a>,
    left: u16,
    next: Option<(u32, u32, &'a [u8])>,
}

impl<'a> Index<'a> {
    fn new(image: &'a Image, directory: &Directory, start: usize) -> Self {
        let fields = Fields::new(&image.inodes.bytes, directory.index_at);
        let mut index = Self { image, start, fields, left: directory.index, next: None };
        index.advance();
        index
    }

    fn advance(&mut self) {
        self.next = None;
        if self.left > 0 {
            self.left -= 1;
            self.next = index_entry(&mut self.fields).ok();
        }
    }

    fn take_group(&mut self, at: usize, name: &[u8]) -> Result<(), EntryProblem> {
        let Some((offset, block, indexed)) = self.next else { return Ok(()) };
        let group = at - self.start;
        if group < offset as usize {
            return Ok(());
        }
        let same = group == offset as usize
            && self.image.directories.block_of(at) == Some(block)
            && indexed == name;
        if !same {
            return Err(EntryProblem::Index);
        }
        self.advance();
        Ok(())
    }

    fn finish(self) -> Result<(), EntryProblem> {
        if self.next.is_none() && self.left == 0 { Ok(()) } else { Err(EntryProblem::Index) }
    }
}

fn is_name(name: &[u8]) -> bool {
    name.len() <= NAME_LIMIT
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// `SQUASHFS_DIR_COUNT`: kernels refuse a larger group.
const GROUP_LIMIT: u64 = 256;
/// `NAME_MAX` of Linux; the format would allow one byte more.
const NAME_LIMIT: usize = 255;
