//! A file, or a directory that is an OCI layout, as bytes to send: twice the same.
//!
//! A directory becomes a tar archive of its own making: the same names, sizes and bytes in the same order whoever sends
//! it and whenever, so that the same layout is the same upload.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use image_ref::Digest;
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

/// Something to send.
#[derive(Debug)]
pub struct Upload {
    parts: Vec<Part>,
    size: u64,
}

#[derive(Debug)]
enum Part {
    Bytes(Vec<u8>),
    /// Exactly so many bytes of this file.
    File(PathBuf, u64),
}

impl Upload {
    /// Finds out what there is to send under `path`.
    ///
    /// # Errors
    /// [`UploadError`], which names the path.
    pub fn open(path: &Path) -> Result<Self, UploadError> {
        let failed = |source| UploadError::Read { path: path.to_path_buf(), source };
        let facts = std::fs::metadata(path).map_err(failed)?;
        if facts.is_dir() {
            return Self::of_layout(path);
        }
        if !facts.is_file() {
            return Err(UploadError::NoFile(path.to_path_buf()));
        }
        Ok(Self { parts: vec![Part::File(path.to_path_buf(), facts.len())], size: facts.len() })
    }

    fn of_layout(root: &Path) -> Result<Self, UploadError> {
        let mut upload = Self { parts: Vec::new(), size: 0 };
        for name in ["oci-layout", "index.json"] {
            if !root.join(name).is_file() {
                return Err(UploadError::NoLayout(root.to_path_buf()));
            }
            upload.add(root, name)?;
        }
        let blobs = root.join(BLOBS);
        let failed = |source| UploadError::Read { path: blobs.clone(), source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&blobs).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            // What else lies there is no blob, such as a download that was never finished.
            names.extend(
                name.to_str().filter(|name| Digest::from_hex(name).is_ok()).map(str::to_string),
            );
        }
        names.sort();
        names.iter().try_for_each(|name| upload.add(root, &format!("{BLOBS}/{name}")))?;
        upload.push(Part::Bytes(vec![0; 2 * BLOCK as usize]), 2 * BLOCK);
        Ok(upload)
    }

    /// Adds a member: its header, its bytes, and zeros up to the next block.
    fn add(&mut self, root: &Path, name: &str) -> Result<(), UploadError> {
        let path = root.join(name);
        let failed = |source| UploadError::Read { path: path.clone(), source };
        let facts = std::fs::metadata(&path).map_err(failed)?;
        if !facts.is_file() {
            return Err(UploadError::NoFile(path));
        }
        let size = facts.len();
        let mut header = Header::new_ustar();
        header.set_path(name).map_err(failed)?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(size);
        header.set_cksum();
        self.push(Part::Bytes(header.as_bytes().to_vec()), BLOCK);
        self.push(Part::File(path, size), size);
        let padding = size.next_multiple_of(BLOCK) - size;
        self.push(Part::Bytes(vec![0; padding as usize]), padding);
        Ok(())
    }

    fn push(&mut self, part: Part, bytes: u64) {
        self.parts.push(part);
        self.size += bytes;
    }

    /// How many bytes there are to send.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Everything, once; `tell` hears how much was read so far.
    pub fn reader<'a>(&'a self, tell: impl FnMut(u64) + 'a) -> impl Read + 'a {
        Reader { parts: self.parts.iter(), now: None, done: 0, tell }
    }

    /// SHA-256 of everything.
    ///
    /// # Errors
    /// Where a file cannot be read, or has become shorter.
    pub fn digest(&self, tell: impl FnMut(u64)) -> io::Result<Digest> {
        let mut hash = Sha256::new();
        let mut reader = self.reader(tell);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(Digest::from_bytes(hash.finalize().into())),
                count => hash.update(buffer.get(..count).unwrap_or_default()),
            }
        }
    }
}

struct Reader<'a, F> {
    parts: std::slice::Iter<'a, Part>,
    now: Option<Open>,
    done: u64,
    tell: F,
}

enum Open {
    Bytes(Cursor<Vec<u8>>),
    File(io::Take<File>),
}

impl<F: FnMut(u64)> Read for Reader<'_, F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = match &mut self.now {
                None => 0,
                Some(Open::Bytes(bytes)) => bytes.read(out)?,
                Some(Open::File(file)) => {
                    let count = file.read(out)?;
                    if count == 0 && file.limit() > 0 && !out.is_empty() {
                        return Err(io::Error::other("it became shorter while it was read"));
                    }
                    count
                }
            };
            if count > 0 || out.is_empty() {
                self.done += count as u64;
                (self.tell)(self.done);
                return Ok(count);
            }
            self.now = match self.parts.next() {
                None => return Ok(0),
                Some(Part::Bytes(bytes)) => Some(Open::Bytes(Cursor::new(bytes.clone()))),
                Some(Part::File(path, size)) => Some(Open::File(File::open(path)?.take(*size))),
            };
        }
    }
}

/// Why there is nothing to send.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is a device, a pipe or the like.
    #[error("{} is neither a file nor a directory", .0.display())]
    NoFile(PathBuf),
    /// It is a directory of another kind.
    #[error("{} is a directory, but no OCI layout: it lacks oci-layout or index.json", .0.display())]
    NoLayout(PathBuf),
}

const BLOBS: &str = "blobs/sha256";
const BLOCK: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(upload: &Upload) -> Vec<u8> {
        let mut bytes = Vec::new();
        upload.reader(|_| {}).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, upload.size());
        bytes
    }

    #[test]
    fn a_layout_is_the_same_archive_every_time_and_only_what_belongs_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let missing = Upload::open(root).unwrap_err().to_string();
        assert!(missing.ends_with("no OCI layout: it lacks oci-layout or index.json"), "{missing}");
        std::fs::create_dir_all(root.join(BLOBS)).unwrap();
        for (name, text) in [
            ("oci-layout", "{}"),
            ("index.json", "[]"),
            (&*format!("{BLOBS}/{}", "b".repeat(64)), "second"),
            (&*format!("{BLOBS}/{}", "a".repeat(64)), &"x".repeat(512)),
            (&*format!("{BLOBS}/partial"), "no"),
            ("other", "no"),
        ] {
            std::fs::write(root.join(name), text).unwrap();
        }
        let upload = Upload::open(root).unwrap();
        let first = bytes(&upload);
        let mut archive = tar::Archive::new(first.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        let (a, b) = (format!("{BLOBS}/{}", "a".repeat(64)), format!("{BLOBS}/{}", "b".repeat(64)));
        assert_eq!(names, ["oci-layout", "index.json", &a, &b]);
        assert_eq!(first, bytes(&Upload::open(root).unwrap()));
        let mut last = 0;
        let digest = upload.digest(|done| last = done).unwrap();
        assert_eq!(digest, Digest::from_bytes(Sha256::digest(&first).into()));
        assert_eq!(last, upload.size());
    }

    #[test]
    fn a_file_that_becomes_shorter_is_noticed_and_one_that_becomes_longer_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, "12345").unwrap();
        let upload = Upload::open(&path).unwrap();
        std::fs::write(&path, "123456").unwrap();
        assert_eq!(bytes(&upload), b"12345");
        std::fs::write(&path, "123").unwrap();
        assert!(upload.digest(|_| {}).unwrap_err().to_string().contains("shorter"));
        assert!(Upload::open(Path::new("/dev/null")).is_err());
    }
}
