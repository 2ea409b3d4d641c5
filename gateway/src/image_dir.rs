//! The image directory: where published images lie for the nodes to mount.
//!
//! A file is written aside, synchronised, renamed into place and never modified. Names come from digests and
//! escaped references alone, never from text that a user chose. Every call blocks: run them on blocking threads.

mod meta;

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use image_ref::{
    Access, Digest, ImageRef, NAMES_DIRECTORY, Sidecar, SidecarError, image_file, meta_file,
    name_link, sidecar_file,
};

/// One system's image directory.
#[derive(Debug)]
pub struct ImageDir {
    root: PathBuf,
    made: AtomicU64,
}

/// A file that is being written; it is gone with this value unless it was published.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    /// The file to write.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Opens it once more, to be read only.
    ///
    /// # Errors
    /// [`ImageDirError`] where that fails.
    pub fn reader(&self) -> Result<File, ImageDirError> {
        File::open(&self.path).map_err(|source| failed("open", &self.path, source))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After publishing there is nothing under the old name; after a failure the next start cleans up too.
        drop(std::fs::remove_file(&self.path));
    }
}

impl ImageDir {
    /// Opens the directory, sees that files can be made in it, and makes the directories within.
    ///
    /// # Errors
    /// [`ImageDirError`], which names the directory.
    pub fn open(root: &Path) -> Result<Self, ImageDirError> {
        let dir = Self { root: root.to_path_buf(), made: AtomicU64::new(0) };
        let facts = std::fs::metadata(root).map_err(|source| failed("open", root, source))?;
        if !facts.is_dir() {
            return Err(failed("open", root, io::ErrorKind::NotADirectory.into()));
        }
        for (name, mode) in [(PARTIAL_DIRECTORY, 0o700), (NAMES_DIRECTORY, 0o755)] {
            let path = root.join(name);
            match DirBuilder::new().mode(mode).create(&path) {
                Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed("make", &path, err));
                }
                _ => std::fs::set_permissions(&path, Permissions::from_mode(mode))
                    .map_err(|source| failed("set the mode of", &path, source))?,
            }
        }
        dir.check()?;
        Ok(dir)
    }

    /// Sees that a file can be written and removed.
    ///
    /// # Errors
    /// [`ImageDirError`] where it cannot: read-only, full, or not the gateway's.
    pub fn check(&self) -> Result<(), ImageDirError> {
        let partial = self.partial()?;
        partial.file().write_all(b"ok").map_err(|source| failed("write to", &partial.path, source))
    }

    /// What about the directory's owner and mode would keep the nodes from mounting images, if anything.
    pub fn complaint(&self) -> Option<String> {
        let facts = std::fs::metadata(&self.root).ok()?;
        let path = self.root.display();
        let own = nix::unistd::geteuid().as_raw();
        if facts.uid() != own {
            return Some(format!(
                "{path} belongs to user {}, not to the gateway's {own}",
                facts.uid()
            ));
        }
        (facts.mode() & 0o022 != 0).then(|| {
            format!(
                "{path} has mode {:04o}: its group or others may write it",
                facts.mode() & 0o7777
            )
        })
    }

    /// How many bytes can be written into it.
    ///
    /// # Errors
    /// [`ImageDirError`] where the file system does not say.
    pub fn free_bytes(&self) -> Result<u64, ImageDirError> {
        let facts = nix::sys::statvfs::statvfs(&self.root)
            .map_err(|source| failed("ask for the room in", &self.root, source.into()))?;
        Ok(facts.blocks_available().saturating_mul(facts.fragment_size()))
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Removes what an earlier gateway was writing when it ended; returns how many files.
    ///
    /// # Errors
    /// [`ImageDirError`] at the first file that cannot be removed.
    pub fn clean(&self) -> Result<usize, ImageDirError> {
        let directory = self.root.join(PARTIAL_DIRECTORY);
        let list = |source| failed("list", &directory, source);
        let mut count = 0;
        for entry in std::fs::read_dir(&directory).map_err(list)? {
            let path = entry.map_err(list)?.path();
            std::fs::remove_file(&path).map_err(|source| failed("remove", &path, source))?;
            count += 1;
        }
        Ok(count)
    }

    /// Makes an empty file that only the gateway can read.
    ///
    /// # Errors
    /// [`ImageDirError`] where that fails.
    pub fn partial(&self) -> Result<Partial, ImageDirError> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.{number}", std::process::id());
        let path = self.root.join(PARTIAL_DIRECTORY).join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| failed("make", &path, source))?;
        Ok(Partial { path, file })
    }

    /// Publishes a finished image with what there is to know of it.
    ///
    /// The image comes first and its descriptions after it: the runtime refuses an image without sidecar.
    ///
    /// # Errors
    /// [`ImageDirError`]; files that are in place already are replaced at the next attempt.
    pub fn publish(&self, image: &Partial, sidecar: &Sidecar) -> Result<(), ImageDirError> {
        let target = self.root.join(image_file(&sidecar.digest));
        self.put(image, &target, file_mode(sidecar))?;
        self.describe(sidecar)
    }

    /// Replaces what is published beside an image, where it differs, and lets those read its files who may.
    ///
    /// # Errors
    /// [`ImageDirError`]; the earlier description is then still there, whole.
    pub fn describe(&self, sidecar: &Sidecar) -> Result<(), ImageDirError> {
        let bytes = sidecar.encode().map_err(ImageDirError::Sidecar)?;
        let sidecar_path = self.root.join(sidecar_file(&sidecar.digest));
        // The sidecar is written last: where it is right, the rest is too.
        if std::fs::read(&sidecar_path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        let mode = file_mode(sidecar);
        let image = self.root.join(image_file(&sidecar.digest));
        std::fs::set_permissions(&image, Permissions::from_mode(mode))
            .map_err(|source| failed("set the mode of", &image, source))?;
        let meta = meta::lines(sidecar);
        self.put_bytes(meta.as_bytes(), &self.root.join(meta_file(&sidecar.digest)), mode)?;
        self.put_bytes(&bytes, &sidecar_path, mode)
    }

    fn put_bytes(&self, bytes: &[u8], target: &Path, mode: u32) -> Result<(), ImageDirError> {
        let partial = self.partial()?;
        partial
            .file()
            .write_all(bytes)
            .map_err(|source| failed("write to", &partial.path, source))?;
        self.put(&partial, target, mode)
    }

    fn put(&self, partial: &Partial, target: &Path, mode: u32) -> Result<(), ImageDirError> {
        let from = &partial.path;
        partial
            .file
            .set_permissions(Permissions::from_mode(mode))
            .map_err(|source| failed("set the mode of", from, source))?;
        partial.file.sync_all().map_err(|source| failed("synchronise", from, source))?;
        std::fs::rename(from, target).map_err(|source| failed("publish", target, source))?;
        sync_directory(&self.root)
    }

    /// Tells whether an image of this size and its sidecar are there.
    ///
    /// # Errors
    /// [`ImageDirError`] where the directory cannot be asked, which is not the same as no.
    pub fn holds(&self, digest: &Digest, size: u64) -> Result<bool, ImageDirError> {
        for (name, size) in [(image_file(digest), Some(size)), (sidecar_file(digest), None)] {
            let path = self.root.join(name);
            match std::fs::symlink_metadata(&path) {
                Ok(facts) if facts.is_file() && size.is_none_or(|size| size == facts.len()) => {}
                Ok(_) => return Ok(false),
                Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(source) => return Err(failed("examine", &path, source)),
            }
        }
        Ok(true)
    }

    /// Opens a published image of this size to read it; `None` where there is none, or it was written to since.
    ///
    /// # Errors
    /// [`ImageDirError`] where the file is there and cannot be opened.
    pub fn open_image(&self, digest: &Digest, size: u64) -> Result<Option<File>, ImageDirError> {
        let path = self.root.join(image_file(digest));
        let opened = OpenOptions::new()
            .read(true)
            // A pipe in its place must not keep us waiting.
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed("open", &path, source)),
        };
        let facts = file.metadata().map_err(|source| failed("examine", &path, source))?;
        let sidecar = self.root.join(sidecar_file(digest));
        let changed = |facts: &std::fs::Metadata| (facts.mtime(), facts.mtime_nsec());
        // The sidecar is written after the image. Times come from a clock that moves in ticks of 1 to 10 ms (see
        // `CLOCK_REALTIME_COARSE` in clock_gettime(2)): the same time is that of a publication, and a change within its
        // tick is not seen. This finds what happened to a file later, by mistake or by a failing disk; it is no defence
        // against who may write it, who can set its times as well.
        let described = match std::fs::symlink_metadata(&sidecar) {
            Ok(sidecar) => changed(&sidecar),
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed("examine", &sidecar, source)),
        };
        let whole = facts.is_file() && facts.len() == size && changed(&facts) <= described;
        Ok(whole.then_some(file))
    }

    /// The images whose files are there, whoever put them there; by name alone.
    ///
    /// # Errors
    /// [`ImageDirError`] where the directory cannot be listed.
    pub fn images(&self) -> Result<Vec<Digest>, ImageDirError> {
        let list = |source| failed("list", &self.root, source);
        let digest_of = |name: &str| {
            let (hex, _) = name.split_once('.')?;
            let digest: Digest = format!("sha256:{hex}").parse().ok()?;
            (name == image_file(&digest)).then_some(digest)
        };
        let mut images = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(list)? {
            let name = entry.map_err(list)?.file_name();
            images.extend(name.to_str().and_then(digest_of));
        }
        Ok(images)
    }

    /// Removes an image; one that is not there is no error. Nodes that have it mounted keep it until they let go.
    ///
    /// # Errors
    /// [`ImageDirError`] at the first file that cannot be removed.
    pub fn remove(&self, digest: &Digest) -> Result<(), ImageDirError> {
        // The sidecar first: without it no node mounts the image any more.
        for name in [sidecar_file(digest), meta_file(digest), image_file(digest)] {
            remove_if_there(&self.root.join(name))?;
        }
        sync_directory(&self.root)
    }

    /// Publishes that a reference stands for an image, for nodes to find while the gateway is away.
    ///
    /// A reference that is too long for a file name is left out.
    ///
    /// # Errors
    /// [`ImageDirError`]; an earlier link is then still there.
    pub fn link(&self, reference: &ImageRef, digest: &Digest) -> Result<(), ImageDirError> {
        let Some(name) = name_link(reference) else { return Ok(()) };
        let names = self.root.join(NAMES_DIRECTORY);
        let path = names.join(name);
        let hex = digest.hex().to_string();
        if std::fs::read_link(&path).is_ok_and(|target| target == Path::new(&hex)) {
            return Ok(());
        }
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let aside =
            self.root.join(PARTIAL_DIRECTORY).join(format!("{}.{number}.link", std::process::id()));
        symlink(&hex, &aside).map_err(|source| failed("make", &aside, source))?;
        std::fs::rename(&aside, &path).map_err(|source| {
            // The failure that counts is the rename's; the link is cleaned at the next start too.
            drop(std::fs::remove_file(&aside));
            failed("publish", &path, source)
        })?;
        sync_directory(&names)
    }

    /// Takes back what [`Self::link`] published, where it still is about this image.
    ///
    /// # Errors
    /// [`ImageDirError`] where the link is there and cannot be read or removed.
    pub fn unlink_from(&self, reference: &ImageRef, digest: &Digest) -> Result<(), ImageDirError> {
        let Some(name) = name_link(reference) else { return Ok(()) };
        let path = self.root.join(NAMES_DIRECTORY).join(name);
        match std::fs::read_link(&path) {
            Ok(target) if target != Path::new(&digest.hex().to_string()) => Ok(()),
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(failed("read", &path, err)),
            _ => remove_if_there(&path),
        }
    }

    /// Takes back what [`Self::link`] published, whichever image it is about.
    ///
    /// # Errors
    /// [`ImageDirError`] where the link is there and cannot be removed.
    pub fn unlink(&self, reference: &ImageRef) -> Result<(), ImageDirError> {
        let Some(name) = name_link(reference) else { return Ok(()) };
        remove_if_there(&self.root.join(NAMES_DIRECTORY).join(name))
    }
}

/// Public images are for everybody to read; private ones only for the gateway and the nodes' root.
fn file_mode(sidecar: &Sidecar) -> u32 {
    match sidecar.access {
        Access::Public => 0o444,
        Access::Listed { .. } => 0o400,
    }
}

fn remove_if_there(path: &Path) -> Result<(), ImageDirError> {
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, err)),
        _ => Ok(()),
    }
}

fn sync_directory(path: &Path) -> Result<(), ImageDirError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| failed("synchronise", path, source))
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> ImageDirError {
    ImageDirError::File { operation, path: path.to_path_buf(), source }
}

/// Where files are written before they are published; on the same file system, and nobody else's to look into.
const PARTIAL_DIRECTORY: &str = ".partial";

/// Why something could not be done in the image directory.
#[derive(Debug, thiserror::Error)]
pub enum ImageDirError {
    /// A file operation failed.
    #[error("cannot {operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// What is to be known of the image does not fit into a sidecar.
    #[error("the image's sidecar cannot be written: {0}")]
    Sidecar(SidecarError),
}

impl ImageDirError {
    /// Tells whether no room is left, or no quota.
    pub fn is_full(&self) -> bool {
        let Self::File { source, .. } = self else { return false };
        matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    }
}

#[cfg(test)]
mod tests;
