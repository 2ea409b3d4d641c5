//! The order in which inodes are numbered and written.
//!
//! A directory comes after all that is in it, as the format wants. Its subdirectories come first, each whole, and then
//! its files, side by side: what a listing of one directory needs stands in as few metadata blocks as possible.

use crate::error::WriteError;
use crate::tree::{Node, NodeId, NodeKind, Tree};

/// What the walk found about the nodes that names reach.
#[derive(Debug)]
pub(crate) struct Walk {
    /// Nodes in the order of their inode numbers; the first one has number 1.
    pub order: Vec<NodeId>,
    /// By node: its inode number, 0 if no name reaches it.
    numbers: Vec<u32>,
    /// By node: the link count.
    links: Vec<u32>,
    /// By node: the directory it is in; of use for directories alone, which have one.
    parents: Vec<NodeId>,
}

impl Walk {
    /// Walks the tree from the root, checking every node on the way; uses no stack space for depth.
    pub(crate) fn of(tree: &Tree) -> Result<Self, WriteError> {
        let count = tree.nodes.len();
        let mut walk = Self {
            order: Vec::with_capacity(count),
            numbers: vec![0; count],
            links: vec![0; count],
            parents: vec![NodeId::ROOT; count],
        };
        let mut entered = vec![false; count];
        let mut open = vec![(NodeId::ROOT, 0)];
        walk.enter(tree, NodeId::ROOT, &mut entered)?;
        while let Some((directory, next)) = open.pop() {
            let children = entries(tree.node(directory)?);
            let from = children.get(next..).unwrap_or_default();
            let mut subdirectory = None;
            for (skipped, child) in from.iter().enumerate() {
                if tree.node(child.node)?.is_directory() {
                    subdirectory = Some((next + skipped + 1, child.node));
                    break;
                }
            }
            if let Some((resume, child)) = subdirectory {
                walk.enter(tree, child, &mut entered)?;
                walk.set_parent(child, directory);
                walk.add_link(directory)?;
                open.push((directory, resume));
                open.push((child, 0));
            } else {
                walk.leave(tree, directory)?;
            }
        }
        Ok(walk)
    }

    /// The inode number of a node.
    pub(crate) fn number(&self, node: NodeId) -> Result<u32, WriteError> {
        find(&self.numbers, node).copied()
    }

    /// The link count of a node.
    pub(crate) fn links(&self, node: NodeId) -> Result<u32, WriteError> {
        find(&self.links, node).copied()
    }

    /// The inode number of the directory that `node` is in; for the root the number after the last, as squashfs-tools
    /// writes it.
    pub(crate) fn parent_number(&self, node: NodeId) -> Result<u32, WriteError> {
        if node == NodeId::ROOT {
            return Ok(self.order.len() as u32 + 1);
        }
        self.number(*find(&self.parents, node)?)
    }

    fn enter(
        &mut self,
        tree: &Tree,
        directory: NodeId,
        entered: &mut [bool],
    ) -> Result<(), WriteError> {
        let index = directory.0 as usize;
        tree.node(directory)?.check()?;
        match entered.get_mut(index) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(WriteError::DirectoryLinked { index }),
        }
        self.add_link(directory)?;
        self.add_link(directory)
    }

    /// Numbers the files of a directory, then the directory.
    fn leave(&mut self, tree: &Tree, directory: NodeId) -> Result<(), WriteError> {
        for child in entries(tree.node(directory)?) {
            let node = tree.node(child.node)?;
            if node.is_directory() {
                continue;
            }
            if self.number(child.node)? == 0 {
                node.check()?;
                self.give_number(child.node)?;
            }
            self.add_link(child.node)?;
        }
        self.give_number(directory)
    }

    fn give_number(&mut self, node: NodeId) -> Result<(), WriteError> {
        self.order.push(node);
        let number = u32::try_from(self.order.len())
            .ok()
            .filter(|number| *number < u32::MAX)
            .ok_or(WriteError::TooLarge { what: "inodes" })?;
        if let Some(slot) = self.numbers.get_mut(node.0 as usize) {
            *slot = number;
        }
        Ok(())
    }

    fn set_parent(&mut self, node: NodeId, parent: NodeId) {
        if let Some(slot) = self.parents.get_mut(node.0 as usize) {
            *slot = parent;
        }
    }

    fn add_link(&mut self, node: NodeId) -> Result<(), WriteError> {
        let slot = self.links.get_mut(node.0 as usize).ok_or(missing(node))?;
        *slot = slot.checked_add(1).ok_or(WriteError::TooLarge { what: "links" })?;
        Ok(())
    }
}

impl Tree {
    pub(crate) fn node(&self, id: NodeId) -> Result<&Node, WriteError> {
        find(&self.nodes, id)
    }
}

impl Node {
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.kind, NodeKind::Directory(_))
    }
}

fn entries(node: &Node) -> &[crate::tree::DirectoryEntry] {
    match &node.kind {
        NodeKind::Directory(entries) => entries,
        NodeKind::File(_) | NodeKind::Symlink(_) => &[],
    }
}

fn find<T>(list: &[T], node: NodeId) -> Result<&T, WriteError> {
    list.get(node.0 as usize).ok_or(missing(node))
}

fn missing(node: NodeId) -> WriteError {
    WriteError::Missing { what: "node", index: node.0 as usize }
}
