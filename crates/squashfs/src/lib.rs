//! A squashfs 4.0 writer: data blocks, fragments, inodes, directories and tables.
//!
//! It knows files and directories, not layers or images, and it reads nothing: what it is given as a [`Tree`] and as
//! already encoded [`Block`]s is what the file holds. Blocks are encoded by a [`BlockEncoder`], a pure function that
//! any thread may run; one [`Writer`] appends them and ends with the tree. The same calls give the same bytes.
//! The format is that of the Linux kernel, fs/squashfs/squashfs_fs.h.
#![forbid(unsafe_code)]

mod block;
mod compressor;
mod directory;
mod error;
mod inode;
mod metadata;
mod pages;
mod sink;
mod superblock;
mod table;
mod tree;
mod walk;
mod writer;

pub use block::{Block, BlockEncoder, BlockSize, BlockWord};
pub use compressor::{Compressor, CompressorError};
pub use error::WriteError;
pub use tree::{
    Content, ContentId, DirectoryEntry, Extent, FragmentId, FragmentPart, Node, NodeId, NodeKind,
    SYMLINK_LIMIT, Tree,
};
pub use writer::{SEGMENT_ALIGNMENT, Writer};
