//! A changeset: what one layer adds, replaces and removes, as its archive says it.

use std::collections::HashSet;

use crate::error::{EntryError, LayerError};
use crate::limits::{Limit, Limits, check};
use crate::path::LayerPath;
use crate::tar::{Member, MemberKind};

/// One layer's entries in the order of its archive, and its whiteouts.
#[derive(Debug, Default)]
pub(crate) struct Changeset {
    pub entries: Vec<Entry>,
    /// They apply to the layers below alone, wherever in the archive they stand (OCI layer specification, "Whiteouts").
    pub whiteouts: Vec<Whiteout>,
}

/// One thing that a layer puts at a path.
#[derive(Debug)]
pub(crate) struct Entry {
    pub path: LayerPath,
    /// As published: without set-id bits, readable by all.
    pub mode: u16,
    pub mtime: u32,
    pub kind: EntryKind,
    /// Whether the layer itself says that everything above is a directory, so that the entry stands where its path
    /// says, whatever the layers below hold.
    pub anchored: bool,
}

#[derive(Debug)]
pub(crate) enum EntryKind {
    Directory,
    File(ObjectId),
    Symlink(Box<[u8]>),
    HardLink(LayerPath),
    /// Not published, but it replaces what was there.
    Special(Special),
}

/// What is left out of every image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    CharDevice,
    BlockDevice,
    Fifo,
}

/// The place of a content among those of its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ObjectId(pub u32);

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whiteout {
    /// Removes what is at the path.
    Path(LayerPath),
    /// Removes all that is in the directory.
    Opaque(LayerPath),
}

/// What a name in an archive is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Entry(LayerPath),
    Whiteout(Whiteout),
    /// Bookkeeping of AUFS that old layers hold and nobody reads.
    Ignored,
}

impl Role {
    /// Tells an entry from a whiteout by the name alone, as all other readers of layers do.
    pub(crate) fn of(path: LayerPath) -> Self {
        let Some((parent, name)) = path.split_last() else { return Self::Entry(path) };
        if parent.components().any(|name| name.starts_with(AUFS)) {
            return Self::Ignored;
        }
        if name == OPAQUE {
            return Self::Whiteout(Whiteout::Opaque(parent));
        }
        match name.strip_prefix(WHITEOUT) {
            // No directory has such an entry; Docker would take the first two for the directory itself.
            Some(b"" | b"." | b"..") => Self::Ignored,
            Some(hidden) if hidden.starts_with(WHITEOUT) => Self::Ignored,
            Some(hidden) => Self::Whiteout(Whiteout::Path(parent.child(hidden))),
            None => Self::Entry(path),
        }
    }
}

/// Builds a changeset and remembers which paths the layer has made directories.
#[derive(Debug, Default)]
pub(crate) struct ChangesetBuilder {
    changeset: Changeset,
    directories: HashSet<Box<[u8]>>,
}

impl ChangesetBuilder {
    /// Whether an entry at `path`, put there now, is anchored.
    pub(crate) fn is_anchored(&self, path: &LayerPath) -> bool {
        path.ancestors().skip(1).all(|above| self.directories.contains(above))
    }

    pub(crate) fn add_whiteout(&mut self, whiteout: Whiteout) {
        self.changeset.whiteouts.push(whiteout);
    }

    /// Adds one entry with the mode and time that it will be published with.
    pub(crate) fn add_entry(&mut self, path: LayerPath, mode: u32, mtime: i64, kind: EntryKind) {
        let anchored = self.is_anchored(&path);
        if matches!(kind, EntryKind::Directory) {
            if anchored {
                self.directories.insert(path.as_bytes().into());
            }
        } else {
            self.directories.remove(path.as_bytes());
        }
        let mode = published_mode(mode, &kind);
        let mtime = mtime.clamp(0, u32::MAX.into()) as u32;
        self.changeset.entries.push(Entry { path, mode, mtime, kind, anchored });
    }

    pub(crate) fn finish(self) -> Changeset {
        self.changeset
    }
}

/// What a member that holds no data puts at its path; `None` for a regular file.
pub(crate) fn kind_of(
    member: &Member,
    path: &LayerPath,
    limits: &Limits,
) -> Result<Option<EntryKind>, LayerError> {
    let entry_error = |source| LayerError::Entry { path: path.clone(), source };
    if path.as_bytes().is_empty() && member.kind != MemberKind::Directory {
        return Err(entry_error(EntryError::RootNotDirectory));
    }
    Ok(Some(match member.kind {
        MemberKind::File => return Ok(None),
        MemberKind::Directory => EntryKind::Directory,
        MemberKind::HardLink => {
            EntryKind::HardLink(LayerPath::parse(&member.link, limits).map_err(LayerError::Limit)?)
        }
        MemberKind::Symlink if member.link.is_empty() => {
            return Err(entry_error(EntryError::EmptyTarget));
        }
        MemberKind::Symlink => {
            let length = member.link.len() as u64;
            check(Limit::SymlinkBytes, length, limits.symlink_bytes.min(LINUX_SYMLINK))
                .map_err(LayerError::Limit)?;
            EntryKind::Symlink(member.link.as_slice().into())
        }
        MemberKind::CharDevice => EntryKind::Special(Special::CharDevice),
        MemberKind::BlockDevice => EntryKind::Special(Special::BlockDevice),
        MemberKind::Fifo => EntryKind::Special(Special::Fifo),
    }))
}

/// The mode that an entry is published with.
///
/// Everything belongs to root there, so what only its owner could use would be of no use: files become readable for
/// all, directories can be entered by all, and what anyone may execute all may. Set-id bits would lend rights that no
/// image may give (and are refused by the mount as well).
fn published_mode(mode: u32, kind: &EntryKind) -> u16 {
    let kept = (mode & 0o1777) as u16;
    match kind {
        EntryKind::Directory => kept | 0o555,
        EntryKind::Symlink(_) => 0o777,
        _ if kept & 0o111 != 0 => kept | 0o555,
        _ => kept | 0o444,
    }
}

/// The mode of a directory that no layer has an entry for.
pub(crate) const IMPLICIT_DIRECTORY_MODE: u16 = 0o755;

const WHITEOUT: &[u8] = b".wh.";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What the squashfs writer accepts, whatever the caller's limit.
const LINUX_SYMLINK: u64 = squashfs::SYMLINK_LIMIT as u64;

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> LayerPath {
        LayerPath::parse(text.as_bytes(), &Limits::default()).unwrap()
    }

    fn role(text: &str) -> Role {
        Role::of(path(text))
    }

    #[test]
    fn names_tell_entries_from_whiteouts() {
        let hides = |text| Role::Whiteout(Whiteout::Path(path(text)));
        assert_eq!(role("a/.wh.b"), hides("a/b"));
        assert_eq!(role(".wh.b"), hides("b"));
        assert_eq!(role("../a/.wh.b"), hides("a/b"));
        assert_eq!(role("a/.wh..wh..opq"), Role::Whiteout(Whiteout::Opaque(path("a"))));
        assert_eq!(role(".wh..wh..opq"), Role::Whiteout(Whiteout::Opaque(path(""))));
        assert_eq!(role(".wh..wh.plnk/12.34"), Role::Ignored);
        assert_eq!(role(".wh..wh.aufs"), Role::Ignored);
        assert_eq!(role("a/.wh..wh..opq/x"), Role::Ignored);
        for none in [".wh.", "a/.wh.", "a/.wh..", "a/.wh..."] {
            assert_eq!(role(none), Role::Ignored, "{none}");
        }
        assert_eq!(role("a.wh.b"), Role::Entry(path("a.wh.b")));
        assert_eq!(role("."), Role::Entry(path("")));
    }

    #[test]
    fn set_id_bits_are_stripped_and_everything_is_readable() {
        let file = EntryKind::File(ObjectId(0));
        for (mode, published) in
            [(0o4755, 0o755), (0o2711, 0o755), (0o600, 0o644), (0, 0o444), (0o100, 0o555)]
        {
            assert_eq!(published_mode(mode, &file), published, "{mode:o}");
        }
        assert_eq!(published_mode(0o3700, &EntryKind::Directory), 0o1755);
        assert_eq!(published_mode(0, &EntryKind::Symlink((*b"x").into())), 0o777);
    }

    #[test]
    fn an_entry_is_anchored_by_directories_of_its_own_layer_alone() {
        let mut builder = ChangesetBuilder::default();
        assert!(builder.is_anchored(&path("x")), "the root is always a directory");
        assert!(!builder.is_anchored(&path("a/x")));
        builder.add_entry(path("a/b"), 0, 0, EntryKind::Directory);
        assert!(!builder.is_anchored(&path("a/b/x")), "`a` may be a link below");
        builder.add_entry(path("a"), 0, 0, EntryKind::Directory);
        builder.add_entry(path("a/b"), 0, 0, EntryKind::Directory);
        assert!(builder.is_anchored(&path("a/b/x")));
        builder.add_entry(path("a"), 0, 0, EntryKind::Symlink((*b"c").into()));
        assert!(!builder.is_anchored(&path("a/b/x")));
    }

    #[test]
    fn times_out_of_range_are_clamped() {
        let mut builder = ChangesetBuilder::default();
        for mtime in [-5, i64::MAX] {
            builder.add_entry(path("x"), 0, mtime, EntryKind::Directory);
        }
        let times: Vec<_> = builder.finish().entries.iter().map(|entry| entry.mtime).collect();
        assert_eq!(times, [0, u32::MAX]);
    }
}
