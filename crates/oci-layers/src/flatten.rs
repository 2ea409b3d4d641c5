//! From the merged tree to the tree of the image: what is reachable, without what is not published.

use std::mem;

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
    merged: MergedTree,
    contents: Vec<Vec<Option<Content>>>,
) -> Result<(Tree, Summary), ContentMissing> {
    let merged = merged.into_nodes();
    // At most: none of these lists is copied while it grows.
    let mut tree = Tree::default();
    tree.nodes.reserve_exact(merged.len());
    tree.contents.reserve_exact(contents.iter().map(Vec::len).sum());
    let mut flat = Flattening {
        nodes: vec![None; merged.len()],
        merged,
        content_ids: contents.iter().map(|own| vec![None; own.len()]).collect(),
        contents,
        tree,
        summary: Summary::default(),
    };
    let mut open = vec![(MergedTree::ROOT, flat.reserve(MergedTree::ROOT))];
    while let Some((index, id)) = open.pop() {
        let Some(MergedNode { mode, mtime, kind: MergedKind::Directory(directory) }) =
            flat.merged.get_mut(index.0)
        else {
            continue;
        };
        let (mode, mtime, children) = (*mode, *mtime, mem::take(&mut directory.children));
        let mut entries = Vec::with_capacity(children.len());
        for (name, child) in children {
            let Some((node, is_new_directory)) = flat.add(child, &name)? else { continue };
            if is_new_directory {
                open.push((child, node));
            }
            entries.push(DirectoryEntry { name: name.into_vec(), node });
        }
        flat.summary.entries += entries.len() as u64;
        flat.set(id, mode, mtime, NodeKind::Directory(entries));
    }
    Ok((flat.tree, flat.summary))
}

struct Flattening {
    /// What has been taken over is empty here.
    merged: Vec<MergedNode>,
    /// By place in the merged tree: the node of the image.
    nodes: Vec<Option<NodeId>>,
    /// By layer and object.
    contents: Vec<Vec<Option<Content>>>,
    content_ids: Vec<Vec<Option<ContentId>>>,
    tree: Tree,
    summary: Summary,
}

impl Flattening {
    /// The image's node for a merged one, and whether it is a directory to be filled; `None` for what is left out.
    fn add(
        &mut self,
        index: NodeIndex,
        name: &[u8],
    ) -> Result<Option<(NodeId, bool)>, ContentMissing> {
        if let Some(id) = self.nodes.get(index.0).copied().flatten() {
            self.summary.hard_links += 1;
            return Ok(Some((id, false)));
        }
        let Some(node) = self.merged.get_mut(index.0) else { return Ok(None) };
        let (mode, mtime) = (node.mode, node.mtime);
        let kind = match &mut node.kind {
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
                NodeKind::Symlink(mem::take(target).into_vec())
            }
            MergedKind::File { layer, object } => {
                self.summary.files += 1;
                let (layer, object) = (*layer, *object);
                NodeKind::File(self.content(layer, object, name)?)
            }
        };
        let id = self.reserve(index);
        self.set(id, mode, mtime, kind);
        Ok(Some((id, false)))
    }

    fn content(
        &mut self,
        layer: usize,
        object: ObjectId,
        name: &[u8],
    ) -> Result<ContentId, ContentMissing> {
        let place = object.0 as usize;
        let missing = || ContentMissing { layer, name: name.to_vec() };
        let id = self.content_ids.get_mut(layer).and_then(|ids| ids.get_mut(place));
        let id = id.ok_or_else(missing)?;
        if let Some(id) = id {
            return Ok(*id);
        }
        let slot = self.contents.get_mut(layer).and_then(|own| own.get_mut(place));
        let content = slot.and_then(Option::take).ok_or_else(missing)?;
        let new = ContentId(self.tree.contents.len() as u32);
        self.tree.contents.push(content);
        Ok(*id.insert(new))
    }

    fn reserve(&mut self, index: NodeIndex) -> NodeId {
        let id = NodeId(self.tree.nodes.len() as u32);
        let kind = NodeKind::Directory(Vec::new());
        self.tree.nodes.push(Node { mode: 0, uid: 0, gid: 0, mtime: 0, kind });
        if let Some(slot) = self.nodes.get_mut(index.0) {
            *slot = Some(id);
        }
        id
    }

    fn set(&mut self, id: NodeId, mode: u16, mtime: u32, kind: NodeKind) {
        if let Some(node) = self.tree.nodes.get_mut(id.0 as usize) {
            *node = Node { mode, uid: 0, gid: 0, mtime, kind };
        }
    }
}
