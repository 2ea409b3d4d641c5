//! How much an image may make the converter do.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a conversion may use, each with a default that real images stay far below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of all layers together, one with long names counted once more for every 256 bytes of them; each costs
    /// up to a kilobyte of memory.
    pub entries: u64,
    /// Bytes of a name or link target with all its components (`PATH_MAX`).
    pub path_bytes: u64,
    /// Bytes of one component of a name (`NAME_MAX`; squashfs has room for one more).
    pub name_bytes: u64,
    /// Directories above an entry.
    pub depth: u64,
    /// Bytes of a symbolic link's target.
    pub symlink_bytes: u64,
    /// Bytes of one PAX header, GNU long name or sparse map.
    pub header_bytes: u64,
    /// Bytes of all layers together once they are decompressed.
    pub expanded_bytes: u64,
    /// Bytes of all files together, holes included.
    pub file_bytes: u64,
    /// How many times larger a layer may become by decompression, once it is past 1 GiB.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            path_bytes: 4096,
            name_bytes: 255,
            depth: 1024,
            symlink_bytes: 4095,
            header_bytes: 1 << 20,
            expanded_bytes: 512 << 30,
            file_bytes: 1 << 40,
            ratio: 200,
        }
    }
}

/// Which limit was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after the field of `Limits` that it speaks of")]
pub enum Limit {
    Entries,
    /// Not in [`Limits`], because no image comes near it.
    ImpliedDirectories,
    PathBytes,
    NameBytes,
    Depth,
    SymlinkBytes,
    HeaderBytes,
    ExpandedBytes,
    FileBytes,
    Ratio,
}

impl Limit {
    /// Its name: that of the field of [`Limits`], if there is one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::ImpliedDirectories => "implied_directories",
            Self::PathBytes => "path_bytes",
            Self::NameBytes => "name_bytes",
            Self::Depth => "depth",
            Self::SymlinkBytes => "symlink_bytes",
            Self::HeaderBytes => "header_bytes",
            Self::ExpandedBytes => "expanded_bytes",
            Self::FileBytes => "file_bytes",
            Self::Ratio => "ratio",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Entries => "entries in all layers",
            Self::ImpliedDirectories => "directories without an entry",
            Self::PathBytes => "bytes in one path",
            Self::NameBytes => "bytes in one name",
            Self::Depth => "levels of directories",
            Self::SymlinkBytes => "bytes in the target of a symbolic link",
            Self::HeaderBytes => "bytes in one extended header",
            Self::ExpandedBytes => "bytes in all decompressed layers",
            Self::FileBytes => "bytes in all files",
            Self::Ratio => "times its compressed size",
        }
    }
}

/// A limit that a layer exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct LimitExceeded {
    /// Which one.
    pub limit: Limit,
    /// The value that the caller allowed.
    pub allowed: u64,
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, allowed } = self;
        write!(f, "more than {allowed} {} (limit `{}`)", limit.what(), limit.name())
    }
}

/// Fails if `value` is more than `allowed`.
pub(crate) fn check(limit: Limit, value: u64, allowed: u64) -> Result<(), LimitExceeded> {
    if value > allowed { Err(LimitExceeded { limit, allowed }) } else { Ok(()) }
}

/// What the layers of one conversion have used of the limits that they share, or one of them of those.
#[derive(Debug)]
pub(crate) struct Usage<'a> {
    pub limits: &'a Limits,
    entries: AtomicU64,
    expanded: AtomicU64,
    files: AtomicU64,
    /// For one layer: what is counted for all of them.
    all: Option<&'a Usage<'a>>,
}

/// What one layer counts against the limits that all layers share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub entries: u64,
    pub file_bytes: u64,
    pub expanded_bytes: u64,
}

impl<'a> Usage<'a> {
    pub(crate) fn new(limits: &'a Limits) -> Self {
        let zero = || AtomicU64::new(0);
        Self { limits, entries: zero(), expanded: zero(), files: zero(), all: None }
    }

    /// What one layer uses, counted here as well.
    pub(crate) fn layer(&'a self) -> Self {
        Self { all: Some(self), ..Self::new(self.limits) }
    }

    /// What was counted so far.
    pub(crate) fn counts(&self) -> Counts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            entries: load(&self.entries),
            file_bytes: load(&self.files),
            expanded_bytes: load(&self.expanded),
        }
    }

    /// Fails if a layer that counts so much would be too much.
    pub(crate) fn check_layer(&self, counts: Counts) -> Result<(), LimitExceeded> {
        let (limits, so_far) = (self.limits, self.counts());
        let sum = |counted: u64, more| counted.saturating_add(more);
        let entries = sum(so_far.entries, counts.entries);
        check(Limit::Entries, entries, limits.entries)?;
        let files = sum(so_far.file_bytes, counts.file_bytes);
        check(Limit::FileBytes, files, limits.file_bytes)?;
        let expanded = sum(so_far.expanded_bytes, counts.expanded_bytes);
        check(Limit::ExpandedBytes, expanded, limits.expanded_bytes)
    }

    /// Counts a layer that is not read again; `false`, and nothing counted, if that would be too much.
    pub(crate) fn add_layer(&self, counts: Counts) -> bool {
        let limits = self.limits;
        let parts = [
            (&self.entries, counts.entries, limits.entries),
            (&self.files, counts.file_bytes, limits.file_bytes),
            (&self.expanded, counts.expanded_bytes, limits.expanded_bytes),
        ];
        for (place, (counter, more, allowed)) in parts.into_iter().enumerate() {
            let within = |old: u64| old.checked_add(more).filter(|sum| *sum <= allowed);
            if counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_err() {
                // What was counted is taken back: the layer is going to be read, and counted then.
                for (counter, counted, _) in parts.into_iter().take(place) {
                    counter.fetch_sub(counted, Ordering::Relaxed);
                }
                return false;
            }
        }
        true
    }

    /// Counts one entry whose name and link target have so many bytes.
    pub(crate) fn add_entry(&self, name_bytes: usize) -> Result<(), LimitExceeded> {
        let weight = 1 + name_bytes as u64 / LONG_NAME;
        let entries = self.count(|usage| &usage.entries, weight);
        check(Limit::Entries, entries, self.limits.entries)
    }

    /// Counts bytes of a file that was announced.
    pub(crate) fn add_file(&self, bytes: u64) -> Result<(), LimitExceeded> {
        let files = self.count(|usage| &usage.files, bytes);
        check(Limit::FileBytes, files, self.limits.file_bytes)
    }

    /// Counts decompressed bytes of a layer that so far took `compressed` bytes and gave `expanded`.
    pub(crate) fn add_expanded(
        &self,
        bytes: u64,
        compressed: u64,
        expanded: u64,
    ) -> Result<(), LimitExceeded> {
        let limits = self.limits;
        let sum = self.count(|usage| &usage.expanded, bytes);
        check(Limit::ExpandedBytes, sum, limits.expanded_bytes)?;
        if expanded > RATIO_FLOOR && expanded / compressed.max(1) >= limits.ratio {
            return Err(LimitExceeded { limit: Limit::Ratio, allowed: limits.ratio });
        }
        Ok(())
    }

    /// Adds to a counter here and where all layers are counted; returns the larger sum.
    fn count(&self, counter: impl Fn(&Self) -> &AtomicU64, more: u64) -> u64 {
        let own = add(counter(self), more);
        self.all.map_or(own, |all| add(counter(all), more))
    }
}

/// Adds without wrapping around; returns the sum.
fn add(counter: &AtomicU64, more: u64) -> u64 {
    let sum = |old: u64| Some(old.saturating_add(more));
    match counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum) {
        Ok(old) | Err(old) => old.saturating_add(more),
    }
}

/// Names up to this length are what an entry is expected to have.
const LONG_NAME: u64 = 256;
/// Below this a layer may expand as it likes: a page of zeros is no attack.
const RATIO_FLOOR: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_would_wrap_around_are_over_the_limit() {
        let limits = Limits::default();
        let usage = Usage::new(&limits);
        usage.add_file(5).unwrap();
        let error = usage.add_file(u64::MAX - 2).unwrap_err();
        assert_eq!(error.limit, Limit::FileBytes);
        assert!(usage.add_file(0).is_err(), "the sum stays over the limit");
    }

    #[test]
    fn a_layer_that_would_be_too_much_is_not_counted_at_all() {
        let limits =
            Limits { entries: 10, file_bytes: 20, expanded_bytes: 30, ..Limits::default() };
        let usage = Usage::new(&limits);
        let counts =
            |entries, file_bytes, expanded_bytes| Counts { entries, file_bytes, expanded_bytes };
        assert!(usage.add_layer(counts(4, 4, 4)));
        for more in [counts(7, 1, 1), counts(1, 17, 1), counts(1, 1, 27), counts(1, 1, u64::MAX)] {
            assert!(!usage.add_layer(more), "{more:?}");
            assert_eq!(usage.counts(), counts(4, 4, 4), "{more:?}");
        }
        assert!(usage.add_layer(counts(6, 16, 26)));
    }

    #[test]
    fn a_ratio_counts_only_past_the_floor() {
        let limits = Limits::default();
        let usage = Usage::new(&limits);
        usage.add_expanded(1 << 20, 1, 1 << 20).unwrap();
        assert_eq!(usage.add_expanded(1, 1 << 20, 2 << 30).unwrap_err().limit, Limit::Ratio);
        usage.add_expanded(1, 1 << 30, 2 << 30).unwrap();
    }

    #[test]
    fn the_message_names_limit_and_value() {
        let error = check(Limit::Depth, 1025, 1024).unwrap_err();
        assert_eq!(error.to_string(), "more than 1024 levels of directories (limit `depth`)");
    }
}
