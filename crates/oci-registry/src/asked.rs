//! What was asked of which registry: every error carries it.

use image_ref::{Digest, Version};
use std::fmt;

/// A registry, a repository and what was wanted from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The registry, as the user knows it.
    pub registry: String,
    /// The repository, as the registry knows it.
    pub repository: String,
    /// What was wanted.
    pub wanted: Wanted,
    /// The name that login programs know the registry by: host and port, or `docker.io`.
    pub login: String,
}

/// What was wanted from a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever the tag points at.
    Tag(String),
    /// The manifest or index with this digest.
    Manifest(Digest),
    /// The configuration with this digest.
    Config(Digest),
    /// The layer with this digest.
    Layer(Digest),
}

impl From<&Version> for Wanted {
    fn from(version: &Version) -> Self {
        match version {
            Version::Tag(tag) => Self::Tag(tag.clone()),
            Version::Digest(digest) => Self::Manifest(*digest),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::Manifest(digest) => write!(f, "manifest {digest}"),
            Self::Config(digest) => write!(f, "configuration {digest}"),
            Self::Layer(digest) => write!(f, "layer {digest}"),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of repository {} from {}", self.wanted, self.repository, self.registry)
    }
}
