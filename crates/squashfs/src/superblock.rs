//! The superblock: 96 bytes at the start of the image that say where everything else is.

use crate::block::BlockSize;
use crate::compressor::Compressor;

/// What the superblock says; offsets are from the start of the file.
#[derive(Debug)]
pub(crate) struct Superblock {
    pub inodes: u32,
    pub block_size: BlockSize,
    pub fragments: u32,
    pub compressor: Compressor,
    pub ids: u16,
    pub root: u64,
    pub bytes_used: u64,
    pub id_table: u64,
    pub inode_table: u64,
    pub directory_table: u64,
    pub fragment_table: Option<u64>,
    pub export_table: u64,
}

impl Superblock {
    /// The 96 bytes of `struct squashfs_super_block`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let flags = EXPORTABLE
            | NO_XATTRS
            | COMPRESSOR_OPTIONS
            | if self.fragment_table.is_none() { NO_FRAGMENTS } else { 0 };
        let mut bytes = Vec::with_capacity(SUPERBLOCK_BYTES);
        bytes.extend_from_slice(b"hsqs");
        bytes.extend_from_slice(&self.inodes.to_le_bytes());
        bytes.extend_from_slice(&0_u32.to_le_bytes()); // creation time: the output must not depend on the clock
        bytes.extend_from_slice(&self.block_size.bytes().to_le_bytes());
        bytes.extend_from_slice(&self.fragments.to_le_bytes());
        for field in [self.compressor.id(), self.block_size.log2(), flags, self.ids, 4, 0] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        for field in [
            self.root,
            self.bytes_used,
            self.id_table,
            ABSENT,
            self.inode_table,
            self.directory_table,
            self.fragment_table.unwrap_or(ABSENT),
            self.export_table,
        ] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes
    }
}

pub(crate) const SUPERBLOCK_BYTES: usize = 96;
/// The offset of a table that is not there.
const ABSENT: u64 = u64::MAX;

const NO_FRAGMENTS: u16 = 0x0010;
const EXPORTABLE: u16 = 0x0080;
const NO_XATTRS: u16 = 0x0200;
const COMPRESSOR_OPTIONS: u16 = 0x0400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_has_96_bytes_with_the_fields_in_their_places() {
        let bytes = Superblock {
            inodes: 7,
            block_size: BlockSize::default(),
            fragments: 0,
            compressor: Compressor::default(),
            ids: 1,
            root: 0x1234,
            bytes_used: 500,
            id_table: 490,
            inode_table: 100,
            directory_table: 200,
            fragment_table: None,
            export_table: 300,
        }
        .encode();
        assert_eq!(bytes.len(), SUPERBLOCK_BYTES);
        assert_eq!(&bytes[..8], b"hsqs\x07\0\0\0");
        assert_eq!(&bytes[20..32], &[6, 0, 17, 0, 0x90, 6, 1, 0, 4, 0, 0, 0]);
        assert_eq!(&bytes[32..34], &[0x34, 0x12]);
        assert_eq!(&bytes[56..64], &[0xff; 8]);
    }
}
