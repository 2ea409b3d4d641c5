//! An image as a tar stream: the same image always gives the same bytes, in little memory.

use std::fmt;
use std::io::{self, Read};

use crate::content::{Blocks, Cursor, segments_of};
use crate::error::{EntryProblem, ReadError};
use crate::examine::Findings;
use crate::image::Image;
use crate::inode::{Device, File, Kind};
use crate::rules::Rules;
use crate::source::ReadAt;
use crate::tar::{self, Entry, EntryKind};
use crate::walk::Tree;

/// Reads the tables of an image, checks them by the rules, and gives its tree as a tar archive in GNU's form.
///
/// Directories come first, then what has no data, then files in the order in which their data stands in the image, so
/// that no fragment block is decompressed twice; last the further names of files, as hard links to the first one. Names
/// are relative; the root is `./`. Long holes are left out, as GNU's sparse files. Sockets, for which tar has no type, and
/// extended attributes are left out. A name that begins with `.wh.` is given as it is, although it means a whiteout to
/// whoever reads the stream as a layer.
pub fn stream<S: ReadAt>(source: S, rules: &Rules) -> Result<TarStream<S>, ReadError> {
    let (image, codec) = Image::read(&source, rules)?;
    let tree = Tree::of(&image, rules)?;
    let order = order(&image, &tree);
    let findings = Findings::of(&image, &tree);
    Ok(TarStream {
        blocks: Blocks::new(source, codec),
        image,
        tree,
        findings,
        order: order.into_iter(),
        file: None,
        chunk: Vec::new(),
        taken: 0,
        state: State::Entries,
    })
}

/// A tar archive in the making; see [`stream`].
///
/// What is wrong with the data of a file is an error of [`io::ErrorKind::InvalidData`] around a [`ReadError`].
pub struct TarStream<S> {
    blocks: Blocks<S>,
    image: Image,
    tree: Tree,
    findings: Findings,
    /// Places in the list of names.
    order: std::vec::IntoIter<u32>,
    /// The file whose data is being given.
    file: Option<Cursor>,
    /// Bytes that come next, and how many of them were taken.
    chunk: Vec<u8>,
    taken: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Entries,
    Ended,
    Failed,
}

impl<S> TarStream<S> {
    /// What the image holds.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }
}

impl<S> fmt::Debug for TarStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TarStream").field("findings", &self.findings).finish_non_exhaustive()
    }
}

impl<S: ReadAt> Read for TarStream<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let ready = self.chunk.get(self.taken..).unwrap_or_default();
            if !ready.is_empty() || bytes.is_empty() {
                let length = ready.len().min(bytes.len());
                if let (Some(to), Some(from)) = (bytes.get_mut(..length), ready.get(..length)) {
                    to.copy_from_slice(from);
                }
                self.taken += length;
                return Ok(length);
            }
            match self.state {
                State::Ended => return Ok(0),
                State::Failed => {
                    return Err(io::Error::other("the image could not be read before"));
                }
                State::Entries => {
                    self.chunk.clear();
                    self.taken = 0;
                    self.advance().map_err(|error| {
                        self.state = State::Failed;
                        self.chunk.clear();
                        io::Error::new(io::ErrorKind::InvalidData, error)
                    })?;
                }
            }
        }
    }
}

impl<S: ReadAt> TarStream<S> {
    /// Puts what comes next into the chunk, which is empty.
    fn advance(&mut self) -> Result<(), ReadError> {
        if let Some(cursor) = &mut self.file {
            if !cursor.give(&self.image, &self.tree, &mut self.blocks, &mut self.chunk)? {
                self.file = None;
            }
            return Ok(());
        }
        let Some(name) = self.order.next() else {
            self.chunk.resize(2 * tar::BLOCK, 0);
            self.state = State::Ended;
            return Ok(());
        };
        let (image, tree) = (&self.image, &self.tree);
        let Some(entry) = tree.names.get(name as usize) else { return Ok(()) };
        let Some(found) = tree.found_of(entry) else { return Ok(()) };
        let inode = &found.inode;
        let mut path = tree.path(image, name);
        let mut link = Vec::new();
        let mut size = 0;
        let mut device = [0; 2];
        let mut segments = None;
        let kind = if found.first == name {
            match &inode.kind {
                Kind::Directory(_) => {
                    path.extend_from_slice(if path.is_empty() { b"./" } else { b"/" });
                    EntryKind::Directory
                }
                Kind::File(file) => {
                    size = file.size;
                    segments = segments_of(image, file);
                    let parts = segments.clone();
                    self.file = Some(Cursor::new(name, file.clone(), parts));
                    EntryKind::File
                }
                Kind::Symlink(target) => {
                    let target = image.inodes.bytes.get(target.clone()).unwrap_or_default();
                    link.extend_from_slice(target);
                    EntryKind::Symlink
                }
                Kind::Device(kind, number) => {
                    // As the kernel packs it: twelve bits of major number amid twenty of minor number.
                    device = [(number >> 8) & 0xfff, (number & 0xff) | (number >> 12) & 0xf_ff00];
                    match kind {
                        Device::Block => EntryKind::Block,
                        Device::Character => EntryKind::Character,
                    }
                }
                Kind::Fifo => EntryKind::Fifo,
                Kind::Socket => return Ok(()),
            }
        } else {
            link = tree.path(image, found.first);
            EntryKind::HardLink
        };
        let owner = |place: u16| image.ids.get(usize::from(place)).copied();
        let [Some(uid), Some(gid)] = inode.owners.map(owner) else {
            return Err(tree.error(image, name, EntryProblem::Owner));
        };
        let entry = Entry {
            kind,
            path: &path,
            link: &link,
            mode: inode.mode & PERMISSIONS,
            owners: [uid, gid],
            mtime: inode.mtime,
            size,
            device,
            segments: segments.as_deref(),
        };
        tar::append_header(&entry, &mut self.chunk);
        Ok(())
    }
}

/// The order of the entries: by what they are, files by where their data stands.
fn order(image: &Image, tree: &Tree) -> Vec<u32> {
    let mut keys = Vec::with_capacity(tree.names.len());
    for (this, name) in (0..).zip(&tree.names) {
        let Some(found) = tree.found_of(name) else { continue };
        let (class, place) = match &found.inode.kind {
            Kind::Socket => continue,
            _ if found.first != this => (3, (0, 0)),
            Kind::Directory(_) => (0, (0, 0)),
            Kind::File(file) => (2, place(image, file)),
            Kind::Symlink(_) | Kind::Device(..) | Kind::Fifo => (1, (0, 0)),
        };
        keys.push((class, place, this));
    }
    keys.sort_unstable();
    keys.into_iter().map(|(_, _, name)| name).collect()
}

/// Where the data of a file begins; files that share a fragment block are in the order of their parts of it.
fn place(image: &Image, file: &File) -> (u64, u32) {
    let fragment = file
        .fragment
        .and_then(|(index, offset)| Some((image.fragments.get(index as usize)?.start, offset)));
    match fragment {
        _ if file.length > 0 => (file.start, 0),
        Some(place) => place,
        None => (0, 0),
    }
}

const PERMISSIONS: u16 = 0o7777;
