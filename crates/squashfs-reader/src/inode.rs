//! Inodes: one place in the inode table, parsed and checked as far as the inode alone can tell.

use std::ops::Range;

use crate::error::EntryProblem;
use crate::fields::{CutOff, Fields};
use crate::image::{Image, STORED};
use crate::rules::Origin;

/// What an inode says.
#[derive(Clone, Debug)]
pub(crate) struct Inode {
    /// Where it stands in the decompressed table, all of it.
    pub bytes: Range<usize>,
    pub number: u32,
    pub mode: u16,
    /// Places of owner and group in the id table.
    pub owners: [u16; 2],
    pub mtime: u32,
    pub links: u32,
    pub kind: Kind,
    pub attributes: bool,
}

/// What an inode is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Directory(Directory),
    File(File),
    /// Where the target stands in the inode table.
    Symlink(Range<usize>),
    Device(Device, u32),
    Fifo,
    Socket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    Block,
    Character,
}

#[derive(Clone, Debug)]
pub(crate) struct Directory {
    /// Where the listing begins: a block of the directory table and an offset in it.
    pub block: u32,
    pub offset: u16,
    /// Bytes of the listing.
    pub size: u32,
    pub parent: u32,
    /// Entries of the index, and where it stands in the inode table.
    pub index: u16,
    pub index_at: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct File {
    pub size: u64,
    /// Where the first data block stands in the image.
    pub start: u64,
    /// Bytes that all data blocks take in the image.
    pub length: u64,
    /// The size words of the blocks, in the inode table.
    pub words: Range<usize>,
    /// The fragment block and the offset in it of the last bytes.
    pub fragment: Option<(u32, u32)>,
    /// Bytes in blocks of zeros, as they are and as the inode says.
    pub holes: u64,
    pub said_holes: u64,
}

impl Inode {
    /// Parses the inode that begins at `at` of the decompressed table.
    pub(crate) fn parse(image: &Image, at: usize, origin: Origin) -> Result<Self, EntryProblem> {
        let table = image.inodes.bytes.as_slice();
        let mut fields = Fields::new(table, at);
        let basic = fields.u16()?;
        let mode = fields.u16()?;
        let owners = [fields.u16()?, fields.u16()?];
        let mtime = fields.u32()?;
        let number = fields.u32()?;
        let mut links = 1;
        let mut attribute = NONE;
        let kind = match basic {
            1 => {
                let block = fields.u32()?;
                links = fields.u32()?;
                let (size, offset) = (fields.u16()?.into(), fields.u16()?);
                let parent = fields.u32()?;
                directory(size, Directory { block, offset, size, parent, index: 0, index_at: 0 })?
            }
            8 => {
                links = fields.u32()?;
                let size = fields.u32()?;
                let (block, parent) = (fields.u32()?, fields.u32()?);
                let (index, offset) = (fields.u16()?, fields.u16()?);
                attribute = fields.u32()?;
                let index_at = fields.position();
                for _ in 0..index {
                    index_entry(&mut fields)?;
                }
                directory(size, Directory { block, offset, size, parent, index, index_at })?
            }
            2 => {
                let start = fields.u32()?.into();
                let fragment = (fields.u32()?, fields.u32()?);
                let size = fields.u32()?.into();
                Kind::File(file(image, &mut fields, start, fragment, size, None)?)
            }
            9 => {
                let start = fields.u64()?;
                let size = fields.u64()?;
                let said_holes = fields.u64()?;
                links = fields.u32()?;
                let fragment = (fields.u32()?, fields.u32()?);
                attribute = fields.u32()?;
                Kind::File(file(image, &mut fields, start, fragment, size, Some(said_holes))?)
            }
            3 | 10 => {
                links = fields.u32()?;
                let target = symlink(&mut fields)?;
                if basic == 10 {
                    attribute = fields.u32()?;
                }
                Kind::Symlink(target)
            }
            4 | 5 | 11 | 12 => {
                links = fields.u32()?;
                let number = fields.u32()?;
                let kind = if matches!(basic, 4 | 11) { Device::Block } else { Device::Character };
                if basic > BASIC_TYPES {
                    attribute = fields.u32()?;
                }
                Kind::Device(kind, number)
            }
            6 | 7 | 13 | 14 => {
                links = fields.u32()?;
                if basic > BASIC_TYPES {
                    attribute = fields.u32()?;
                }
                if matches!(basic, 6 | 13) { Kind::Fifo } else { Kind::Socket }
            }
            kind => return Err(EntryProblem::Type { kind }),
        };
        let attributes = attribute != NONE;
        let bytes = at..fields.position();
        let inode = Self { bytes, number, mode, owners, mtime, links, kind, attributes };
        if origin == Origin::Published {
            inode.check_published()?;
        }
        Ok(inode)
    }

    /// What the converter never writes, and what a kernel would take for more than it is.
    fn check_published(&self) -> Result<(), EntryProblem> {
        let mode = self.mode;
        match self.kind {
            Kind::Device(Device::Block, _) => Err(EntryProblem::Special("block device")),
            Kind::Device(Device::Character, _) => Err(EntryProblem::Special("character device")),
            Kind::Fifo => Err(EntryProblem::Special("fifo")),
            Kind::Socket => Err(EntryProblem::Special("socket")),
            // The kernel adds the type of the inode to these bits, so that others would change what the file is.
            _ if mode & !PERMISSIONS != 0 => Err(EntryProblem::Mode { mode }),
            _ if mode & SET_IDS != 0 => Err(EntryProblem::SetId { mode }),
            _ if self.attributes => Err(EntryProblem::Attributes),
            _ if self.owners != [0, 0] => Err(EntryProblem::Owner),
            _ => Ok(()),
        }
    }

    /// The type as directory entries have it.
    pub(crate) fn basic_type(&self) -> u16 {
        match self.kind {
            Kind::Directory(_) => 1,
            Kind::File(_) => 2,
            Kind::Symlink(_) => 3,
            Kind::Device(Device::Block, _) => 4,
            Kind::Device(Device::Character, _) => 5,
            Kind::Fifo => 6,
            Kind::Socket => 7,
        }
    }
}

/// One entry of a directory's index: where a group begins in the listing, in which block of the directory table that is,
/// and the first name of the group.
pub(crate) fn index_entry<'a>(
    fields: &mut Fields<'a>,
) -> Result<(u32, u32, &'a [u8]), EntryProblem> {
    let (offset, block, last) = (fields.u32()?, fields.u32()?, fields.u32()?);
    // Kernels read the name into a buffer for the longest one.
    if last >= NAME_LIMIT {
        return Err(EntryProblem::Index);
    }
    Ok((offset, block, fields.take(last as usize + 1)?))
}

/// Takes three bytes off the size, which stand for `.` and `..` that are not stored.
fn directory(size: u32, directory: Directory) -> Result<Kind, EntryProblem> {
    let size = size.checked_sub(3).ok_or(EntryProblem::Size { size: size.into() })?;
    Ok(Kind::Directory(Directory { size, ..directory }))
}

fn symlink(fields: &mut Fields<'_>) -> Result<Range<usize>, EntryProblem> {
    let length = fields.u32()?;
    let wrong = EntryProblem::Target { length };
    if length == 0 || length > TARGET_LIMIT {
        return Err(wrong);
    }
    let start = fields.position();
    let target = fields.take(length as usize)?;
    if target.contains(&0) {
        return Err(wrong);
    }
    Ok(start..fields.position())
}

fn file(
    image: &Image,
    fields: &mut Fields<'_>,
    start: u64,
    (fragment, fragment_offset): (u32, u32),
    size: u64,
    said_holes: Option<u64>,
) -> Result<File, EntryProblem> {
    let block_size = u64::from(image.superblock.block_size);
    let tail = size % block_size;
    let impossible = EntryProblem::Size { size };
    if size > i64::MAX as u64 {
        return Err(impossible);
    }
    let fragment = if fragment == NONE {
        None
    } else {
        check_fragment(image, fragment, fragment_offset, tail)?;
        Some((fragment, fragment_offset))
    };
    let blocks = size / block_size + u64::from(fragment.is_none() && tail > 0);
    let bytes = blocks
        .checked_mul(4)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or(EntryProblem::CutOff)?;
    let words_at = fields.position();
    let words = fields.take(bytes)?;
    let mut length = 0_u64;
    let mut holes = 0;
    for (index, word) in (0..).zip(words.as_chunks().0) {
        let word = u32::from_le_bytes(*word);
        let room = block_size.min(size - index * block_size);
        let stored = u64::from(word & !STORED);
        // Kernels read a word without a length as a hole only where no bit is set, and a block that is not compressed has
        // the length of what it holds.
        let possible = if word & STORED == 0 { stored <= block_size } else { stored == room };
        if !possible {
            return Err(EntryProblem::Block { index, word });
        }
        length += stored; // at most the block size for each word that is in memory
        holes += if word == 0 { room } else { 0 };
    }
    let end = start.checked_add(length).ok_or(EntryProblem::Data)?;
    if length > 0 && (start < image.superblock.data || end > image.superblock.inode_table) {
        return Err(EntryProblem::Data);
    }
    let words = words_at..fields.position();
    let said_holes = said_holes.unwrap_or_default();
    Ok(File { size, start, length, words, fragment, holes, said_holes })
}

fn check_fragment(image: &Image, index: u32, offset: u32, tail: u64) -> Result<(), EntryProblem> {
    let wrong = EntryProblem::Fragment { index };
    let Some(block) = image.fragments.get(index as usize) else { return Err(wrong) };
    let room = if block.stored { block.length } else { image.superblock.block_size };
    if tail == 0 || u64::from(offset) + tail > u64::from(room) {
        return Err(wrong);
    }
    Ok(())
}

impl From<CutOff> for EntryProblem {
    fn from(_: CutOff) -> Self {
        Self::CutOff
    }
}

/// The fewest bytes that an inode has.
pub(crate) const SMALLEST: usize = 20;
/// Longest name that the format has room for.
const NAME_LIMIT: u32 = 256;
/// `PATH_MAX` without its NUL: newer kernels refuse an image with a longer target (CVE-2024-46744).
const TARGET_LIMIT: u32 = 4095;
/// Types above this one are the extended forms, which have room for attributes.
const BASIC_TYPES: u16 = 7;
const NONE: u32 = u32::MAX;
const PERMISSIONS: u16 = 0o7777;
const SET_IDS: u16 = 0o6000;
