//! The examination of an image: all of its tables are read and compared with each other, its data is not.

use crate::error::ReadError;
use crate::image::Image;
use crate::inode::Kind;
use crate::published;
use crate::rules::{Origin, Rules};
use crate::source::ReadAt;
use crate::walk::Tree;

/// Checks an image by the rules and tells what is in it.
///
/// An image that passes [`Rules::published`] holds nothing that a kernel's driver would have to trust: every reference
/// is inside its table, each inode is named as often as it says, numbers, types, sizes and places agree. What it holds
/// are files, directories and symbolic links of root, without set-id bits and extended attributes. What stands behind
/// the image's last page is not looked at.
pub fn examine(image: &(impl ReadAt + ?Sized), rules: &Rules) -> Result<Findings, ReadError> {
    let (image, _) = Image::read(image, rules)?;
    let tree = Tree::of(&image, rules)?;
    if rules.origin == Origin::Published {
        published::check_tree(&image, &tree)?;
    }
    Ok(Findings::of(&image, &tree))
}

/// What an image holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Bytes of the image, without what fills its last page or follows it.
    pub image_bytes: u64,
    /// Bytes of data in one block.
    pub block_size: u32,
    /// Directories, the root among them.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices, fifos and sockets.
    pub special: u64,
    /// Names of files beyond the first one of each.
    pub hard_links: u64,
    /// Sizes of all regular files together.
    pub file_bytes: u64,
}

impl Findings {
    pub(crate) fn of(image: &Image, tree: &Tree) -> Self {
        let mut findings = Self {
            image_bytes: image.superblock.bytes_used,
            block_size: image.superblock.block_size,
            hard_links: (tree.names.len() - tree.found.len()) as u64,
            ..Self::default()
        };
        for found in &tree.found {
            match &found.inode.kind {
                Kind::Directory(_) => findings.directories += 1,
                Kind::File(file) => {
                    findings.files += 1;
                    findings.file_bytes = findings.file_bytes.saturating_add(file.size);
                }
                Kind::Symlink(_) => findings.symlinks += 1,
                Kind::Device(..) | Kind::Fifo | Kind::Socket => findings.special += 1,
            }
        }
        findings
    }
}
