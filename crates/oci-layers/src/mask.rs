//! What the layers above hide, so that nothing is written which no one could read.
//!
//! It is known before any layer below is committed, and it never hides too much: it speaks only of entries that stand
//! where their path says. If such an entry is still in the tree when a layer above is applied, all directories on its
//! path are real, so what that layer says of the path, or of a part of it, is said of that entry. Hard links keep what
//! they link to; because symbolic links may lead to their targets, they keep everything of the same last name.

use std::collections::{HashMap, HashSet};

use crate::changeset::{Changeset, Entry, EntryKind, ObjectId, Whiteout};
use crate::content::Claim;

/// The paths that the layers applied so far, from the top down, hide, and the names that they keep.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    hidden: HashMap<Box<[u8]>, Hides>,
    /// Last components of the targets of hard links.
    pinned: HashSet<Box<[u8]>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Hides {
    itself: bool,
    below: bool,
}

impl Mask {
    /// Tells whether all that a block holds came under paths that are hidden.
    pub(crate) fn hides(&self, claim: &Claim) -> bool {
        match claim {
            Claim::Keep => false,
            Claim::Paths(paths) => paths.iter().all(|path| self.hides_path(path)),
        }
    }

    /// Tells which of a layer's `count` contents its own hard links and the layers above leave within reach.
    ///
    /// Also remembers what the layer's hard links keep in the layers below.
    pub(crate) fn reachable(&mut self, changeset: &Changeset, count: usize) -> Vec<bool> {
        let mut reachable = vec![false; count];
        // From the last entry to the first: a link comes after its target, and may be a target itself.
        for entry in changeset.entries.iter().rev() {
            if !self.keeps(entry) {
                continue;
            }
            match &entry.kind {
                EntryKind::HardLink(target) => {
                    self.pinned.insert(target.name().into());
                }
                EntryKind::File(ObjectId(object)) => {
                    if let Some(slot) = reachable.get_mut(*object as usize) {
                        *slot = true;
                    }
                }
                EntryKind::Directory | EntryKind::Symlink(_) | EntryKind::Special(_) => {}
            }
        }
        reachable
    }

    /// Adds what a layer hides of those below it.
    pub(crate) fn add(&mut self, changeset: &Changeset) {
        for entry in &changeset.entries {
            let hides = self.hidden.entry(entry.path.as_bytes().into()).or_default();
            hides.itself = true;
            hides.below |= !matches!(entry.kind, EntryKind::Directory);
        }
        for whiteout in &changeset.whiteouts {
            let (path, itself) = match whiteout {
                Whiteout::Path(path) => (path, true),
                Whiteout::Opaque(path) => (path, false),
            };
            let hides = self.hidden.entry(path.as_bytes().into()).or_default();
            hides.itself |= itself;
            hides.below = true;
        }
    }

    fn keeps(&self, entry: &Entry) -> bool {
        !entry.anchored
            || self.pinned.contains(entry.path.name())
            || !self.hides_path(entry.path.as_bytes())
    }

    fn hides_path(&self, path: &[u8]) -> bool {
        self.hidden.get(path).is_some_and(|hides| hides.itself)
            || crate::path::ancestors(path)
                .any(|above| self.hidden.get(above).is_some_and(|hides| hides.below))
    }
}
