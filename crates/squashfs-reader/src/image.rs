//! An image with all its tables read: everything but the data.

use crate::codec::Codec;
use crate::error::{ReadError, SuperblockProblem, TableName, TableProblem};
use crate::metadata::{BLOCK, Stream, read_lookup};
use crate::published;
use crate::rules::{Origin, Rules};
use crate::source::ReadAt;
use crate::superblock::Superblock;

/// The tables of an image, in memory.
#[derive(Debug)]
pub(crate) struct Image {
    pub superblock: Superblock,
    pub inodes: Stream,
    pub directories: Stream,
    pub ids: Vec<u32>,
    pub fragments: Vec<FragmentBlock>,
    /// By inode number, from 1 on: where the inode stands.
    pub export: Option<Vec<u64>>,
}

/// A block that holds the last parts of several files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FragmentBlock {
    pub start: u64,
    /// Bytes in the file.
    pub length: u32,
    pub stored: bool,
}

impl Image {
    /// Reads the superblock and all tables.
    ///
    /// The tables must stand in the order in which all known writers write them and kernels check them: inodes,
    /// directories, fragments, export, owners. Those of published images must also follow each other without a gap.
    pub(crate) fn read(
        source: &(impl ReadAt + ?Sized),
        rules: &Rules,
    ) -> Result<(Self, Codec), ReadError> {
        let superblock = Superblock::read(source)?;
        if rules.origin == Origin::Published {
            published::check_superblock(source, &superblock)?;
        }
        if superblock.inodes > rules.limits.inodes {
            let allowed = rules.limits.inodes.into();
            return Err(ReadError::Limit { what: "inodes", allowed });
        }
        let mut codec = Codec::new(superblock.compression, superblock.block_size);
        let mut lookup = Lookup { source, codec: &mut codec, rules, next: superblock.bytes_used };

        let ids = lookup.read(TableName::Ids, superblock.id_table, superblock.ids.into(), 4)?;
        let export = match superblock.export_table {
            Some(list) => {
                Some(lookup.read(TableName::Export, list, superblock.inodes.into(), 8)?)
            }
            None => None,
        };
        let fragments = match superblock.fragment_table {
            _ if superblock.fragments == 0 => Vec::new(),
            Some(list) => {
                if superblock.fragments > superblock.inodes {
                    return Err(ReadError::Superblock(SuperblockProblem::Count {
                        table: TableName::Fragments,
                        entries: superblock.fragments.into(),
                    }));
                }
                lookup.read(TableName::Fragments, list, superblock.fragments.into(), 16)?
            }
            None => {
                let table = TableName::Fragments;
                return Err(ReadError::Superblock(SuperblockProblem::Missing { table }));
            }
        };
        let end = lookup.next;
        let (inode_table, directory_table) = (superblock.inode_table, superblock.directory_table);
        if directory_table > end {
            let (table, offset) = (TableName::Directories, directory_table);
            return Err(ReadError::Superblock(SuperblockProblem::Place { table, offset }));
        }
        let mut stream =
            |table, range| Stream::read(source, &mut codec, table, range, rules.limits.table_bytes);
        let inodes = stream(TableName::Inodes, (inode_table, directory_table))?;
        let directories = stream(TableName::Directories, (directory_table, end))?;
        let fragments = parse_fragments(&fragments, &superblock)?;
        let words = |bytes: Vec<u8>| {
            bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
        };
        let image = Self {
            inodes,
            directories,
            ids: ids.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect(),
            fragments,
            export: export.map(words),
            superblock,
        };
        Ok((image, codec))
    }
}

/// Reads the lookup tables from the last one to the first, checking that each ends before the one behind it.
struct Lookup<'a, S: ?Sized> {
    source: &'a S,
    codec: &'a mut Codec,
    rules: &'a Rules,
    /// Where the table behind begins.
    next: u64,
}

impl<S: ReadAt + ?Sized> Lookup<'_, S> {
    fn read(
        &mut self,
        table: TableName,
        list: u64,
        count: u64,
        size: u64,
    ) -> Result<Vec<u8>, ReadError> {
        let place = ReadError::Superblock(SuperblockProblem::Place { table, offset: list });
        let bytes = count * size;
        let end = list.checked_add(8 * bytes.div_ceil(BLOCK as u64));
        let fits = match self.rules.origin {
            Origin::Published => end == Some(self.next),
            Origin::Imported => end.is_some_and(|end| end <= self.next),
        };
        if !fits {
            return Err(place);
        }
        let Ok(bytes) = usize::try_from(bytes) else { return Err(place) };
        let (entries, first) = read_lookup(self.source, self.codec, table, list, bytes)?;
        self.next = first;
        Ok(entries)
    }
}

fn parse_fragments(
    entries: &[u8],
    superblock: &Superblock,
) -> Result<Vec<FragmentBlock>, ReadError> {
    let parse = |(index, entry): (usize, &[u8; 16])| {
        let [s0, s1, s2, s3, s4, s5, s6, s7, w0, w1, w2, w3, ..] = *entry;
        let start = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let word = u32::from_le_bytes([w0, w1, w2, w3]);
        let (length, stored) = (word & !STORED, word & STORED != 0);
        let end = start.checked_add(length.into());
        let inside =
            start >= superblock.data && end.is_some_and(|end| end <= superblock.inode_table);
        if length == 0 || length > superblock.block_size || !inside {
            let (table, problem) = (TableName::Fragments, TableProblem::Fragment { index });
            let offset = superblock.fragment_table.unwrap_or_default();
            return Err(ReadError::Table { table, offset, problem });
        }
        Ok(FragmentBlock { start, length, stored })
    };
    entries.as_chunks().0.iter().enumerate().map(parse).collect()
}

/// Reads `length` bytes, which is little enough to be set aside before they are there.
pub(crate) fn read(
    source: &(impl ReadAt + ?Sized),
    offset: u64,
    length: usize,
) -> Result<Vec<u8>, ReadError> {
    let mut bytes = vec![0; length];
    read_into(source, offset, &mut bytes)?;
    Ok(bytes)
}

/// Fills `bytes` from `offset` of the image on.
pub(crate) fn read_into(
    source: &(impl ReadAt + ?Sized),
    offset: u64,
    bytes: &mut [u8],
) -> Result<(), ReadError> {
    source.read_exact_at(bytes, offset).map_err(|source| ReadError::Read {
        offset,
        length: bytes.len(),
        source,
    })
}

/// Set in the size word of a data or fragment block that is not compressed (`SQUASHFS_COMPRESSED_BIT_BLOCK`).
pub(crate) const STORED: u32 = 1 << 24;
