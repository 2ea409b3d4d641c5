//! Directory listings: entries in groups that share a header, and the index that lets the kernel skip groups.

use crate::block::BlockEncoder;
use crate::error::WriteError;
use crate::inode::{DIRECTORY, FILE, SYMLINK};
use crate::metadata::{Metadata, Position};
use crate::tree::NodeKind;

/// One entry as the directory table needs it.
#[derive(Debug)]
pub(crate) struct Item<'a> {
    pub name: &'a [u8],
    pub inode: Position,
    pub number: u32,
    pub kind: &'a NodeKind,
}

/// Where a listing stands.
#[derive(Debug)]
pub(crate) struct Listing {
    pub start: Position,
    /// Bytes, headers included.
    pub size: u64,
    pub index: Vec<IndexEntry>,
}

/// Says that the group which starts with `name` is `offset` bytes into the listing, in metadata block `block`.
#[derive(Debug)]
pub(crate) struct IndexEntry {
    pub offset: u32,
    pub block: u32,
    pub name: Vec<u8>,
}

/// Writes the listing of one directory, whose items must be in byte order and already have inodes.
pub(crate) fn write_listing(
    items: &[Item<'_>],
    table: &mut Metadata,
    encoder: &mut BlockEncoder,
) -> Result<Listing, WriteError> {
    let start = table.position()?;
    let mut listing = Listing { start, size: 0, index: Vec::new() };
    let mut indexed = start.block;
    let mut rest = items;
    while let Some(first) = rest.first() {
        let (group, later) = rest.split_at(group_length(rest));
        rest = later;
        let block = table.position()?.block;
        if block != indexed && listing.index.len() < usize::from(u16::MAX) {
            indexed = block;
            let offset = u32::try_from(listing.size)
                .map_err(|_| WriteError::TooLarge { what: "entries in one directory" })?;
            listing.index.push(IndexEntry { offset, block, name: first.name.to_vec() });
        }
        let bytes = encode_group(first, group);
        listing.size += bytes.len() as u64;
        table.write(&bytes, encoder)?;
    }
    Ok(listing)
}

/// How many items share the header of the first: at most 256, in one metadata block of the inode table, with inode
/// numbers that differ by what 16 signed bits hold, and little enough text that the index stays useful.
fn group_length(items: &[Item<'_>]) -> usize {
    let Some(first) = items.first() else { return 0 };
    let mut text = 0;
    items
        .iter()
        .take(GROUP_LIMIT)
        .take_while(|item| {
            text += item.name.len();
            let delta = i64::from(item.number) - i64::from(first.number);
            item.inode.block == first.inode.block
                && i16::try_from(delta).is_ok()
                && (text <= GROUP_TEXT || item.name == first.name)
        })
        .count()
}

fn encode_group(first: &Item<'_>, group: &[Item<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [group.len() as u32 - 1, first.inode.block, first.number] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    for item in group {
        let delta = item.number.wrapping_sub(first.number) as u16;
        let kind = match item.kind {
            NodeKind::Directory(_) => DIRECTORY,
            NodeKind::File(_) => FILE,
            NodeKind::Symlink(_) => SYMLINK,
        };
        for field in [item.inode.offset, delta, kind, item.name.len() as u16 - 1] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(item.name);
    }
    bytes
}

/// `SQUASHFS_DIR_COUNT`: the kernel refuses a larger group.
const GROUP_LIMIT: usize = 256;
/// Names in one group, in bytes; a group is looked through from its start.
const GROUP_TEXT: usize = 6 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::ContentId;

    fn items<'a>(names: &'a [Vec<u8>], kind: &'a NodeKind) -> Vec<Item<'a>> {
        let item = |(index, name): (usize, &'a Vec<u8>)| Item {
            name,
            inode: Position::default(),
            number: index as u32 + 1,
            kind,
        };
        names.iter().enumerate().map(item).collect()
    }

    #[test]
    fn a_group_ends_at_256_entries_another_block_a_far_number_or_much_text() {
        let file = NodeKind::File(ContentId(0));
        let short: Vec<_> = (0..300).map(|n| format!("{n:03}").into_bytes()).collect();
        assert_eq!(group_length(&items(&short, &file)), 256);

        let mut other_block = items(&short, &file);
        other_block[10].inode.block = 5;
        assert_eq!(group_length(&other_block), 10);

        let mut far = items(&short, &file);
        far[20].number = 1 + 32_767;
        assert_eq!(group_length(&far), 256);
        far[20].number += 1;
        assert_eq!(group_length(&far), 20);

        let long: Vec<_> = (0..300).map(|n| format!("{n:0200}").into_bytes()).collect();
        assert_eq!(group_length(&items(&long, &file)), 30);
    }

    #[test]
    fn numbers_below_the_first_one_are_negative_deltas() {
        let file = NodeKind::File(ContentId(0));
        let names = [b"a".to_vec(), b"b".to_vec()];
        let mut both = items(&names, &file);
        both[0].number = 9;
        both[1].number = 7;
        let bytes = encode_group(&both[0], &both);
        assert_eq!(&bytes[..12], &[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0]);
        assert_eq!(&bytes[21..], &[0, 0, 0xfe, 0xff, 2, 0, 0, 0, b'b']);
    }
}
