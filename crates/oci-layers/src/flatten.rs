//! From the merged tree to the tree of the image: what is reachable, without what is not published.

use std::collections::HashMap;

use squashfs::{Content, ContentId, DirectoryEntry, Node, NodeId, NodeKind, Tree};

use crate::changeset::{ObjectId, Special};
use crate::convert::Summary;
use crate::merge::{MergedKind, MergedNode, MergedTree, NodeIndex};

/// A file whose content is not there, by the layer that brought it and its name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ContentMissing {
    pub layer: usize,
    pub name: Vec<u8>,
}

/// Builds the tree of the image and counts what is in it.
///
/// `contents` has, by layer and object, where the bytes stand; those that were not written are `None`.
pub(crate) fn flatten(
    merged: &MergedTree,
    contents: Vec<Vec<Option<Content>>>,
) -> Result<(Tree, Summary), ContentMissing> {
    let mut flat = Flattening {
        merged,
        contents,
        tree: Tree::default(),
        summary: Summary::default(),
        nodes: HashMap::new(),
        content_ids: HashMap::new(),
    };
    let mut open = vec![(MergedTree::ROOT, flat.reserve(MergedTree::ROOT))];
    while let Some((index, id)) = open.pop() {
        let Some(MergedNode { mode, mtime, kind: MergedKind::Directory(directory) }) =
            merged.node(index)
        else {
            continue;
        };
        let mut entries = Vec::with_capacity(directory.children.len());
        for (name, child) in &directory.children {
            let Some((node, is_new_directory)) = flat.add(*child, name)? else { continue };
            if is_new_directory {
                open.push((*child, node));
            }
            entries.push(DirectoryEntry { name: name.to_vec(), node });
        }
        flat.summary.entries += entries.len() as u64;
        flat.set(id, *mode, *mtime, NodeKind::Directory(entries));
    }
    Ok((flat.tree, flat.summary))
}

struct Flattening<'a> {
    merged: &'a MergedTree,
    contents: Vec<Vec<Option<Content>>>,
    tree: Tree,
    summary: Summary,
    /// By place in the merged tree: the node of the image.
    nodes: HashMap<usize, NodeId>,
    content_ids: HashMap<(usize, ObjectId), ContentId>,
}

impl Flattening<'_> {
    /// The image's node for a merged one, and whether it is a directory to be filled; `None` for what is left out.
    fn add(
        &mut self,
        index: NodeIndex,
        name: &[u8],
    ) -> Result<Option<(NodeId, bool)>, ContentMissing> {
        if let Some(id) = self.nodes.get(&index.0) {
            self.summary.hard_links += 1;
            return Ok(Some((*id, false)));
        }
        let Some(node) = self.merged.node(index) else { return Ok(None) };
        let kind = match &node.kind {
            MergedKind::Directory(_) => {
                self.summary.directories += 1;
                return Ok(Some((self.reserve(index), true)));
            }
            MergedKind::Special(special) => {
                let skipped = &mut self.summary.skipped;
                match special {
                    Special::CharDevice | Special::BlockDevice => skipped.devices += 1,
                    Special::Fifo => skipped.fifos += 1,
                }
                return Ok(None);
            }
            MergedKind::Symlink(target) => {
                self.summary.links += 1;
                NodeKind::Symlink(target.to_vec())
            }
            MergedKind::File { layer, object } => {
                self.summary.files += 1;
                NodeKind::File(self.content(*layer, *object, name)?)
            }
        };
        let id = self.reserve(index);
        self.set(id, node.mode, node.mtime, kind);
        Ok(Some((id, false)))
    }

    fn content(
        &mut self,
        layer: usize,
        object: ObjectId,
        name: &[u8],
    ) -> Result<ContentId, ContentMissing> {
        if let Some(id) = self.content_ids.get(&(layer, object)) {
            return Ok(*id);
        }
        let slot = self.contents.get_mut(layer).and_then(|all| all.get_mut(object.0 as usize));
        let content = slot
            .and_then(Option::take)
            .ok_or_else(|| ContentMissing { layer, name: name.to_vec() })?;
        let id = ContentId(self.tree.contents.len() as u32);
        self.tree.contents.push(content);
        self.content_ids.insert((layer, object), id);
        Ok(id)
    }

    fn reserve(&mut self, index: NodeIndex) -> NodeId {
        let id = NodeId(self.tree.nodes.len() as u32);
        let kind = NodeKind::Directory(Vec::new());
        self.tree.nodes.push(Node { mode: 0, uid: 0, gid: 0, mtime: 0, kind });
        self.nodes.insert(index.0, id);
        id
    }

    fn set(&mut self, id: NodeId, mode: u16, mtime: u32, kind: NodeKind) {
        if let Some(node) = self.tree.nodes.get_mut(id.0 as usize) {
            *node = Node { mode, uid: 0, gid: 0, mtime, kind };
        }
    }
}
