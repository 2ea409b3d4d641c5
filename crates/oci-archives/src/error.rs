//! Why an upload cannot be imported.

use std::io;

use image_ref::{Digest, Platform};
use oci_documents::{Flaw, Unchosen};
use squashfs_reader::ReadError;

/// Why an upload cannot be imported; names are those of members of the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The upload itself could not be read.
    #[error("the uploaded file cannot be read")]
    Read(#[source] io::Error),
    /// It is a kind of file that is known and cannot be imported.
    #[error("the file is {0}")]
    Foreign(&'static str),
    /// It is nothing known.
    #[error(
        "the file is no image that is known: neither an archive of docker save, an OCI layout, a tar archive of a \
         root file system, a squashfs nor a SIF"
    )]
    Unknown,
    /// It is a tar archive up to some point.
    #[error("its tar archive is malformed at byte {at}: {problem}")]
    Tar {
        /// Where, in the decompressed archive.
        at: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// It cannot be decompressed.
    #[error("it cannot be decompressed as {packing}")]
    Unpack {
        /// `gzip` or `zstd`.
        packing: &'static str,
        /// What the decompressor says.
        #[source]
        source: io::Error,
    },
    /// A document in it cannot be used.
    #[error("its {name} cannot be used: {reason}")]
    Document {
        /// Which.
        name: String,
        /// Why not.
        reason: String,
    },
    /// It is larger or has more parts than is allowed.
    #[error("it is over a limit: {0}")]
    Limit(String),
    /// A member is not there.
    #[error("it lacks {name}, which it says it has")]
    Missing {
        /// Which.
        name: String,
    },
    /// A member that matters is there twice: two readers may take different ones.
    #[error("it has {name} twice")]
    Twice {
        /// Which.
        name: String,
    },
    /// A member that should be a file is something else, or a link that leads nowhere.
    #[error("its {name} is {what}")]
    NoFile {
        /// Which.
        name: String,
        /// What it is.
        what: &'static str,
    },
    /// A blob is not what its digest says.
    #[error("its {name} has the digest {found} instead of {expected}")]
    Digest {
        /// Which.
        name: String,
        /// What it should have.
        expected: Digest,
        /// What it has.
        found: Digest,
    },
    /// A blob is not as long as its descriptor says.
    #[error("its {name} has {found} bytes instead of {expected}")]
    Size {
        /// Which.
        name: String,
        /// What it should have.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// There are several images, or the one that was asked for is not among them.
    #[error("{}", several(wanted.as_deref(), images))]
    Choose {
        /// Which was asked for.
        wanted: Option<String>,
        /// Those that there are, by their names.
        images: Vec<String>,
    },
    /// There is no image for the platform.
    #[error("it has no image for {wanted}; it has {}", offers(offered))]
    NoPlatform {
        /// What was wanted.
        wanted: Platform,
        /// What there is.
        offered: Vec<Platform>,
    },
    /// It holds no files at all.
    #[error("it holds no files")]
    Empty,
    /// A squashfs in it cannot be read.
    #[error("its squashfs cannot be read")]
    Squashfs(#[source] ReadError),
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The image needs more than is allowed.
    Limit,
    /// Bytes are not those that a digest names.
    Mismatch,
    /// The upload could not be read.
    Source,
    /// It is for other platforms.
    Platform,
    /// The file is malformed or unsuitable.
    Invalid,
}

impl ArchiveError {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Limit(_) | Self::Squashfs(ReadError::Limit { .. }) => ErrorKind::Limit,
            Self::Digest { .. } | Self::Size { .. } => ErrorKind::Mismatch,
            Self::Read(_) | Self::Squashfs(ReadError::Read { .. }) => ErrorKind::Source,
            Self::NoPlatform { .. } => ErrorKind::Platform,
            _ => ErrorKind::Invalid,
        }
    }

    /// More bytes than `limit` come out of it.
    pub(crate) fn expanded(limit: u64) -> Self {
        Self::Limit(format!("it has more than {limit} bytes decompressed"))
    }

    /// What is wrong with the document of that name.
    pub(crate) fn document(name: &str, flaw: Flaw) -> Self {
        match flaw {
            Flaw::Invalid(reason) => Self::Document { name: name.to_owned(), reason },
            Flaw::Limit(reason) => Self::Limit(format!("{name}: {reason}")),
        }
    }

    /// Why no manifest was chosen from the index of that name.
    pub(crate) fn unchosen(name: &str, unchosen: Unchosen, wanted: &Platform) -> Self {
        match unchosen {
            Unchosen::Flaw(flaw) => Self::document(name, flaw),
            Unchosen::NoPlatform(offered) => Self::NoPlatform { wanted: wanted.clone(), offered },
        }
    }
}

fn several(wanted: Option<&str>, images: &[String]) -> String {
    let shown: Vec<&str> = images.iter().take(SHOWN).map(String::as_str).collect();
    let more = if images.len() > SHOWN { " and more" } else { "" };
    let list = format!("{}{more}", shown.join(", "));
    match wanted {
        Some(wanted) => {
            format!("it has no image called `{}`; it has {list}", wanted.escape_debug())
        }
        None if images.is_empty() => "it holds no image".to_owned(),
        None => {
            format!("it holds {} images, and one can be imported at a time: {list}", images.len())
        }
    }
}

fn offers(offered: &[Platform]) -> String {
    if offered.is_empty() {
        return "none that names its platform".to_owned();
    }
    offered.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A name of the archive, as much of it as fits into a sentence, on its line.
pub(crate) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

/// More names than this help nobody to choose.
const SHOWN: usize = 12;
