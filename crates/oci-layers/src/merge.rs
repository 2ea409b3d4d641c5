//! The merged tree: changesets applied one on the other, the lowest first, in memory alone.
//!
//! Paths are resolved here by component. A symbolic link on the way to an entry is followed inside the model, where
//! the root is its own parent, so there is nothing outside that could be reached (CVE-2018-15664, CVE-2024-9676).

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::changeset::{
    Changeset, Entry, EntryKind, IMPLICIT_DIRECTORY_MODE, ObjectId, Special, Whiteout,
};
use crate::error::EntryError;
use crate::limits::{Limit, check};
use crate::path::{LayerPath, components, parent};

/// What the layers applied so far show. Node 0 is the root.
#[derive(Debug)]
pub(crate) struct MergedTree {
    nodes: Vec<MergedNode>,
    depth_limit: u64,
    /// Directories that had no entry of their own when they were made.
    implied: u64,
    /// The directory of the last entry: most entries are in the same one as the entry before.
    last: Option<(Vec<u8>, NodeIndex)>,
}

/// The place of a node; two names with the same place are hard links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeIndex(pub usize);

#[derive(Debug)]
pub(crate) struct MergedNode {
    pub mode: u16,
    pub mtime: u32,
    pub kind: MergedKind,
}

#[derive(Debug)]
pub(crate) enum MergedKind {
    Directory(Directory),
    File {
        /// Index of the layer that brought it.
        layer: usize,
        object: ObjectId,
    },
    Symlink(Box<[u8]>),
    /// Kept until the end, because hard links may name it.
    Special(Special),
}

#[derive(Debug)]
pub(crate) struct Directory {
    pub children: BTreeMap<Box<[u8]>, NodeIndex>,
    parent: NodeIndex,
    depth: u64,
}

impl MergedTree {
    /// The tree of no layers: a root of mode 0755 from 1970.
    pub(crate) fn new(depth_limit: u64) -> Self {
        let root = Directory { children: BTreeMap::new(), parent: Self::ROOT, depth: 0 };
        Self {
            nodes: vec![MergedNode {
                mode: IMPLICIT_DIRECTORY_MODE,
                mtime: 0,
                kind: MergedKind::Directory(root),
            }],
            depth_limit,
            implied: 0,
            last: None,
        }
    }

    pub(crate) const ROOT: NodeIndex = NodeIndex(0);

    /// Applies the changeset of the layer with this index on top; the error tells the entry that it is about.
    pub(crate) fn apply<'c>(
        &mut self,
        layer: usize,
        changeset: &'c Changeset,
    ) -> Result<(), (&'c LayerPath, EntryError)> {
        self.nodes.reserve(changeset.entries.len());
        for whiteout in &changeset.whiteouts {
            let (Whiteout::Path(path) | Whiteout::Opaque(path)) = whiteout;
            self.apply_whiteout(whiteout).map_err(|error| (path, error))?;
        }
        for entry in &changeset.entries {
            self.apply_entry(layer, entry).map_err(|error| (&entry.path, error))?;
        }
        Ok(())
    }

    pub(crate) fn node(&self, index: NodeIndex) -> Option<&MergedNode> {
        self.nodes.get(index.0)
    }

    /// The nodes, by [`NodeIndex`].
    pub(crate) fn into_nodes(self) -> Vec<MergedNode> {
        self.nodes
    }

    fn apply_whiteout(&mut self, whiteout: &Whiteout) -> Result<(), EntryError> {
        self.last = None;
        match whiteout {
            Whiteout::Path(path) => {
                let Some(parent) = parent(path.as_bytes()) else { return Ok(()) };
                let name = path.name();
                if let Some(found) = self.find(parent, None)?
                    && let Some(directory) = self.directory_mut(found)
                {
                    directory.children.remove(name);
                }
            }
            Whiteout::Opaque(path) => {
                if let Some(found) = self.find(path.as_bytes(), None)?
                    && let Some(directory) = self.directory_mut(found)
                {
                    directory.children.clear();
                }
            }
        }
        Ok(())
    }

    fn apply_entry(&mut self, layer: usize, entry: &Entry) -> Result<(), EntryError> {
        let name = entry.path.name();
        let Some(parent_path) = parent(entry.path.as_bytes()) else {
            // The root itself, which only a directory can be.
            self.update(Self::ROOT, entry);
            return Ok(());
        };
        if let EntryKind::HardLink(target) = &entry.kind {
            let node = self.link_target(target)?;
            let parent = self.ensure_directory(parent_path, entry.mtime)?;
            self.insert(parent, name, node);
            return Ok(());
        }
        let parent = self.ensure_directory(parent_path, entry.mtime)?;
        let kind = match &entry.kind {
            EntryKind::Directory => {
                return match self.child(parent, name) {
                    Some(existing) if self.directory(existing).is_some() => {
                        self.update(existing, entry);
                        Ok(())
                    }
                    _ => self.add_directory(parent, name, entry.mode, entry.mtime).map(|_| ()),
                };
            }
            EntryKind::File(object) => MergedKind::File { layer, object: *object },
            EntryKind::Symlink(target) => MergedKind::Symlink(target.clone()),
            EntryKind::Special(special) => MergedKind::Special(*special),
            EntryKind::HardLink(_) => return Ok(()), // handled above
        };
        let node = self.add_node(MergedNode { mode: entry.mode, mtime: entry.mtime, kind });
        self.insert(parent, name, node);
        Ok(())
    }

    /// What a hard link names; the last component is not followed, as link(2) does not follow it.
    fn link_target(&mut self, target: &LayerPath) -> Result<NodeIndex, EntryError> {
        let Some(parent) = parent(target.as_bytes()) else {
            return Err(EntryError::LinkToDirectory { target: target.clone() });
        };
        let found = self.find(parent, None)?.and_then(|at| self.child(at, target.name()));
        match found {
            None => Err(EntryError::LinkTargetMissing { target: target.clone() }),
            Some(node) if self.directory(node).is_some() => {
                Err(EntryError::LinkToDirectory { target: target.clone() })
            }
            Some(node) => Ok(node),
        }
    }

    /// The directory at `path`, made where it is missing, as of the time of the entry that needs it.
    fn ensure_directory(&mut self, path: &[u8], mtime: u32) -> Result<NodeIndex, EntryError> {
        if let Some((last, node)) = &self.last
            && last == path
        {
            return Ok(*node);
        }
        let node = self.find(path, Some(mtime))?.unwrap_or(Self::ROOT);
        self.last = Some((path.to_vec(), node));
        Ok(node)
    }

    /// Finds the directory at `path`, following symbolic links.
    ///
    /// With a time, directories are made on the way where there are none, also in place of a file: a layer that has
    /// something in a directory says that it is a directory. Without one, `None` if there is no such directory.
    fn find(&mut self, path: &[u8], create: Option<u32>) -> Result<Option<NodeIndex>, EntryError> {
        let mut pending: Vec<Cow<'_, [u8]>> = components(path).map(Cow::Borrowed).collect();
        pending.reverse();
        let mut at = Self::ROOT;
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == &b".."[..] {
                at = self.directory(at).map_or(Self::ROOT, |directory| directory.parent);
                continue;
            }
            let child = self.child(at, &name);
            match child.and_then(|child| self.node(child)).map(|node| &node.kind) {
                Some(MergedKind::Directory(_)) => at = child.unwrap_or(Self::ROOT),
                Some(MergedKind::Symlink(target)) => {
                    links += 1;
                    if links > LINKS_FOLLOWED {
                        return Err(EntryError::LinkLoop);
                    }
                    if target.starts_with(b"/") {
                        at = Self::ROOT;
                    }
                    let components = target.split(|byte| *byte == b'/').rev();
                    let named = components.filter(|name| !matches!(*name, b"" | b"."));
                    pending.extend(named.map(|name| Cow::Owned(name.to_vec())));
                }
                Some(MergedKind::File { .. } | MergedKind::Special(_)) | None => match create {
                    None => return Ok(None),
                    Some(mtime) => {
                        // One entry may need a hundred of them, and only entries are counted.
                        self.implied += 1;
                        check(Limit::ImpliedDirectories, self.implied, IMPLIED_LIMIT)
                            .map_err(EntryError::Limit)?;
                        at = self.add_directory(at, &name, IMPLICIT_DIRECTORY_MODE, mtime)?;
                    }
                },
            }
        }
        Ok(Some(at))
    }

    fn add_directory(
        &mut self,
        parent: NodeIndex,
        name: &[u8],
        mode: u16,
        mtime: u32,
    ) -> Result<NodeIndex, EntryError> {
        let depth = self.directory(parent).map_or(0, |directory| directory.depth) + 1;
        check(Limit::Depth, depth, self.depth_limit).map_err(EntryError::Limit)?;
        let directory = Directory { children: BTreeMap::new(), parent, depth };
        let kind = MergedKind::Directory(directory);
        let node = self.add_node(MergedNode { mode, mtime, kind });
        self.insert(parent, name, node);
        Ok(node)
    }

    fn add_node(&mut self, node: MergedNode) -> NodeIndex {
        self.nodes.push(node);
        NodeIndex(self.nodes.len() - 1)
    }

    fn insert(&mut self, parent: NodeIndex, name: &[u8], node: NodeIndex) {
        let Some(directory) = self.directory_mut(parent) else { return };
        let before = directory.children.insert(name.into(), node);
        let kind = before.and_then(|before| self.node(before)).map(|node| &node.kind);
        if matches!(kind, Some(MergedKind::Directory(_) | MergedKind::Symlink(_))) {
            self.last = None; // it may have been on the way there
        }
    }

    fn update(&mut self, index: NodeIndex, entry: &Entry) {
        if let Some(node) = self.nodes.get_mut(index.0) {
            node.mode = entry.mode;
            node.mtime = entry.mtime;
        }
    }

    fn child(&self, parent: NodeIndex, name: &[u8]) -> Option<NodeIndex> {
        self.directory(parent)?.children.get(name).copied()
    }

    fn directory(&self, index: NodeIndex) -> Option<&Directory> {
        match &self.node(index)?.kind {
            MergedKind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn directory_mut(&mut self, index: NodeIndex) -> Option<&mut Directory> {
        match &mut self.nodes.get_mut(index.0)?.kind {
            MergedKind::Directory(directory) => Some(directory),
            _ => None,
        }
    }
}

/// Directories that no entry names; archives without any have some ten thousand. Each takes some 400 bytes.
const IMPLIED_LIMIT: u64 = 1_000_000;

/// Symbolic links that are followed on the way to one entry, as many as containerd follows.
const LINKS_FOLLOWED: usize = 255;
