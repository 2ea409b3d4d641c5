//! References as people write them: `docker:ubuntu:22.04`, `docker:host:5000/a/b:t`, `id:<digest>`.

use crate::{Digest, DigestError};
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

/// The longest reference that is accepted, in bytes.
pub const REFERENCE_LIMIT: usize = 512;

/// A reference to an image: its kind, its name and which version of it.
///
/// The text is `[kind:]name[:tag][@digest]`. Without a kind it is `docker`; without tag and digest the tag is
/// `latest`; with both, the digest decides, as for docker. The first part of the name is a registry where it has
/// a dot or a port or is `localhost` (the rule of docker's own grammar); otherwise the site's configuration says
/// which registry is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    kind: Kind,
    /// Registry and repository as written; empty for [`Kind::Id`].
    name: String,
    version: Version,
}

/// Where an image comes from; Shifter calls it the image type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Pulled from a registry.
    Docker,
    /// Imported from a file.
    Custom,
    /// Named by its digest alone.
    Id,
}

impl Kind {
    /// The word in front of the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Custom => "custom",
            Self::Id => "id",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which version of a repository is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Whatever the tag points at when it is asked for.
    Tag(String),
    /// This very manifest or index.
    Digest(Digest),
}

impl ImageRef {
    /// What kind of image it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Registry and repository as written, such as `localhost:5000/org/app` or `ubuntu`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registry, where the reference itself names one: `host` or `host:port`.
    pub fn registry(&self) -> Option<&str> {
        match self.name.split_once('/') {
            Some((first, _)) if is_registry(first) => Some(first),
            _ => None,
        }
    }

    /// The repository within the registry.
    pub fn repository(&self) -> &str {
        match self.name.split_once('/') {
            Some((first, rest)) if is_registry(first) => rest,
            _ => &self.name,
        }
    }

    /// Tag or digest.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Everything behind the kind: what Shifter calls the tag and puts into its routes, such as `ubuntu:22.04`.
    pub fn tag_text(&self) -> String {
        match (&self.version, self.kind) {
            (Version::Digest(digest), Kind::Id) => digest.hex().to_string(),
            (Version::Digest(digest), _) => format!("{}@{digest}", self.name),
            (Version::Tag(tag), _) => format!("{}:{tag}", self.name),
        }
    }

    /// The reference to the image with this digest.
    pub fn from_digest(digest: Digest) -> Self {
        Self { kind: Kind::Id, name: String::new(), version: Version::Digest(digest) }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.tag_text())
    }
}

impl FromStr for ImageRef {
    type Err = RefError;

    fn from_str(text: &str) -> Result<Self, RefError> {
        if text.len() > REFERENCE_LIMIT {
            return Err(RefError::TooLong);
        }
        let (kind, rest) = split_kind(text)?;
        if rest.is_empty() {
            return Err(RefError::Empty);
        }
        if kind == Kind::Id {
            let hex = rest.strip_prefix("sha256:").unwrap_or(rest);
            return Digest::from_hex(hex).map(Self::from_digest).map_err(RefError::Digest);
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse().map_err(RefError::Digest)?)),
            None => (rest, None),
        };
        let (name, tag) = split_tag(rest);
        check_name(name)?;
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let version = match digest {
            Some(digest) => Version::Digest(digest),
            None => Version::Tag(tag.unwrap_or("latest").to_string()),
        };
        let reference = Self { kind, name: name.to_string(), version };
        // Kind and tag are written out later: what one program accepts, the next one must accept too.
        if reference.to_string().len() > REFERENCE_LIMIT {
            return Err(RefError::TooLong);
        }
        Ok(reference)
    }
}

/// Takes the kind off the front; a text without one is a `docker` reference.
fn split_kind(text: &str) -> Result<(Kind, &str), RefError> {
    if let Some(rest) = text.strip_prefix("docker://") {
        return Ok((Kind::Docker, rest));
    }
    match text.split_once(':') {
        Some(("docker", rest)) => Ok((Kind::Docker, rest)),
        Some(("custom", rest)) => Ok((Kind::Custom, rest)),
        Some(("id", rest)) => Ok((Kind::Id, rest)),
        Some(("local", _)) => Err(RefError::Local),
        _ => Ok((Kind::Docker, text)),
    }
}

/// Splits at the colon of the tag, which is one behind the last slash: others belong to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    let name_start = text.rfind('/').map_or(0, |slash| slash + 1);
    match text.get(name_start..).and_then(|last| last.find(':')) {
        Some(colon) => {
            let (name, tag) = text.split_at(name_start + colon);
            (name, tag.get(1..))
        }
        None => (text, None),
    }
}

fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

fn check_name(name: &str) -> Result<(), RefError> {
    let repository = match name.split_once('/') {
        Some((first, rest)) if is_registry(first) => {
            check_registry(first)?;
            rest
        }
        _ => name,
    };
    repository.split('/').try_for_each(check_component)
}

/// `host` or `host:port`, the host in the letters of DNS.
fn check_registry(registry: &str) -> Result<(), RefError> {
    let bad = || RefError::Registry(registry.to_string());
    let (host, port) = match registry.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (registry, None),
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(bad());
    }
    match port {
        Some(port) if !port.bytes().all(|b| b.is_ascii_digit()) => Err(bad()),
        Some(port) => match port.parse::<u16>() {
            Ok(1..) => Ok(()),
            _ => Err(bad()),
        },
        None => Ok(()),
    }
}

/// Letters and digits, with `.`, `_`, `__` or dashes between them (OCI distribution specification, "Pulling
/// manifests").
fn check_component(component: &str) -> Result<(), RefError> {
    if component.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(RefError::UpperCase(component.to_string()));
    }
    let alphanumeric =
        |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = component.as_bytes();
    let separated = component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'));
    if alphanumeric(bytes.first().copied()) && alphanumeric(bytes.last().copied()) && separated {
        Ok(())
    } else {
        Err(RefError::Name(component.to_string()))
    }
}

fn check_tag(tag: &str) -> Result<(), RefError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fits = tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if fits { Ok(()) } else { Err(RefError::Tag(tag.to_string())) }
}

/// Why a text is not a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefError {
    /// Nothing stands behind the kind.
    Empty,
    /// The text is longer than [`REFERENCE_LIMIT`].
    TooLong,
    /// Shifter's `local:` images are directories of the host; Gantry has none.
    Local,
    /// The part before the first slash is not `host` or `host:port`.
    Registry(String),
    /// A part of the repository has capital letters.
    UpperCase(String),
    /// A part of the repository has a character where it may not be.
    Name(String),
    /// The tag is empty, too long, or has a character that tags cannot have.
    Tag(String),
    /// The digest is malformed.
    Digest(DigestError),
}

impl fmt::Display for RefError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the image has no name"),
            Self::TooLong => write!(f, "the reference is longer than {REFERENCE_LIMIT} bytes"),
            Self::Local => f.write_str("images of type `local` are not supported"),
            Self::Registry(text) => {
                write!(f, "`{}` is not a registry (host or host:port)", text.escape_debug())
            }
            Self::UpperCase(text) => {
                write!(
                    f,
                    "`{}` has capital letters, which repository names cannot have",
                    text.escape_debug()
                )
            }
            Self::Name(text) => {
                write!(f, "`{}` is not part of a repository name", text.escape_debug())
            }
            Self::Tag(text) => write!(f, "`{}` is not a tag", text.escape_debug()),
            Self::Digest(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for RefError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "3a1c0f6e9d8b7a6543210fedcba98765432100112233445566778899aabbccdd";

    #[test]
    fn references_are_read_as_people_write_them() {
        for (text, kind, registry, repository, tag_text) in [
            ("ubuntu", Kind::Docker, None, "ubuntu", "ubuntu:latest"),
            ("docker:ubuntu", Kind::Docker, None, "ubuntu", "ubuntu:latest"),
            ("docker://ubuntu:22.04", Kind::Docker, None, "ubuntu", "ubuntu:22.04"),
            (
                "docker:ngwilson/eb-wrf:v2",
                Kind::Docker,
                None,
                "ngwilson/eb-wrf",
                "ngwilson/eb-wrf:v2",
            ),
            ("docker:host:5000/a/b:t", Kind::Docker, Some("host:5000"), "a/b", "host:5000/a/b:t"),
            ("host:5000/a", Kind::Docker, Some("host:5000"), "a", "host:5000/a:latest"),
            ("localhost/a:1", Kind::Docker, Some("localhost"), "a", "localhost/a:1"),
            (
                "quay.io/biocontainers/x__y:1.0--h1_2",
                Kind::Docker,
                Some("quay.io"),
                "biocontainers/x__y",
                "quay.io/biocontainers/x__y:1.0--h1_2",
            ),
            ("custom:mine:1", Kind::Custom, None, "mine", "mine:1"),
        ] {
            let reference: ImageRef = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.kind(), kind, "{text}");
            assert_eq!(reference.registry(), registry, "{text}");
            assert_eq!(reference.repository(), repository, "{text}");
            assert_eq!(reference.tag_text(), tag_text, "{text}");
        }
    }

    #[test]
    fn a_digest_decides_over_a_tag() {
        let digest: Digest = format!("sha256:{HEX}").parse().unwrap();
        for text in [format!("a/b@sha256:{HEX}"), format!("docker:a/b:v1@sha256:{HEX}")] {
            let reference: ImageRef = text.parse().unwrap();
            assert_eq!(reference.version(), &Version::Digest(digest));
            assert_eq!(reference.tag_text(), format!("a/b@sha256:{HEX}"));
        }
        let id: ImageRef = format!("id:{HEX}").parse().unwrap();
        assert_eq!((id.kind(), id.tag_text()), (Kind::Id, HEX.to_string()));
    }

    #[test]
    fn what_is_not_a_reference_is_refused_with_the_reason() {
        use RefError as E;
        for (text, error) in [
            ("", E::Empty),
            ("docker:", E::Empty),
            ("local:/", E::Local),
            ("docker:Org/app", E::UpperCase("Org".into())),
            ("docker:a//b", E::Name("".into())),
            ("docker:a/../b", E::Name("..".into())),
            ("docker:a b", E::Name("a b".into())),
            ("docker:a/b:", E::Tag("".into())),
            ("docker:a/b:-x", E::Tag("-x".into())),
            ("docker:a/b:x y", E::Tag("x y".into())),
            ("docker:a%2fb", E::Name("a%2fb".into())),
            ("docker:user@host.org/a", E::Digest(DigestError::NoAlgorithm)),
            ("docker:[::1]:5000/a", E::Registry("[::1]:5000".into())),
            ("docker:host:0/a", E::Registry("host:0".into())),
            ("docker:host:99999/a", E::Registry("host:99999".into())),
            ("docker:-x.org/a", E::Registry("-x.org".into())),
            ("docker:ünï.org/a", E::Registry("ünï.org".into())),
            ("docker:a\n", E::Name("a\n".into())),
        ] {
            assert_eq!(text.parse::<ImageRef>(), Err(error), "{text:?}");
        }
        assert_eq!("a".repeat(513).parse::<ImageRef>(), Err(E::TooLong));
        assert_eq!("a".repeat(512).parse::<ImageRef>(), Err(E::TooLong), "`:latest` is added");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
            let _ = text.parse::<ImageRef>();
        }

        #[test]
        fn a_reference_survives_being_written_and_read(text in "(docker:)?([a-z]{1,3}\\.[a-z]{2}(:[1-9][0-9]{0,3})?/)?[a-z0-9]{1,5}(/[a-z0-9]{1,5}){0,2}(:[A-Za-z0-9_.]{1,5})?") {
            if let Ok(reference) = text.parse::<ImageRef>() {
                prop_assert_eq!(reference.to_string().parse::<ImageRef>(), Ok(reference));
            }
        }
    }
}
