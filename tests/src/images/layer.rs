//! One layer: a tar archive, packed, with its two digests.

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A packed layer in a file.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Where the packed bytes lie.
    pub path: PathBuf,
    /// How they are packed.
    pub packing: Packing,
    /// `sha256:<hex>` of the packed bytes.
    pub digest: String,
    /// `sha256:<hex>` of the archive.
    pub diff_id: String,
    /// How many packed bytes there are.
    pub size: u64,
}

/// How a layer's archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Layer {
    /// Packs an archive into a file of its own in `directory`.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn pack(directory: &Path, archive: &[u8], packing: Packing) -> Result<Self> {
        let packed = match packing {
            Packing::Plain => archive.to_vec(),
            Packing::Gzip => {
                let mut gzip =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(archive)?;
                gzip.finish()?
            }
            Packing::Zstd => zstd::encode_all(archive, 1)?,
        };
        let digest = sha256(&packed);
        fs::create_dir_all(directory)?;
        let path = directory.join(digest.replace(':', "-"));
        fs::write(&path, &packed).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, packing, digest, diff_id: sha256(archive), size: packed.len() as u64 })
    }

    /// The same archive packed otherwise.
    ///
    /// # Errors
    /// Where it cannot be unpacked or the file cannot be written.
    pub fn repack(&self, directory: &Path, packing: Packing) -> Result<Self> {
        let mut archive = Vec::new();
        let packed = File::open(&self.path)?;
        match self.packing {
            Packing::Plain => io::BufReader::new(packed).read_to_end(&mut archive)?,
            Packing::Gzip => flate2::read::GzDecoder::new(packed).read_to_end(&mut archive)?,
            Packing::Zstd => zstd::Decoder::new(packed)?.read_to_end(&mut archive)?,
        };
        Self::pack(directory, &archive, packing)
    }

    /// Takes an archive that is packed already, such as a kept root file system, where it lies.
    ///
    /// # Errors
    /// Where it cannot be read or unpacked.
    pub fn of_file(path: &Path, packing: Packing) -> Result<Self> {
        let open = || File::open(path).with_context(|| format!("cannot open {}", path.display()));
        let digest = sha256_of(open()?)?;
        let diff_id = match packing {
            Packing::Plain => digest.clone(),
            Packing::Gzip => sha256_of(flate2::read::GzDecoder::new(open()?))?,
            Packing::Zstd => sha256_of(zstd::Decoder::new(open()?)?)?,
        };
        Ok(Self {
            path: path.to_path_buf(),
            packing,
            digest,
            diff_id,
            size: path.metadata()?.len(),
        })
    }
}

/// A layer's archive in the making; paths are relative to the image's root.
pub struct Tree {
    archive: tar::Builder<Vec<u8>>,
}

impl Tree {
    /// An archive without entries.
    pub fn new() -> Self {
        Self { archive: tar::Builder::new(Vec::new()) }
    }

    /// Adds a file.
    ///
    /// # Errors
    /// Where the path does not fit into the archive; so for every further kind of entry.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<&mut Self> {
        self.entry(tar::EntryType::Regular, path, mode, content)
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// As [`Tree::file`].
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<&mut Self> {
        self.entry(tar::EntryType::Directory, path, mode, &[])
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// As [`Tree::file`].
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<&mut Self> {
        self.link(tar::EntryType::Symlink, path, target)
    }

    /// Adds a hard link to the entry `target`.
    ///
    /// # Errors
    /// As [`Tree::file`].
    pub fn hardlink(&mut self, path: &str, target: &str) -> Result<&mut Self> {
        self.link(tar::EntryType::Link, path, target)
    }

    /// Hides what lower layers have at `path`.
    ///
    /// # Errors
    /// As [`Tree::file`].
    pub fn whiteout(&mut self, path: &str) -> Result<&mut Self> {
        let (directory, name) = path.rsplit_once('/').unwrap_or((".", path));
        self.file(&format!("{directory}/.wh.{name}"), 0o644, &[])
    }

    /// Hides all that lower layers have in the directory `path`.
    ///
    /// # Errors
    /// As [`Tree::file`].
    pub fn opaque(&mut self, path: &str) -> Result<&mut Self> {
        self.file(&format!("{path}/.wh..wh..opq"), 0o644, &[])
    }

    /// The finished archive.
    ///
    /// # Errors
    /// Never for an archive in memory.
    pub fn finish(self) -> Result<Vec<u8>> {
        Ok(self.archive.into_inner()?)
    }

    fn entry(
        &mut self,
        kind: tar::EntryType,
        path: &str,
        mode: u32,
        content: &[u8],
    ) -> Result<&mut Self> {
        let mut header = header(kind, mode);
        header.set_size(content.len() as u64);
        self.archive.append_data(&mut header, path, content)?;
        Ok(self)
    }

    fn link(&mut self, kind: tar::EntryType, path: &str, target: &str) -> Result<&mut Self> {
        self.archive.append_link(&mut header(kind, 0o777), path, target)?;
        Ok(self)
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").finish_non_exhaustive()
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    // xorshift64: enough to defeat compressors, and fast.
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// `sha256:<hex>` of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    written(&Sha256::digest(bytes))
}

fn sha256_of(mut reader: impl Read) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(written(&hasher.finalize())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn written(hash: &[u8]) -> String {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_767_225_600);
    header.set_size(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_the_same_however_it_is_packed() {
        let directory = tempfile::tempdir().unwrap();
        let mut tree = Tree::new();
        tree.file("etc/motd", 0o644, b"hello").unwrap().whiteout("etc/gone").unwrap();
        let archive = tree.finish().unwrap();
        for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
            let packed = Layer::pack(directory.path(), &archive, packing).unwrap();
            let read = Layer::of_file(&packed.path, packing).unwrap();
            assert_eq!(packed.diff_id, sha256(&archive));
            assert_eq!((read.digest, read.diff_id), (packed.digest, packed.diff_id));
        }
    }

    #[test]
    fn noise_does_not_compress() {
        let bytes = noise(7, 100_000);
        assert!(zstd::encode_all(bytes.as_slice(), 3).unwrap().len() > 99_000);
    }
}
