//! What the layers above hide, so that nothing is written which no one could read.
//!
//! It is known before any layer below is committed, and it never hides too much: it speaks only of entries that stand
//! where their path says. If such an entry is still in the tree when a layer above is applied, all directories on its
//! path are real, so what that layer says of the path, or of a part of it, is said of that entry. Hard links keep what
//! they link to; because symbolic links may lead to their targets, they keep everything of the same last name.

use std::collections::{HashMap, HashSet};

use foldhash::quality::RandomState;

use crate::changeset::{Changeset, EntryKind, ObjectId, Whiteout};
use crate::content::Claim;
use crate::path::{LayerPath, ancestors, parent};

/// The paths that the layers applied so far, from the top down, hide, and the names that they keep.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    /// Every path of an image is hashed here twice, so it is hashed fast; seeded by chance, as the names are anybody's.
    hidden: HashMap<LayerPath, Hides, RandomState>,
    /// Last components of the targets of hard links.
    pinned: HashSet<Box<[u8]>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Hides {
    itself: bool,
    below: bool,
}

/// What the layers above and its own hard links leave of a layer.
#[derive(Debug)]
pub(crate) struct Reach {
    /// By content: whether it is within reach.
    pub objects: Vec<bool>,
    /// By entry: whether its path is hidden.
    pub hidden: Vec<bool>,
    pinned: HashSet<Box<[u8]>>,
}

impl Mask {
    /// Tells whether all that a block holds came under paths that are hidden.
    pub(crate) fn hides(&self, claim: &Claim) -> bool {
        match claim {
            Claim::Keep => false,
            Claim::Paths(paths) => paths.iter().all(|path| self.hides_path(path)),
        }
    }

    /// Tells what stays within reach of a layer with so many contents.
    pub(crate) fn reach(&self, changeset: &Changeset, contents: usize) -> Reach {
        let mut reach = Reach {
            objects: vec![false; contents],
            hidden: self.hidden_entries(changeset),
            pinned: HashSet::new(),
        };
        // From the last entry to the first: a link comes after its target, and may be a target itself.
        for (entry, hidden) in changeset.entries.iter().zip(&reach.hidden).rev() {
            let name = entry.path.name();
            if *hidden && !self.pinned.contains(name) && !reach.pinned.contains(name) {
                continue;
            }
            match &entry.kind {
                EntryKind::HardLink(target) => {
                    reach.pinned.insert(target.name().into());
                }
                EntryKind::File(ObjectId(object)) => {
                    if let Some(slot) = reach.objects.get_mut(*object as usize) {
                        *slot = true;
                    }
                }
                EntryKind::Directory | EntryKind::Symlink(_) | EntryKind::Special(_) => {}
            }
        }
        reach
    }

    /// Adds what a layer hides of those below it, and what its hard links keep of them.
    pub(crate) fn add(&mut self, changeset: &Changeset, reach: Reach) {
        self.pinned.extend(reach.pinned);
        self.hidden.reserve(changeset.entries.len());
        for entry in &changeset.entries {
            let hides = self.hidden.entry(entry.path.clone()).or_default();
            hides.itself = true;
            hides.below |= !matches!(entry.kind, EntryKind::Directory);
        }
        for whiteout in &changeset.whiteouts {
            let (path, itself) = match whiteout {
                Whiteout::Path(path) => (path, true),
                Whiteout::Opaque(path) => (path, false),
            };
            let hides = self.hidden.entry(path.clone()).or_default();
            hides.itself |= itself;
            hides.below = true;
        }
    }

    /// By entry: whether it stands where its path says, and that is hidden.
    fn hidden_entries(&self, changeset: &Changeset) -> Vec<bool> {
        let entries = &changeset.entries;
        if self.hidden.is_empty() {
            return vec![false; entries.len()];
        }
        // Most entries are in the directory of the entry before.
        let mut last: (Option<&[u8]>, bool) = (None, false);
        let mut hidden = Vec::with_capacity(entries.len());
        for entry in entries {
            let path = entry.path.as_bytes();
            let directory = parent(path);
            if last.0 != directory {
                last = (directory, self.hides_below(path));
            }
            let itself = || self.hidden.get(path).is_some_and(|hides| hides.itself);
            hidden.push(entry.anchored && (last.1 || itself()));
        }
        hidden
    }

    fn hides_path(&self, path: &[u8]) -> bool {
        self.hidden.get(path).is_some_and(|hides| hides.itself) || self.hides_below(path)
    }

    /// Tells whether all that is in a directory above the path is hidden.
    fn hides_below(&self, path: &[u8]) -> bool {
        ancestors(path).any(|above| self.hidden.get(above).is_some_and(|hides| hides.below))
    }
}
