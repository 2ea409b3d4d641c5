//! Names inside a layer, cut into components at the edge.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::limits::{Limit, LimitExceeded, Limits, check};

/// A path from the root of the image: components without `.`, `..` or empty ones, joined by `/`; empty for the root.
///
/// Absolute names are taken from the root, and `..` removes the component before it, or nothing at the root. So a
/// name such as `../../etc/passwd` means `etc/passwd` of the image, and none can mean anything outside it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LayerPath(Arc<[u8]>);

impl LayerPath {
    /// Parses a name as it stands in a tar header.
    pub(crate) fn parse(raw: &[u8], limits: &Limits) -> Result<Self, LimitExceeded> {
        check(Limit::PathBytes, raw.len() as u64, limits.path_bytes)?;
        let mut components: Vec<&[u8]> = Vec::new();
        for component in raw.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    components.pop();
                }
                name => {
                    check(Limit::NameBytes, name.len() as u64, limits.name_bytes)?;
                    components.push(name);
                }
            }
        }
        check(Limit::Depth, components.len() as u64, limits.depth)?;
        Ok(Self(components.join(&b'/').into()))
    }

    /// Takes a path as [`as_bytes`](Self::as_bytes) gave it; `None` where it is none, or over a limit.
    pub(crate) fn from_stored(bytes: &[u8], limits: &Limits) -> Option<Self> {
        let mut depth = 0;
        for name in bytes.split(|byte| *byte == b'/') {
            depth += 1;
            let empty = name.is_empty() && !bytes.is_empty();
            if empty || matches!(name, b"." | b"..") || name.len() as u64 > limits.name_bytes {
                return None;
            }
        }
        let fits = depth <= limits.depth.max(1) && bytes.len() as u64 <= limits.path_bytes;
        fits.then(|| Self(bytes.into()))
    }

    /// The components joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same bytes as [`as_bytes`](Self::as_bytes), not copied.
    pub(crate) fn shared(&self) -> Arc<[u8]> {
        Arc::clone(&self.0)
    }

    /// The components from the root on.
    pub(crate) fn components(&self) -> impl Iterator<Item = &[u8]> {
        components(&self.0)
    }

    /// The path of the directory and the last component; `None` for the root.
    pub(crate) fn split_last(&self) -> Option<(Self, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        let (parent, name) = split_name(&self.0);
        Some((Self(parent.into()), name))
    }

    /// The last component; empty for the root.
    pub(crate) fn name(&self) -> &[u8] {
        split_name(&self.0).1
    }

    /// The same directory's entry `name`.
    pub(crate) fn child(&self, name: &[u8]) -> Self {
        let separator: &[u8] = if self.0.is_empty() { b"" } else { b"/" };
        Self([&self.0, separator, name].concat().into())
    }

    /// The paths of all directories above, the root (empty) first.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &[u8]> {
        ancestors(&self.0)
    }
}

/// The components of a path from the root on.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

/// The paths of all directories above `path`, the root (empty) first; none for the root itself.
pub(crate) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let root = (!path.is_empty()).then_some(&path[..0]);
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    root.into_iter().chain(slashes.filter_map(|(at, _)| path.get(..at)))
}

/// The path of the directory that `path` is in; `None` for the root.
pub(crate) fn parent(path: &[u8]) -> Option<&[u8]> {
    (!path.is_empty()).then(|| split_name(path).0)
}

fn split_name(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}

impl Borrow<[u8]> for LayerPath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &[u8]) -> Result<LayerPath, LimitExceeded> {
        LayerPath::parse(raw, &Limits::default())
    }

    #[test]
    fn no_name_leads_out_of_the_root() {
        for (raw, path) in [
            ("../../etc/passwd", "/etc/passwd"),
            ("/etc/passwd", "/etc/passwd"),
            ("a/../../b", "/b"),
            ("./", "/"),
            ("a//./b/", "/a/b"),
            ("..", "/"),
            ("a/b/..", "/a"),
            ("...", "/..."),
            ("foo..bar", "/foo..bar"),
        ] {
            assert_eq!(parse(raw.as_bytes()).unwrap().to_string(), path, "{raw}");
        }
    }

    #[test]
    fn long_names_deep_paths_and_long_paths_name_their_limit() {
        assert!(parse(&[b'x'; 255]).is_ok());
        assert_eq!(parse(&[b'x'; 256]).unwrap_err().limit, Limit::NameBytes);
        assert!(parse(&b"d/".repeat(1024)).is_ok());
        assert_eq!(parse(&b"d/".repeat(1025)).unwrap_err().limit, Limit::Depth);
        assert_eq!(parse(&b"d/".repeat(5000)).unwrap_err().limit, Limit::PathBytes);
    }

    #[test]
    fn only_what_a_path_can_be_is_taken_back() {
        let limits = Limits::default();
        for good in ["", "a", "usr/lib/x", "..."] {
            let stored = LayerPath::from_stored(good.as_bytes(), &limits).unwrap();
            assert_eq!(Ok(stored), parse(good.as_bytes()));
        }
        for bad in ["/", "a/", "/a", "a//b", ".", "a/../b", &"x".repeat(256), &"d/".repeat(1025)] {
            assert_eq!(LayerPath::from_stored(bad.as_bytes(), &limits), None, "{bad}");
        }
    }

    #[test]
    fn ancestors_start_at_the_root() {
        let path = parse(b"usr/lib/x").unwrap();
        let all: Vec<_> = path.ancestors().collect();
        assert_eq!(all, [&b""[..], b"usr", b"usr/lib"]);
        assert_eq!(LayerPath::default().ancestors().count(), 0);
        assert_eq!(path.split_last().unwrap().1, b"x");
        assert_eq!(path.child(b"y").as_bytes(), b"usr/lib/x/y");
    }
}
