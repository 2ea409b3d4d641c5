//! The messages, and how many descriptors go with each.

use std::collections::BTreeMap;
use std::error::Error;
use std::num::NonZeroU16;

use image_ref::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A message of one direction, which knows how many descriptors it comes with.
pub trait Message: Serialize + DeserializeOwned {
    /// Exactly so many descriptors belong to it.
    fn descriptors(&self) -> usize;
}

/// The first message, from the gateway: what this converter is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Write the image of some layers. Descriptors: the empty file to write, then the images whose blocks may be reused.
    Convert(Convert),
    /// Write the image of an uploaded file. Descriptors: the empty file to write, then the upload.
    Import(Import),
    /// Look an image over before it is published. Descriptor: the image, to be read.
    Examine,
}

impl Message for Request {
    fn descriptors(&self) -> usize {
        match self {
            Self::Convert(convert) => convert.sources.saturating_add(1),
            Self::Import(_) => 2,
            Self::Examine => 1,
        }
    }
}

/// A conversion of layers that the gateway downloads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convert {
    /// What the gateway decides about it.
    pub options: Options,
    /// The layers, the lowest first.
    pub layers: Vec<LayerSpec>,
    /// How many images come with this whose blocks may be reused; at most [`MAX_SOURCES`].
    pub sources: usize,
}

/// A conversion of one uploaded file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// What the gateway decides about it.
    pub options: Options,
    /// The platform that is wanted, such as `linux/amd64`.
    pub platform: String,
    /// Which image of the file, by the name that it has there, where there are several.
    pub image: Option<String>,
}

/// What the gateway decides about a conversion; the converter knows the rest of its options itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The compressor and its level, such as `zstd:2`.
    pub compressor: String,
    /// Bytes of file data in one block: a power of two between 4096 and 1048576.
    pub block_size: u32,
    /// The most entries that all layers may have together.
    pub entries: u64,
    /// The most bytes that all layers may have once decompressed.
    pub expanded_bytes: u64,
    /// The most bytes that all files may have together, holes included.
    pub file_bytes: u64,
    /// How many times larger a layer may become by decompression, once it is past 1 GiB.
    pub ratio: u64,
    /// Threads that compress; as many as there are processors where it is not said.
    pub workers: Option<NonZeroU16>,
}

/// One layer of an image at a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSpec {
    /// SHA-256 of the blob.
    pub digest: Digest,
    /// SHA-256 of the decompressed layer.
    pub diff_id: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// What its media type says.
    pub compression: Compression,
}

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Not at all.
    None,
    /// Gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// A later message from the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The download of a layer has begun. Descriptor: a pipe to read the blob from.
    Layer {
        /// The layer that [`Reply::Open`] asked for.
        layer: usize,
    },
    /// The planned import is to be made. Descriptors: the images whose blocks may be reused.
    Go {
        /// How many there are; at most [`MAX_SOURCES`].
        sources: usize,
    },
}

impl Message for Answer {
    fn descriptors(&self) -> usize {
        match self {
            Self::Layer { .. } => 1,
            Self::Go { sources } => *sources,
        }
    }
}

/// A message from the converter; none has descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Asks for a layer's blob; at most once for each layer.
    Open {
        /// Its place among the layers.
        layer: usize,
    },
    /// So much of a layer's blob has been read.
    Taken {
        /// Its place among the layers.
        layer: usize,
        /// Bytes of the blob.
        bytes: u64,
    },
    /// A layer is done and its digests are right.
    LayerDone {
        /// Its place among the layers.
        layer: usize,
        /// Whether nothing had to be read because an earlier image has it.
        reused: bool,
    },
    /// The image has so many bytes so far.
    Written {
        /// Bytes of the file.
        bytes: u64,
    },
    /// What the uploaded file holds; the converter waits for [`Answer::Go`].
    Planned(Plan),
    /// The image is written: the last word of a conversion or import.
    Converted(Converted),
    /// Nothing is wrong with the image: the last word of an examination.
    Examined,
    /// The last word where it did not work out.
    Failed(Failure),
}

impl Message for Reply {
    fn descriptors(&self) -> usize {
        0
    }
}

/// What an uploaded file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The identity of the image.
    pub digest: Digest,
    /// What kind of file it is, in words for people.
    pub format: String,
    /// The environment, `NAME=value` each.
    pub env: Vec<String>,
    /// What is run before the command.
    pub entrypoint: Vec<String>,
    /// The command.
    pub cmd: Vec<String>,
    /// The working directory.
    pub workdir: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made, as it says itself.
    pub created: Option<String>,
    /// The platform that it is for.
    pub platform: String,
    /// The layers, the lowest first.
    pub layers: Vec<PlannedLayer>,
}

/// One layer of an uploaded file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedLayer {
    /// SHA-256 of the blob.
    pub digest: Digest,
    /// SHA-256 of the decompressed layer.
    pub diff_id: Digest,
    /// Bytes of the blob.
    pub size: u64,
}

/// What was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Converted {
    /// The options on which the image's bytes depend, beside its layers.
    pub made_by: String,
    /// Names in the image, the root not counted.
    pub entries: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Regular files.
    pub files: u64,
    /// Directories, the root not counted.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Names beyond the first of a file or symbolic link.
    pub hard_links: u64,
    /// Devices that were left out.
    pub devices: u64,
    /// Named pipes that were left out.
    pub fifos: u64,
    /// Layers that came from an earlier image.
    pub reused_layers: u64,
    /// Bytes of the file that came from earlier images.
    pub reused_bytes: u64,
}

/// Why it did not work out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// The sentences, the outermost first.
    pub chain: Vec<String>,
}

impl Failure {
    /// Takes down an error and all that caused it, cut to what a message can carry.
    pub fn new(kind: FailureKind, error: &dyn Error) -> Self {
        let mut chain = Vec::new();
        let mut next = Some(error);
        while let Some(error) = next
            && chain.len() < CHAIN_LIMIT
        {
            let mut text = error.to_string();
            let end =
                (0..=SENTENCE_LIMIT.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
            chain.push(text);
            next = error.source();
        }
        Self { kind, chain }
    }
}

/// What kind of failure it is: whose fault, and what the gateway makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The image needs more than the site allows.
    Limit,
    /// Some bytes are not those that a digest names.
    Mismatch,
    /// What the gateway handed over could not be read.
    Source,
    /// There is no image for the platform.
    Platform,
    /// The image is malformed.
    Invalid,
    /// There is no room to write.
    Full,
    /// Writing failed otherwise.
    Write,
    /// A defect of Gantry or of the machine.
    Internal,
}

/// The most images that are offered for reuse at once. The kernel passes at most 253 descriptors in one message.
pub const MAX_SOURCES: usize = 63;

/// With escaping, sentences of a failure stay well below the limit of a message.
const SENTENCE_LIMIT: usize = 1500;
const CHAIN_LIMIT: usize = 16;
