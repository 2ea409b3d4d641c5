//! What a stack of layers shows, said as simply as possible: a map from real paths to nodes, changed entry by entry.
//!
//! It shares no code and no data structure with the converter.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;

use crate::archive::{Header, Tar};
use crate::image::{Found, FoundKind, Listing, digest};

/// One entry of a layer, as a test wants it.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Dir {
        path: String,
        mode: u32,
        mtime: i64,
    },
    File {
        path: String,
        mode: u32,
        mtime: i64,
        seed: u8,
        size: usize,
    },
    /// A file of holes and `content` at these offsets, each as long as [`PART`], in one of the four forms.
    Sparse {
        path: String,
        form: u8,
        seed: u8,
        size: u64,
        parts: Vec<u64>,
    },
    Symlink {
        path: String,
        target: String,
        mtime: i64,
    },
    HardLink {
        path: String,
        target: String,
    },
    /// A fifo or a device, which is left out.
    Special {
        path: String,
        kind: u8,
    },
    Whiteout {
        path: String,
    },
    Opaque {
        path: String,
    },
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

/// Names and targets that do not fit a header go in front of it, in GNU's way or, if `pax`, in that of POSIX.
fn named(tar: Tar, header: Header, path: &str, target: &str) -> Tar {
    let (name, link) = (path.as_bytes(), target.as_bytes());
    let pax = path.len() % 2 == 1;
    let long: Vec<(&str, &[u8])> =
        [("path", name), ("linkpath", link)].into_iter().filter(|it| it.1.len() > 100).collect();
    if pax && !long.is_empty() {
        tar.pax(&long).header(header)
    } else {
        tar.entry(header, name, link)
    }
}

fn append(tar: Tar, op: &Op) -> Tar {
    let header = |kind, path: &str, mode, size| Header::new(kind, path.as_bytes(), mode, size);
    match op {
        Op::Dir { path, mode, mtime } => {
            named(tar, header(b'5', path, *mode, 0).mtime(*mtime), path, "")
        }
        Op::File { path, mode, mtime, seed, size } => {
            let header = header(b'0', path, *mode, *size as u64).mtime(*mtime);
            named(tar, header, path, "").data(&content(*seed, *size))
        }
        Op::Sparse { path, form, seed, size, parts } => {
            append_sparse(tar, path, *form, *size, parts, &content(*seed, PART))
        }
        Op::Symlink { path, target, mtime } => {
            let header = header(b'2', path, 0o777, 0).mtime(*mtime).link(target.as_bytes());
            named(tar, header, path, target)
        }
        Op::HardLink { path, target } => {
            let header = header(b'1', path, 0o644, 0).link(target.as_bytes());
            named(tar, header, path, target)
        }
        Op::Special { path, kind } => named(tar, header(*kind, path, 0o666, 0), path, ""),
        Op::Whiteout { path } => {
            let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
            tar.file(&format!("{parent}/.wh.{name}"), 0, b"")
        }
        Op::Opaque { path } => tar.file(&format!("{path}/.wh..wh..opq"), 0, b""),
    }
}

fn append_sparse(tar: Tar, path: &str, form: u8, size: u64, parts: &[u64], part: &[u8]) -> Tar {
    let data = part.repeat(parts.len());
    let stored = data.len() as u64;
    let size_text = size.to_string();
    let length = PART.to_string();
    let offsets: Vec<String> = parts.iter().map(u64::to_string).collect();
    let name = path.as_bytes();
    match form {
        0 => {
            let mut header = Header::new(b'S', name, 0o644, stored);
            for (at, offset) in parts.iter().enumerate() {
                header.number(386 + at * 24, 12, *offset as i64);
                header.number(398 + at * 24, 12, PART as i64);
            }
            header.number(483, 12, size as i64);
            tar.entry(header, name, b"").data(&data)
        }
        1 => {
            let mut records: Vec<(&str, &[u8])> = vec![("GNU.sparse.size", size_text.as_bytes())];
            for offset in &offsets {
                records.push(("GNU.sparse.offset", offset.as_bytes()));
                records.push(("GNU.sparse.numbytes", length.as_bytes()));
            }
            let header = Header::new(b'0', name, 0o644, stored);
            tar.pax(&[&records[..], &[("path", name)]].concat()).header(header).data(&data)
        }
        2 => {
            let map: Vec<String> =
                offsets.iter().map(|offset| format!("{offset},{length}")).collect();
            let map = map.join(",");
            let records: [(&str, &[u8]); 3] = [
                ("GNU.sparse.size", size_text.as_bytes()),
                ("GNU.sparse.map", map.as_bytes()),
                ("GNU.sparse.name", name),
            ];
            tar.pax(&records).header(Header::new(b'0', b"made-up", 0o644, stored)).data(&data)
        }
        _ => {
            let numbers = offsets.iter().map(|offset| format!("{offset}\n{length}\n"));
            let mut map = format!("{}\n{}", parts.len(), numbers.collect::<String>()).into_bytes();
            map.resize(map.len().next_multiple_of(512), 0);
            let records: [(&str, &[u8]); 4] = [
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", size_text.as_bytes()),
                ("GNU.sparse.name", name),
            ];
            let header = Header::new(b'0', b"made-up", 0o644, stored + map.len() as u64);
            tar.pax(&records).header(header).data(&[map, data].concat())
        }
    }
}

/// Bytes of each part of a sparse file.
pub(crate) const PART: usize = 600;

#[derive(Clone, Debug)]
enum Kind {
    Dir,
    File { seed: u8, size: usize },
    Sparse { seed: u8, size: u64, parts: Vec<u64> },
    Symlink(String),
    Special,
}

#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    mode: u32,
    mtime: i64,
}

type Real = Vec<String>;

/// The time of headers that are given none.
const TIME: i64 = 1_600_000_000;

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
            Op::Sparse { path, form: _, seed, size, parts } => {
                let kind = Kind::Sparse { seed: *seed, size: *size, parts: parts.clone() };
                let real = self.place(path, TIME)?;
                self.put(real, Node { kind, mode: 0o644, mtime: TIME });
                Ok(())
            }
            Op::Special { path, .. } => {
                let real = self.place(path, TIME)?;
                self.put(real, Node { kind: Kind::Special, mode: 0, mtime: 0 });
                Ok(())
            }
            Op::HardLink { path, target } => {
                let (parent, name) = split(target);
                let parent = self.real(&parent, None, 0)?.ok_or(())?;
                let node = *self.names.get(&join(&parent, &name)).ok_or(())?;
                if matches!(self.nodes[node].kind, Kind::Dir) {
                    return Err(());
                }
                let real = self.place(path, TIME)?;
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
                Some(Kind::File { .. } | Kind::Sparse { .. } | Kind::Special) | None => {
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
                Kind::Sparse { seed, size, parts } => {
                    let mut bytes = vec![0; *size as usize];
                    for at in parts {
                        let part = content(*seed, PART);
                        bytes[*at as usize..*at as usize + PART].copy_from_slice(&part);
                    }
                    (FoundKind::File(*size, digest(&bytes), first), links[index])
                }
                Kind::Special => continue,
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
