//! A reader of squashfs 4.0 that trusts nothing: it examines images before they are published, and gives images that
//! somebody else made as tar streams.
//!
//! It is written from the kernel's format (`fs/squashfs/squashfs_fs.h`) and from what the kernel's driver takes for
//! granted. It shares no code with the writer: a mistake in one must not hide in the other. Any bytes end in an answer or
//! in a [`ReadError`], within the memory and the work that [`Limits`] allow.
#![forbid(unsafe_code)]

mod codec;
mod content;
mod error;
mod examine;
mod fields;
mod image;
mod inode;
mod listing;
mod lzo;
mod metadata;
mod published;
mod ranges;
mod rules;
mod source;
mod stream;
mod superblock;
mod tar;
mod walk;

pub use codec::{CodecError, Compression};
pub use error::{EntryProblem, ReadError, SuperblockProblem, TableName, TableProblem};
pub use examine::{Findings, examine};
pub use rules::{Limits, Origin, Rules};
pub use source::{ReadAt, Section};
pub use stream::{TarStream, stream};
pub use superblock::is_squashfs;
