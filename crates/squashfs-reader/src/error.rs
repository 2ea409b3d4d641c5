//! Why an image cannot be read, or may not be published.

use std::fmt;
use std::io;

use crate::codec::CodecError;

/// The error of everything that reads an image.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error("cannot read {length} bytes at offset {offset} of the image")]
    Read {
        /// Where in the image.
        offset: u64,
        /// How many bytes.
        length: usize,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The superblock, or what it says of the rest, is wrong.
    #[error("the superblock of the image is not valid: {0}")]
    Superblock(SuperblockProblem),
    /// One of the tables is wrong.
    #[error("the {table} of the image is not valid at offset {offset}: {problem}")]
    Table {
        /// Which one.
        table: TableName,
        /// Where in the image.
        offset: u64,
        /// What is wrong.
        problem: TableProblem,
    },
    /// A file, directory or link is wrong, or may not be there.
    #[error("`{}` in the image: {problem}", escaped(.path))]
    Entry {
        /// Its name from the root on; empty for the root.
        path: Vec<u8>,
        /// What is wrong.
        problem: EntryProblem,
    },
    /// The image is larger than the reader's limits.
    #[error("the image has more than {allowed} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        allowed: u64,
    },
}

fn escaped(path: &[u8]) -> String {
    format!("/{}", path.escape_ascii())
}

/// What can be wrong with a superblock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockProblem {
    /// The file is too short to have one.
    #[error("{length} bytes are too few for one")]
    TooShort {
        /// Bytes of the file.
        length: u64,
    },
    /// It does not begin as one does.
    #[error("it does not begin with `hsqs`, so this is no squashfs")]
    Magic,
    /// It is of another version of the format.
    #[error("it is of version {major}.{minor}, not 4.0")]
    Version {
        /// The first number.
        major: u16,
        /// The second number.
        minor: u16,
    },
    /// The block size is none that the format has, or does not agree with its logarithm.
    #[error("the block size is {bytes} (logarithm {log}), not a power of two from 4096 to 1048576")]
    BlockSize {
        /// The size.
        bytes: u32,
        /// Its logarithm, as the superblock has it.
        log: u16,
    },
    /// There is no such compressor, or it is not allowed.
    #[error("the compressor has number {id}, which is unknown or not used for published images")]
    Compressor {
        /// Its number.
        id: u16,
    },
    /// The flags are none that our writer sets.
    #[error("the flags are {flags:#06x}")]
    Flags {
        /// All of them.
        flags: u16,
    },
    /// The options of the compressor are malformed, or none that our writer writes.
    #[error("the options of the compressor are not valid")]
    CompressorOptions,
    /// The image is longer than its file.
    #[error("the image has {used} bytes, but the file only {length}")]
    BytesUsed {
        /// Bytes that the image uses, rounded up to a whole page for published ones.
        used: u64,
        /// Bytes of the file.
        length: u64,
    },
    /// What fills the last page of the image is not zero.
    #[error("what fills the last page behind the image is not zero")]
    Padding,
    /// A table begins where it cannot.
    #[error("the {table} begins at offset {offset}, which is out of order or outside the image")]
    Place {
        /// Which table.
        table: TableName,
        /// Where it is said to begin.
        offset: u64,
    },
    /// A table has a number of entries that is not possible.
    #[error("the {table} has {entries} entries, which is not possible")]
    Count {
        /// Which table.
        table: TableName,
        /// How many entries it is said to have.
        entries: u64,
    },
    /// A table is missing that published images have.
    #[error("there is no {table}")]
    Missing {
        /// Which table.
        table: TableName,
    },
    /// There is a table of extended attributes.
    #[error("there are extended attributes")]
    Attributes,
}

/// The tables of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after its table")]
pub enum TableName {
    Inodes,
    Directories,
    Fragments,
    Export,
    Ids,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inodes => "inode table",
            Self::Directories => "directory table",
            Self::Fragments => "fragment table",
            Self::Export => "export table",
            Self::Ids => "id table",
        })
    }
}

/// What can be wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableProblem {
    /// It ends in the middle of a block or a list.
    #[error("it is cut off")]
    CutOff,
    /// A block has a length that the format does not have.
    #[error("a metadata block of {length} bytes is not possible")]
    BlockLength {
        /// Bytes in the file.
        length: u16,
    },
    /// A block cannot be decompressed.
    #[error("a metadata block cannot be decompressed: {0}")]
    Decompress(CodecError),
    /// A block before the last one is not full, or the last one has another length than the table needs.
    #[error("a metadata block holds {found} bytes instead of {expected}")]
    BlockBytes {
        /// Bytes it must hold.
        expected: usize,
        /// Bytes it holds.
        found: usize,
    },
    /// The list of a table names a block elsewhere than where the one before it ends.
    #[error("its list of blocks does not agree with the blocks")]
    List,
    /// Something stands in the table that nothing refers to, or two things overlap.
    #[error("it has a gap or an overlap")]
    Coverage,
    /// A number is given to no inode or to several, or is too large.
    #[error("the inode number {number} is not possible or there twice")]
    Number {
        /// The number.
        number: u32,
    },
    /// An entry of the export table names another inode.
    #[error("the export table names another place for inode {number}")]
    Export {
        /// The number of the inode.
        number: u32,
    },
    /// The table of owners holds something else than root.
    #[error("there are owners other than 0")]
    Owners,
    /// A fragment block lies outside the data, or has a size that is not possible.
    #[error("fragment block {index} is outside the data or has a size that is not possible")]
    Fragment {
        /// Its number.
        index: usize,
    },
    /// There are inodes that no directory names.
    #[error("{found} inodes have names, but the image has {expected}")]
    Unreached {
        /// Inodes that the superblock counts.
        expected: u32,
        /// Inodes that directories name.
        found: u32,
    },
}

/// What can be wrong with a file, a directory or a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// A reference leads outside the table or into the middle of nowhere.
    #[error("its inode is outside the inode table")]
    Reference,
    /// The inode is longer than what is left of the table.
    #[error("its inode is cut off")]
    CutOff,
    /// There is no such type.
    #[error("there is no inode type {kind}")]
    Type {
        /// The number of the type.
        kind: u16,
    },
    /// The directory entry and the inode disagree on what it is.
    #[error("the directory says type {listed}, the inode type {found}")]
    TypeMismatch {
        /// Type in the directory entry.
        listed: u16,
        /// Basic type of the inode.
        found: u16,
    },
    /// The directory entry and the inode disagree on its number.
    #[error("the directory says inode number {listed}, the inode {found}")]
    NumberMismatch {
        /// Number in the directory entry.
        listed: u32,
        /// Number in the inode.
        found: u32,
    },
    /// It is a device, a fifo or a socket.
    #[error("it is a {0}")]
    Special(&'static str),
    /// It has a set-id bit.
    #[error("it has a set-id bit (mode {mode:o})")]
    SetId {
        /// All bits of its mode.
        mode: u16,
    },
    /// Its mode has bits that are no permissions.
    #[error("its mode {mode:#o} has bits that are no permissions")]
    Mode {
        /// All bits of its mode.
        mode: u16,
    },
    /// Its owner is not in the id table.
    #[error("its owner is not in the id table")]
    Owner,
    /// It refers to extended attributes.
    #[error("it has extended attributes")]
    Attributes,
    /// Its link count is wrong.
    #[error("its link count is {found}, but should be {expected}")]
    Links {
        /// Links that there are.
        expected: u64,
        /// Links that the inode says.
        found: u32,
    },
    /// It is a directory that has another name elsewhere, perhaps inside itself.
    #[error("it is a directory that has another name")]
    DirectoryTwice,
    /// It lies too deep.
    #[error("more than {allowed} directories are above it")]
    Depth {
        /// How many are allowed.
        allowed: u16,
    },
    /// The root is something else than a directory.
    #[error("the root is not a directory")]
    Root,
    /// It names another directory as the one above it.
    #[error("it says that inode {found} is above it, not inode {expected}")]
    Parent {
        /// The directory that it was reached from.
        expected: u32,
        /// The directory that it says.
        found: u32,
    },
    /// Its listing lies outside the directory table.
    #[error("its listing is outside the directory table")]
    Listing,
    /// A header or an entry in its listing is cut off, or the listing has bytes left over.
    #[error("its listing does not end with an entry")]
    ListingEnd,
    /// A group in its listing has too many entries.
    #[error("its listing has a group of {count} entries")]
    Group {
        /// How many.
        count: u64,
    },
    /// A name is not possible.
    #[error("it holds the name `{}`, which is not possible", .name.escape_ascii())]
    Name {
        /// The name.
        name: Vec<u8>,
    },
    /// Names are out of order, or there twice.
    #[error("it holds the name `{}` out of order or twice", .name.escape_ascii())]
    Order {
        /// The name.
        name: Vec<u8>,
    },
    /// Its index does not agree with its listing.
    #[error("its index does not agree with its listing")]
    Index,
    /// The target of a symbolic link is empty, too long, or has a NUL in it.
    #[error("its target of {length} bytes is empty, too long or has a NUL in it")]
    Target {
        /// Bytes of the target.
        length: u32,
    },
    /// Its size is not possible.
    #[error("its size of {size} bytes is not possible")]
    Size {
        /// Bytes of the file.
        size: u64,
    },
    /// It says that it has more or fewer holes than it has.
    #[error("it says that {found} bytes are holes, not {expected}")]
    Holes {
        /// Bytes in blocks of zeros.
        expected: u64,
        /// Bytes that the inode says.
        found: u64,
    },
    /// A data block has a size that is not possible.
    #[error("its data block {index} has the size word {word:#010x}")]
    Block {
        /// Which block of the file.
        index: u64,
        /// Its size word.
        word: u32,
    },
    /// Its data lies outside the data of the image.
    #[error("its data lies outside the data of the image")]
    Data,
    /// Its data overlaps that of something else without being the same.
    #[error("its data overlaps that of another file")]
    Overlap,
    /// Its fragment does not exist, or it does not fit into the block.
    #[error("its last part is outside fragment block {index}")]
    Fragment {
        /// Which block.
        index: u32,
    },
    /// A block of its data cannot be decompressed.
    #[error("its data at offset {offset} of the image cannot be decompressed: {problem}")]
    Decompress {
        /// Where the block stands.
        offset: u64,
        /// Why not.
        problem: CodecError,
    },
    /// A block of its data has another length than it should have.
    #[error("its data at offset {offset} of the image has {found} bytes instead of {expected}")]
    BlockBytes {
        /// Where the block stands.
        offset: u64,
        /// Bytes it must hold.
        expected: usize,
        /// Bytes it holds.
        found: usize,
    },
}
