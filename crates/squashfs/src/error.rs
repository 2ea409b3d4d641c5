//! Why an image could not be written.

use std::io;

/// The error of every step that writes an image.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The image file refused bytes.
    #[error("cannot write {length} bytes at offset {offset} of the image file")]
    Write {
        /// Where in the file.
        offset: u64,
        /// How many bytes.
        length: usize,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The image that bytes are copied from could not be read, or is shorter than it was.
    #[error("cannot read {length} bytes at offset {offset} of the image to copy from")]
    Copy {
        /// Where in that file.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The image file could not be given its final length.
    #[error("cannot set the length of the image file to {length} bytes")]
    Length {
        /// The length asked for.
        length: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The compressor failed, which means that memory ran out.
    #[error("cannot compress {length} bytes with {compressor}")]
    Compress {
        /// Name and level of the compressor.
        compressor: String,
        /// How many bytes it was given.
        length: usize,
        /// What the compressor said.
        #[source]
        source: io::Error,
    },
    /// A name cannot stand in a directory: empty, `.`, `..`, longer than 255 bytes, or with a slash or NUL in it.
    #[error("the name `{}` cannot stand in a squashfs directory", .name.escape_ascii())]
    Name {
        /// The name.
        name: Vec<u8>,
    },
    /// The entries of a directory are not in strictly ascending byte order.
    #[error("the directory entry `{}` is out of order or there twice", .name.escape_ascii())]
    Order {
        /// The entry that should have come earlier, or not at all.
        name: Vec<u8>,
    },
    /// The target of a symbolic link is empty or longer than 4095 bytes.
    #[error("a symbolic link target of {length} bytes cannot be stored")]
    SymlinkTarget {
        /// Its length.
        length: usize,
    },
    /// A node, a content or a fragment is named that the tree or the writer does not have.
    #[error("the tree names {what} {index}, which does not exist")]
    Missing {
        /// `node`, `content` or `fragment`.
        what: &'static str,
        /// Its number.
        index: usize,
    },
    /// A directory has two names, or is inside itself.
    #[error("the directory node {index} is reached by more than one name")]
    DirectoryLinked {
        /// Its number in the tree.
        index: usize,
    },
    /// The extents of a content do not add up to its size.
    #[error("a content of {size} bytes has {found} blocks instead of {expected}")]
    BlockCount {
        /// Bytes of the file.
        size: u64,
        /// Blocks it must have.
        expected: u64,
        /// Blocks it has.
        found: u64,
    },
    /// A field of the format is too narrow.
    #[error("the image has too many or too large {what} for squashfs")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
    },
}
