//! The walk from the root: every name of an image, and the inode that it names, each inode parsed once.

use std::collections::HashMap;
use std::ops::Range;

use crate::error::{EntryProblem, ReadError, TableName, TableProblem};
use crate::image::Image;
use crate::inode::{Inode, Kind, SMALLEST};
use crate::listing::{Entry, read_listing};
use crate::rules::{Origin, Rules};

/// All names, a directory always before what it holds, and all inodes that they name.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The first one is the root.
    pub names: Vec<Name>,
    pub found: Vec<Found>,
    /// What the listings take of the directory table.
    pub listings: Vec<Range<usize>>,
}

/// One name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    /// Place of the directory in [`Tree::names`]; of the root itself for the root.
    pub parent: u32,
    /// Place of the inode in [`Tree::found`].
    pub inode: u32,
    /// Where the name stands in the directory table.
    at: usize,
    length: u8,
    /// Directories above, the root not counted.
    depth: u16,
}

/// An inode, and who names it.
#[derive(Debug)]
pub(crate) struct Found {
    pub inode: Inode,
    /// Place of its first name in [`Tree::names`].
    pub first: u32,
    /// How many names it has.
    pub names: u32,
    /// Directories that it holds.
    pub subdirectories: u32,
}

impl Tree {
    /// Walks a whole image, level by level; uses no stack space for depth.
    pub(crate) fn of(image: &Image, rules: &Rules) -> Result<Self, ReadError> {
        let most = image.inodes.bytes.len() / SMALLEST;
        let count = (image.superblock.inodes as usize).min(most);
        let mut walk = Walk {
            image,
            rules,
            tree: Self { found: Vec::with_capacity(count), ..Self::default() },
            places: HashMap::with_capacity(count),
            parsed: 0,
        };
        walk.enter_root()?;
        let mut next = 0;
        while let Some(name) = walk.tree.names.get(next).copied() {
            if let Some(Found { inode: Inode { kind: Kind::Directory(directory), .. }, .. }) =
                walk.tree.found.get(name.inode as usize)
            {
                let directory = directory.clone();
                let taken = read_listing(image, &directory, rules.origin, |entry| {
                    walk.take(next as u32, name, &entry)
                });
                match taken {
                    Ok(range) => walk.tree.listings.push(range),
                    Err(Stop::Here(problem)) => {
                        return Err(walk.tree.error(image, next as u32, problem));
                    }
                    Err(Stop::Entry(child, problem)) => {
                        let mut path = walk.tree.path(image, next as u32);
                        if !path.is_empty() {
                            path.push(b'/');
                        }
                        path.extend_from_slice(&child);
                        return Err(ReadError::Entry { path, problem });
                    }
                    Err(Stop::Image(error)) => return Err(error),
                }
            }
            next += 1;
        }
        Ok(walk.tree)
    }

    /// The path of a name, without a slash at its beginning; empty for the root.
    pub(crate) fn path(&self, image: &Image, name: u32) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut at = name;
        while at != 0
            && let Some(name) = self.names.get(at as usize)
        {
            let end = name.at + usize::from(name.length);
            parts.push(image.directories.bytes.get(name.at..end).unwrap_or_default());
            at = name.parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    pub(crate) fn error(&self, image: &Image, name: u32, problem: EntryProblem) -> ReadError {
        ReadError::Entry { path: self.path(image, name), problem }
    }

    /// The inode of a name.
    pub(crate) fn found_of(&self, name: &Name) -> Option<&Found> {
        self.found.get(name.inode as usize)
    }
}

struct Walk<'a> {
    image: &'a Image,
    rules: &'a Rules,
    tree: Tree,
    /// From places in the inode table to places in [`Tree::found`].
    places: HashMap<usize, u32>,
    /// Bytes of all inodes so far. Those that overlap could each be as long as the whole table, and there could be
    /// millions of them.
    parsed: usize,
}

/// Why a listing is not read to its end.
enum Stop {
    /// The directory itself is wrong.
    Here(EntryProblem),
    /// What the directory names so is wrong.
    Entry(Vec<u8>, EntryProblem),
    Image(ReadError),
}

impl From<EntryProblem> for Stop {
    fn from(problem: EntryProblem) -> Self {
        Self::Here(problem)
    }
}

impl Walk<'_> {
    fn enter_root(&mut self) -> Result<(), ReadError> {
        let image = self.image;
        let wrong = |problem| ReadError::Entry { path: Vec::new(), problem };
        let reference = image.superblock.root;
        let place = u32::try_from(reference >> 16)
            .ok()
            .and_then(|block| image.inodes.place(block, reference as u16))
            .ok_or(wrong(EntryProblem::Reference))?;
        let inode = Inode::parse(image, place, self.rules.origin).map_err(wrong)?;
        if !matches!(inode.kind, Kind::Directory(_)) {
            return Err(wrong(EntryProblem::Root));
        }
        self.places.insert(place, 0);
        self.tree.found.push(Found { inode, first: 0, names: 1, subdirectories: 0 });
        self.tree.names.push(Name { parent: 0, inode: 0, at: 0, length: 0, depth: 0 });
        Ok(())
    }

    /// Takes one entry of the directory that `above` names.
    fn take(&mut self, parent: u32, above: Name, entry: &Entry<'_>) -> Result<(), Stop> {
        let wrong = |problem| Stop::Entry(entry.name.to_vec(), problem);
        let limits = &self.rules.limits;
        // The root is above everything, but not counted.
        let depth = if parent == 0 { 0 } else { above.depth.saturating_add(1) };
        if depth > limits.depth {
            return Err(wrong(EntryProblem::Depth { allowed: limits.depth }));
        }
        let this = self.tree.names.len() as u32;
        if this >= limits.names {
            let allowed = limits.names.into();
            return Err(Stop::Image(ReadError::Limit { what: "names", allowed }));
        }
        let (block, offset) = entry.inode;
        let place = self.image.inodes.place(block, offset);
        let place = place.ok_or_else(|| wrong(EntryProblem::Reference))?;
        let inode = match self.places.get(&place) {
            Some(index) => *index,
            None => self.parse(this, entry, place)?,
        };
        let Some(found) = self.tree.found.get_mut(inode as usize) else {
            return Err(wrong(EntryProblem::Reference));
        };
        found.names += 1;
        let (number, kind) = (found.inode.number, found.inode.basic_type());
        if entry.kind != kind {
            let problem = EntryProblem::TypeMismatch { listed: entry.kind, found: kind };
            return Err(wrong(problem));
        }
        if self.rules.origin == Origin::Published && entry.number != number {
            let problem = EntryProblem::NumberMismatch { listed: entry.number, found: number };
            return Err(wrong(problem));
        }
        if matches!(found.inode.kind, Kind::Directory(_)) {
            if found.names > 1 {
                return Err(wrong(EntryProblem::DirectoryTwice));
            }
            if let Some(above) = self.tree.found.get_mut(above.inode as usize) {
                above.subdirectories += 1;
            }
        }
        let length = u8::try_from(entry.name.len())
            .map_err(|_| EntryProblem::Name { name: entry.name.to_vec() })?;
        self.tree.names.push(Name { parent, inode, at: entry.name_at, length, depth });
        Ok(())
    }

    fn parse(&mut self, first: u32, entry: &Entry<'_>, place: usize) -> Result<u32, Stop> {
        let expected = self.image.superblock.inodes;
        let index = self.tree.found.len() as u32;
        if index >= expected {
            let problem = TableProblem::Unreached { expected, found: index + 1 };
            let (table, offset) = (TableName::Inodes, self.image.superblock.inode_table);
            return Err(Stop::Image(ReadError::Table { table, offset, problem }));
        }
        let inode = Inode::parse(self.image, place, self.rules.origin)
            .map_err(|problem| Stop::Entry(entry.name.to_vec(), problem))?;
        self.parsed += inode.bytes.len();
        if self.parsed > self.image.inodes.bytes.len() {
            let (table, offset) = (TableName::Inodes, self.image.superblock.inode_table);
            let problem = TableProblem::Coverage;
            return Err(Stop::Image(ReadError::Table { table, offset, problem }));
        }
        self.places.insert(place, index);
        self.tree.found.push(Found { inode, first, names: 0, subdirectories: 0 });
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Compression;
    use crate::image::FragmentBlock;
    use crate::metadata::Stream;
    use crate::superblock::Superblock;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn inodes_inside_each_other_do_not_cost_the_square_of_the_table() {
        // A file of 4 GiB whose size words are, every 56 bytes, such a file again.
        let file = words(&[9, 0, 1, 2, 200, 0, 100, 1, 0, 0, 1, 0, 0, u32::MAX]);
        let mut inside = file.clone();
        inside[52..].fill(0); // no size word has all bits set
        let root = words(&[1, 0, 0, 1, 0, 2, 3 * 9 + 12 + 3, 4]);
        let mut inodes = [&root[..], &file].concat();
        while inodes.len() < 5 << 20 {
            inodes.extend_from_slice(&inside);
        }
        let mut listing = words(&[2, 0, 2]);
        for (name, place) in (b'a'..).zip([32_u16, 32 + 56, 32 + 112]) {
            listing.extend_from_slice(&[place as u8, (place >> 8) as u8, 0, 0, 2, 0, 0, 0, name]);
        }
        let image = Image {
            superblock: Superblock {
                inodes: 4,
                block_size: 4096,
                fragments: 1,
                compression: Compression::Gzip,
                flags: 0,
                ids: 1,
                root: 0,
                bytes_used: 1 << 40,
                id_table: 0,
                attribute_table: None,
                inode_table: 1 << 39,
                directory_table: 0,
                fragment_table: None,
                export_table: None,
                data: 96,
                options: None,
            },
            inodes: Stream::of(inodes),
            directories: Stream::of(listing),
            ids: vec![0],
            fragments: vec![FragmentBlock { start: 96, length: 4000, stored: false }],
            export: None,
        };
        let error = Tree::of(&image, &Rules::imported()).unwrap_err();
        let ReadError::Table { problem, .. } = error else { panic!("{error}") };
        assert_eq!(problem, TableProblem::Coverage);
    }
}
