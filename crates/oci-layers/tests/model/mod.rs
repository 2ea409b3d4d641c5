//! What a stack of layers shows, said as simply as possible: a map from real paths to nodes, changed entry by entry.
//!
//! It shares no code and no data structure with the converter.

use std::collections::BTreeMap;

use crate::archive::{Header, Tar};
use crate::image::{Found, FoundKind, Listing, digest};

/// One entry of a layer, as a test wants it.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Dir { path: String, mode: u32, mtime: i64 },
    File { path: String, mode: u32, mtime: i64, seed: u8, size: usize },
    Symlink { path: String, target: String, mtime: i64 },
    HardLink { path: String, target: String },
    Fifo { path: String },
    Whiteout { path: String },
    Opaque { path: String },
}

/// Bytes that compress, but not to nothing, and that differ from block to block.
pub(crate) fn content(seed: u8, size: usize) -> Vec<u8> {
    if seed == 0 {
        return vec![0; size];
    }
    (0..size).map(|at| (at / 7) as u8 ^ (at / 4096) as u8 ^ seed).collect()
}

pub(crate) fn archive(ops: &[Op]) -> Vec<u8> {
    ops.iter().fold(Tar::default(), append).finish()
}

fn append(tar: Tar, op: &Op) -> Tar {
    let header = |kind, path: &str, mode, size| Header::new(kind, path.as_bytes(), mode, size);
    match op {
        Op::Dir { path, mode, mtime } => tar.header(header(b'5', path, *mode, 0).mtime(*mtime)),
        Op::File { path, mode, mtime, seed, size } => {
            let data = content(*seed, *size);
            tar.header(header(b'0', path, *mode, *size as u64).mtime(*mtime)).data(&data)
        }
        Op::Symlink { path, target, mtime } => {
            tar.header(header(b'2', path, 0o777, 0).mtime(*mtime).link(target.as_bytes()))
        }
        Op::HardLink { path, target } => tar.hard_link(path, target),
        Op::Fifo { path } => tar.special(b'6', path),
        Op::Whiteout { path } => {
            let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
            tar.file(&format!("{parent}/.wh.{name}"), 0, b"")
        }
        Op::Opaque { path } => tar.file(&format!("{path}/.wh..wh..opq"), 0, b""),
    }
}

#[derive(Clone, Debug)]
enum Kind {
    Dir,
    File { seed: u8, size: usize },
    Symlink(String),
    Fifo,
}

#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    mode: u32,
    mtime: i64,
}

type Real = Vec<String>;

/// The tree so far.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    names: BTreeMap<Real, usize>,
    nodes: Vec<Node>,
}

impl Model {
    pub(crate) fn new() -> Self {
        let root = Node { kind: Kind::Dir, mode: 0o755, mtime: 0 };
        Self { names: BTreeMap::from([(Vec::new(), 0)]), nodes: vec![root] }
    }

    /// Applies a layer; `Err` is the number of the entry that cannot be applied.
    pub(crate) fn apply(&mut self, ops: &[Op]) -> Result<(), usize> {
        for (index, op) in ops.iter().enumerate() {
            match op {
                Op::Whiteout { path } => {
                    let (parent, name) = split(path);
                    if let Some(parent) = self.real(&parent, None, 0).map_err(|()| index)? {
                        self.remove(&join(&parent, &name));
                    }
                }
                Op::Opaque { path } => {
                    if let Some(real) = self.real(&clean(path), None, 0).map_err(|()| index)? {
                        self.names.retain(|name, _| {
                            !(name.len() > real.len() && name.starts_with(&real))
                        });
                    }
                }
                _ => {}
            }
        }
        for (index, op) in ops.iter().enumerate() {
            self.apply_entry(op).map_err(|()| index)?;
        }
        Ok(())
    }

    fn apply_entry(&mut self, op: &Op) -> Result<(), ()> {
        match op {
            Op::Whiteout { .. } | Op::Opaque { .. } => Ok(()),
            Op::Dir { path, mode, mtime } => {
                let node = Node { kind: Kind::Dir, mode: mode & 0o1777 | 0o555, mtime: *mtime };
                let real = self.place(path, *mtime)?;
                match self.names.get(&real) {
                    Some(old) if matches!(self.nodes[*old].kind, Kind::Dir) => {
                        self.nodes[*old] = node;
                    }
                    _ => self.put(real, node),
                }
                Ok(())
            }
            Op::File { path, mode, mtime, seed, size } => {
                let exec = if mode & 0o111 != 0 { 0o555 } else { 0o444 };
                let kind = Kind::File { seed: *seed, size: *size };
                let real = self.place(path, *mtime)?;
                self.put(real, Node { kind, mode: mode & 0o1777 | exec, mtime: *mtime });
                Ok(())
            }
            Op::Symlink { path, target, mtime } => {
                let kind = Kind::Symlink(target.clone());
                let real = self.place(path, *mtime)?;
                self.put(real, Node { kind, mode: 0o777, mtime: *mtime });
                Ok(())
            }
            Op::Fifo { path } => {
                let real = self.place(path, 1_600_000_000)?;
                self.put(real, Node { kind: Kind::Fifo, mode: 0, mtime: 0 });
                Ok(())
            }
            Op::HardLink { path, target } => {
                let (parent, name) = split(target);
                let parent = self.real(&parent, None, 0)?.ok_or(())?;
                let node = *self.names.get(&join(&parent, &name)).ok_or(())?;
                if matches!(self.nodes[node].kind, Kind::Dir) {
                    return Err(());
                }
                let real = self.place(path, 1_600_000_000)?;
                self.remove(&real);
                self.names.insert(real, node);
                Ok(())
            }
        }
    }

    /// Where an entry goes, with all directories above it made; the root is no place for anything but a directory.
    fn place(&mut self, path: &str, mtime: i64) -> Result<Real, ()> {
        let (parent, name) = split(path);
        let parent = self.real(&parent, Some(mtime), 0)?.ok_or(())?;
        Ok(if name.is_empty() { parent } else { join(&parent, &name) })
    }

    /// The path without symbolic links of the directory at `path`.
    fn real(
        &mut self,
        path: &[String],
        create: Option<i64>,
        links: usize,
    ) -> Result<Option<Real>, ()> {
        if links > 255 {
            return Err(());
        }
        let mut at = Vec::new();
        for (index, name) in path.iter().enumerate() {
            if name == ".." {
                at.pop();
                continue;
            }
            let here = join(&at, name);
            match self.names.get(&here).map(|node| self.nodes[*node].kind.clone()) {
                Some(Kind::Dir) => at = here,
                Some(Kind::Symlink(target)) => {
                    let mut whole = if target.starts_with('/') { Vec::new() } else { at };
                    let parts = target.split('/').filter(|part| !matches!(*part, "" | "."));
                    whole.extend(parts.map(str::to_owned));
                    whole.extend_from_slice(&path[index + 1..]);
                    return self.real(&whole, create, links + 1);
                }
                Some(Kind::File { .. } | Kind::Fifo) | None => {
                    let Some(mtime) = create else { return Ok(None) };
                    self.put(here.clone(), Node { kind: Kind::Dir, mode: 0o755, mtime });
                    at = here;
                }
            }
        }
        Ok(Some(at))
    }

    fn put(&mut self, real: Real, node: Node) {
        self.remove(&real);
        self.nodes.push(node);
        self.names.insert(real, self.nodes.len() - 1);
    }

    fn remove(&mut self, real: &Real) {
        self.names.retain(|name, _| !name.starts_with(real));
    }

    /// What a reader of the image must see.
    pub(crate) fn listing(&self) -> Listing {
        let mut first: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let mut links: BTreeMap<usize, u64> = BTreeMap::new();
        for node in self.names.values() {
            *links.entry(*node).or_default() += 1;
        }
        let mut listing = Listing::new();
        for (real, index) in &self.names {
            let node = &self.nodes[*index];
            let name = real.join("/").into_bytes();
            let first = first.entry(*index).or_insert_with(|| name.clone()).clone();
            let (kind, links) = match &node.kind {
                Kind::Dir => (FoundKind::Directory, self.directory_links(real)),
                Kind::File { seed, size } => {
                    let bytes = content(*seed, *size);
                    (FoundKind::File(*size as u64, digest(&bytes), first), links[index])
                }
                Kind::Symlink(target) => {
                    (FoundKind::Symlink(target.clone().into_bytes()), links[index])
                }
                Kind::Fifo => continue,
            };
            let (mode, mtime) = (node.mode, node.mtime);
            listing.insert(name, Found { kind, mode, mtime, links, owner: (0, 0) });
        }
        listing
    }

    fn directory_links(&self, real: &Real) -> u64 {
        let is_child = |name: &Real| name.len() == real.len() + 1 && name.starts_with(real);
        let is_dir = |node: usize| matches!(self.nodes[node].kind, Kind::Dir);
        2 + self.names.iter().filter(|(name, node)| is_child(name) && is_dir(**node)).count() as u64
    }
}

/// A path by components, `..` taken as text and not past the root.
fn clean(path: &str) -> Real {
    let mut real = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                real.pop();
            }
            name => real.push(name.to_owned()),
        }
    }
    real
}

fn split(path: &str) -> (Real, String) {
    let mut parent = clean(path);
    let name = parent.pop().unwrap_or_default();
    (parent, name)
}

fn join(parent: &Real, name: &str) -> Real {
    let mut real = parent.clone();
    real.push(name.to_owned());
    real
}
