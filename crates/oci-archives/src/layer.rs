//! One layer of an upload: what it must turn out to be, and how to read it.

use std::io::{self, Read};

use image_ref::Digest;
use oci_documents::LayerCompression;
use sha2::{Digest as _, Sha256};
use squashfs_reader::{ReadError, Rules};

use crate::error::ArchiveError;
use crate::members::{Members, Place};
use crate::upload::{Packing, Section, Upload};

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// SHA-256 of the layer as the upload has it.
    pub digest: Digest,
    /// Its bytes there.
    pub size: u64,
    /// SHA-256 of the layer as a tar archive.
    pub diff_id: Digest,
    /// How it is compressed, as far as that was said.
    pub compression: LayerCompression,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// A file of a tar archive.
    Member(Upload, Place),
    /// A range of the upload as it is.
    Raw(Section),
    /// A squashfs; with the bytes of the tar archive made of it.
    Squashfs(Section, u64),
}

impl Layer {
    /// A layer that lies in a tar archive, and whose digests are said there.
    pub(crate) fn of_member(
        members: &Members,
        place: Place,
        digest: Digest,
        diff_id: Digest,
        compression: LayerCompression,
    ) -> Self {
        let source = Source::Member(members.upload().clone(), place);
        Self { digest, size: place.size, diff_id, compression, source }
    }

    /// The upload itself, a tar archive, as a layer. Reads it once or, where it is compressed, twice.
    pub(crate) fn of_tar(upload: &Upload) -> Result<Self, ArchiveError> {
        let section = upload.section(0, u64::MAX);
        let (digest, size) = hash(&mut section.clone()).map_err(ArchiveError::Read)?;
        let (diff_id, compression) = match upload.packing() {
            Packing::None => (digest, LayerCompression::None),
            packing => {
                let mut stream = upload.stream(0)?;
                let (diff_id, _) = hash(&mut stream).map_err(|error| upload.explain(error))?;
                let gzip = packing == Packing::Gzip;
                (diff_id, if gzip { LayerCompression::Gzip } else { LayerCompression::Zstd })
            }
        };
        Ok(Self { digest, size, diff_id, compression, source: Source::Raw(section) })
    }

    /// A squashfs as a layer. Reads it, and the tar archive made of it, once; that has at most `limit` bytes, however
    /// many files share the same blocks.
    pub(crate) fn of_squashfs(section: Section, limit: u64) -> Result<Self, ArchiveError> {
        let (digest, size) = hash(&mut section.clone()).map_err(ArchiveError::Read)?;
        let stream = tar_of(section.clone()).map_err(ArchiveError::Squashfs)?;
        let mut stream = stream.take(limit.saturating_add(1));
        let (diff_id, length) = hash(&mut stream).map_err(squashfs_error)?;
        if length > limit {
            return Err(ArchiveError::expanded(limit));
        }
        let source = Source::Squashfs(section, length);
        Ok(Self { digest, size, diff_id, compression: LayerCompression::None, source })
    }

    pub(crate) fn is_squashfs(&self) -> bool {
        matches!(self.source, Source::Squashfs(..))
    }

    /// SHA-256 and length of what [`Self::open`] gives: those of the layer, but where a tar archive is made of it.
    pub fn stream(&self) -> (Digest, u64) {
        match &self.source {
            Source::Member(..) | Source::Raw(_) => (self.digest, self.size),
            Source::Squashfs(_, length) => (self.diff_id, *length),
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// Where the upload cannot be read, or not any more as it was when it was planned.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        match &self.source {
            Source::Member(upload, place) => {
                let stream = upload.stream(place.offset).map_err(io::Error::other)?;
                Ok(Box::new(stream.take(place.size)))
            }
            Source::Raw(section) => Ok(Box::new(section.clone())),
            Source::Squashfs(section, _) => {
                Ok(Box::new(tar_of(section.clone()).map_err(io::Error::other)?))
            }
        }
    }
}

/// A squashfs as a tar archive.
fn tar_of(section: Section) -> Result<impl Read + Send + 'static, ReadError> {
    squashfs_reader::stream(
        section.into_range().map_err(|source| ReadError::Read { offset: 0, length: 0, source })?,
        &Rules::imported(),
    )
}

fn squashfs_error(error: io::Error) -> ArchiveError {
    match error.downcast::<ReadError>() {
        Ok(error) => ArchiveError::Squashfs(error),
        Err(error) => ArchiveError::Read(error),
    }
}

/// SHA-256 and length of everything that a reader gives.
pub(crate) fn hash(input: &mut dyn Read) -> io::Result<(Digest, u64)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    let mut length = 0;
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok((Digest::from_bytes(hash.finalize().into()), length)),
            Ok(count) => {
                hash.update(buffer.get(..count).unwrap_or_default());
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// SHA-256 of bytes.
pub(crate) fn hash_bytes(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}
