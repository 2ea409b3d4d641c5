//! Images in files: what an upload holds, and its layers as ranges of it.
//!
//! [`plan`] recognises an upload by its bytes, never by a name: an archive of `docker save`, an OCI layout as a tar
//! archive, the tar archive of a root file system, a squashfs, a SIF. Names in it are compared and never looked up in a
//! file system; nothing is unpacked and nothing is written. Digests of documents are checked here, those of layers by
//! whoever reads them, against what the plan says.
#![forbid(unsafe_code)]

mod canonical;
mod docker;
mod error;
mod layer;
mod layout;
mod members;
mod rootfs;
mod sif;
mod upload;

use std::fmt;
use std::fs::File;

use image_ref::{Digest, Platform};
use oci_documents::ImageConfig;

pub use error::{ArchiveError, ErrorKind};
pub use layer::Layer;
use members::Members;
pub use oci_documents::LayerCompression;
use upload::Upload;

/// An image in an upload.
#[derive(Debug)]
pub struct Planned {
    /// What the image is known by from here on: the digest of its manifest, which for all but OCI layouts is one that
    /// is made here, the same for the same content.
    pub digest: Digest,
    /// What kind of file it is.
    pub format: Format,
    /// What its configuration says.
    pub config: ImageConfig,
    /// The layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// The kinds of files that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What `docker save` wrote before it wrote OCI layouts, and `skopeo copy` to `docker-archive:` writes.
    DockerArchive,
    /// OCI image layout specification; as a tar archive.
    OciLayout,
    /// A root file system as one tar archive.
    RootFs,
    /// A root file system as one squashfs.
    Squashfs,
    /// Singularity's and Apptainer's image format, with a squashfs inside.
    Sif,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DockerArchive => "docker-archive",
            Self::OciLayout => "oci-layout",
            Self::RootFs => "rootfs-tar",
            Self::Squashfs => "squashfs",
            Self::Sif => "sif",
        })
    }
}

/// What is wanted from an upload, and how much it may make the reader do.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The platform that the image is to run on.
    pub platform: Platform,
    /// Which image, by the name that the archive gives it, where there are several.
    pub image: Option<String>,
    /// The most bytes that a compressed archive may have once it is decompressed.
    pub expanded_bytes: u64,
}

/// Finds out what an upload holds.
///
/// Reads documents and headers; of layers that nothing in the upload says the digest of, everything.
///
/// # Errors
/// [`ArchiveError`], where it is none of the known kinds, malformed, hostile, or holds no image for the platform.
pub fn plan(upload: File, wanted: &Wanted) -> Result<Planned, ArchiveError> {
    let upload = Upload::open(upload, wanted.expanded_bytes)?;
    if upload.starts_with(0, SQUASHFS)? {
        return rootfs::plan_squashfs(&upload, &wanted.platform);
    }
    if upload.starts_with(sif::MAGIC_OFFSET, sif::MAGIC)? {
        return sif::plan(&upload, &wanted.platform);
    }
    if let Some(what) = upload.foreign()? {
        return Err(ArchiveError::Foreign(what));
    }
    let members = Members::read(&upload)?;
    if members.holds(layout::MARKER) && members.holds(layout::INDEX) {
        layout::plan(&members, wanted)
    } else if members.holds(docker::MANIFEST) {
        docker::plan(&members, wanted)
    } else {
        rootfs::plan_tar(&upload, &members, &wanted.platform)
    }
}

/// The first bytes of a squashfs in the byte order of today.
pub(crate) const SQUASHFS: &[u8] = b"hsqs";

#[cfg(test)]
mod tests;
