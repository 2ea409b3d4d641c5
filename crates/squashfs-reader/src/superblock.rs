//! The superblock: 96 bytes at the start of an image that say where everything else is.

use crate::codec::Compression;
use crate::error::{ReadError, SuperblockProblem, TableName};
use crate::fields::Fields;
use crate::image::read;
use crate::source::ReadAt;

/// What a superblock says, as far as that can be checked without looking elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Superblock {
    pub inodes: u32,
    pub block_size: u32,
    pub fragments: u32,
    pub compression: Compression,
    pub flags: u16,
    pub ids: u16,
    pub root: u64,
    pub bytes_used: u64,
    pub id_table: u64,
    pub attribute_table: Option<u64>,
    pub inode_table: u64,
    pub directory_table: u64,
    /// Some writers give an offset also where there are no fragments.
    pub fragment_table: Option<u64>,
    pub export_table: Option<u64>,
    /// Where data can begin: behind the superblock and the compressor's options.
    pub data: u64,
    /// The compressor's options, if there are any.
    pub options: Option<Vec<u8>>,
}

/// Tells whether `head`, the first bytes of a file, are those of a squashfs 4.
pub fn is_squashfs(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

impl Superblock {
    /// Reads and checks the superblock and the compressor's options.
    pub(crate) fn read(source: &(impl ReadAt + ?Sized)) -> Result<Self, ReadError> {
        let length =
            source.length().map_err(|source| ReadError::Read { offset: 0, length: 0, source })?;
        if length < BYTES {
            return Err(ReadError::Superblock(SuperblockProblem::TooShort { length }));
        }
        let bytes = read(source, 0, BYTES as usize)?;
        let mut superblock = parse(&bytes, length).map_err(ReadError::Superblock)?;
        if superblock.flags & COMPRESSOR_OPTIONS != 0 {
            superblock.read_options(source)?;
        }
        Ok(superblock)
    }

    fn read_options(&mut self, source: &(impl ReadAt + ?Sized)) -> Result<(), ReadError> {
        let invalid = ReadError::Superblock(SuperblockProblem::CompressorOptions);
        let head = match read(source, BYTES, 2)?.as_slice() {
            [low, high] => u16::from_le_bytes([*low, *high]),
            _ => return Err(invalid),
        };
        // Options are never compressed: a reader needs them before it can decompress anything.
        let length = head & !STORED;
        let end = BYTES + 2 + u64::from(length);
        if head & STORED == 0 || length == 0 || length > OPTIONS_LIMIT || end > self.inode_table {
            return Err(invalid);
        }
        self.options = Some(read(source, BYTES + 2, length.into())?);
        self.data = end;
        Ok(())
    }
}

fn parse(bytes: &[u8], length: u64) -> Result<Superblock, SuperblockProblem> {
    let short = |_| SuperblockProblem::TooShort { length };
    let mut fields = Fields::new(bytes, 0);
    if fields.take(4).map_err(short)? != MAGIC {
        return Err(SuperblockProblem::Magic);
    }
    let inodes = fields.u32().map_err(short)?;
    fields.u32().map_err(short)?; // creation time
    let block_size = fields.u32().map_err(short)?;
    let fragments = fields.u32().map_err(short)?;
    let compressor = fields.u16().map_err(short)?;
    let log = fields.u16().map_err(short)?;
    let flags = fields.u16().map_err(short)?;
    let ids = fields.u16().map_err(short)?;
    let (major, minor) = (fields.u16().map_err(short)?, fields.u16().map_err(short)?);
    let mut offsets = [0; 8];
    for offset in &mut offsets {
        *offset = fields.u64().map_err(short)?;
    }
    let [
        root,
        bytes_used,
        id_table,
        attribute_table,
        inode_table,
        directory_table,
        fragment_table,
        export_table,
    ] = offsets;

    if (major, minor) != (4, 0) {
        return Err(SuperblockProblem::Version { major, minor });
    }
    let compression =
        Compression::from_id(compressor).ok_or(SuperblockProblem::Compressor { id: compressor })?;
    let possible = (SMALLEST_BLOCK..=LARGEST_BLOCK).contains(&block_size);
    if !possible || block_size.checked_ilog2() != Some(log.into()) || !block_size.is_power_of_two()
    {
        return Err(SuperblockProblem::BlockSize { bytes: block_size, log });
    }
    if bytes_used < BYTES || bytes_used > length {
        return Err(SuperblockProblem::BytesUsed { used: bytes_used, length });
    }
    for (table, offset, from) in [
        (TableName::Inodes, inode_table, BYTES),
        (TableName::Directories, directory_table, inode_table),
        (TableName::Ids, id_table, directory_table),
    ] {
        if offset < from || offset >= bytes_used {
            return Err(SuperblockProblem::Place { table, offset });
        }
    }
    for (table, entries) in [(TableName::Inodes, inodes), (TableName::Ids, ids.into())] {
        if entries == 0 {
            return Err(SuperblockProblem::Count { table, entries: 0 });
        }
    }
    let present = |offset| Some(offset).filter(|offset| *offset != ABSENT);
    Ok(Superblock {
        inodes,
        block_size,
        fragments,
        compression,
        flags,
        ids,
        root,
        bytes_used,
        id_table,
        attribute_table: present(attribute_table),
        inode_table,
        directory_table,
        fragment_table: present(fragment_table),
        export_table: present(export_table),
        data: BYTES,
        options: None,
    })
}

const MAGIC: &[u8] = b"hsqs";
/// Bytes of a superblock.
const BYTES: u64 = 96;
/// The offset of a table that is not there.
const ABSENT: u64 = u64::MAX;
const SMALLEST_BLOCK: u32 = 4096;
const LARGEST_BLOCK: u32 = 1 << 20;
/// Set in the head of the options, which is that of a metadata block that is not compressed.
const STORED: u16 = 1 << 15;
/// More than the options of any compressor have.
const OPTIONS_LIMIT: u16 = 64;
/// `SQUASHFS_COMP_OPT`: the compressor's options follow the superblock.
pub(crate) const COMPRESSOR_OPTIONS: u16 = 1 << 10;
