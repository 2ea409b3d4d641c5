//! Converts layers and reads the image back with programs that are not ours.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{Cursor, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use image_ref::Digest;
use oci_layers::{
    Compression, ConvertError, EntryError, Layer, LayerError, Limit, Options, Progress, Summary,
    convert,
};
use sha2::{Digest as _, Sha256};
use squashfs_reader::Rules;
use tempfile::NamedTempFile;

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

pub(crate) fn compress(tar: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => tar.to_vec(),
        Compression::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(tar).unwrap();
            gzip.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(tar, 1).unwrap(),
    }
}

/// The layer with this archive, compressed as asked for.
pub(crate) fn layer(tar: &[u8], compression: Compression) -> Layer {
    blob_layer(compress(tar, compression), digest(tar), compression)
}

pub(crate) fn blob_layer(blob: Vec<u8>, diff_id: Digest, compression: Compression) -> Layer {
    Layer {
        digest: digest(&blob),
        diff_id,
        size: blob.len() as u64,
        compression,
        open: Box::new(move || Ok(Box::new(Cursor::new(blob)))),
    }
}

#[derive(Debug)]
pub(crate) struct Silent;

impl Progress for Silent {
    fn layer(&self, _: usize, _: u64) {}
    fn layer_done(&self, _: usize, _: bool) {}
    fn written(&self, _: u64) {}
}

pub(crate) fn convert_layers(
    layers: Vec<Layer>,
    options: &Options,
) -> Result<(NamedTempFile, Summary), ConvertError> {
    let file = NamedTempFile::new().unwrap();
    let summary = convert(layers, Vec::new(), file.as_file(), options, &Silent)?;
    examined(file.as_file(), &summary);
    Ok((file, summary))
}

/// Has the independent reader look at an image as before its publication; it must count as the summary does.
pub(crate) fn examined(image: &File, summary: &Summary) {
    let found = squashfs_reader::examine(image, &Rules::published()).unwrap();
    assert_eq!(
        (found.files, found.directories, found.symlinks, found.special, found.hard_links),
        (summary.files, summary.directories + 1, summary.links, 0, summary.hard_links)
    );
    assert!(found.image_bytes <= summary.bytes);
}

/// Converts plain archives with small blocks and two threads of each kind.
pub(crate) fn convert_tars(tars: &[Vec<u8>]) -> Result<(NamedTempFile, Summary), ConvertError> {
    let layers = tars.iter().map(|tar| layer(tar, Compression::None)).collect();
    convert_layers(layers, &Options { readers: 2, workers: 2, ..Options::default() })
}

/// What an image of these plain archives shows.
pub(crate) fn listing(tars: &[Vec<u8>]) -> Listing {
    let (file, _) = convert_tars(tars).unwrap();
    unsquash(file.path())
}

pub(crate) fn names(listing: &Listing) -> Vec<String> {
    listing.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

pub(crate) fn kind(listing: &Listing, name: &str) -> FoundKind {
    listing[name.as_bytes()].kind.clone()
}

pub(crate) fn is_file(listing: &Listing, name: &str, data: &[u8]) -> bool {
    matches!(&listing[name.as_bytes()].kind, FoundKind::File(size, found, _)
        if *size == data.len() as u64 && *found == digest(data))
}

/// An error with everything behind it, as users are told.
pub(crate) fn chain(error: &ConvertError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// The limit that an error is about, which its text must name, as well as layer and digest.
pub(crate) fn limit_of(error: &ConvertError) -> Limit {
    assert!(error.is_limit(), "{error:?}");
    let ConvertError::Layer { index, digest, source } = error else { panic!("{error:?}") };
    let (LayerError::Limit(exceeded)
    | LayerError::Entry { source: EntryError::Limit(exceeded), .. }) = source
    else {
        panic!("{error:?}")
    };
    let text = chain(error);
    assert!(text.starts_with(&format!("layer {} ({digest})", index + 1)), "{text}");
    let named = format!("more than {} ", exceeded.allowed);
    assert!(text.contains(&named), "{text}");
    assert!(text.ends_with(&format!("(limit `{}`)", exceeded.limit.name())), "{text}");
    exceeded.limit
}

/// What an independent reader sees at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: FoundKind,
    pub(crate) mode: u32,
    pub(crate) mtime: i64,
    pub(crate) links: u64,
    pub(crate) owner: (u32, u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FoundKind {
    Directory,
    /// Size, SHA-256 of the content, and the first path of the same inode.
    File(u64, Digest, Vec<u8>),
    Symlink(Vec<u8>),
    Other,
}

pub(crate) type Listing = BTreeMap<Vec<u8>, Found>;

/// What an image must show of a tree that another program unpacked: everything as root's and readable by all, and
/// without set-id bits. Link counts of directories are the file system's, so set to 0.
pub(crate) fn published(mut listing: Listing) -> Listing {
    for found in listing.values_mut() {
        found.owner = (0, 0);
        found.mode = match &found.kind {
            FoundKind::Directory => found.mode & 0o1777 | 0o555,
            FoundKind::File(..) if found.mode & 0o111 != 0 => found.mode & 0o1777 | 0o555,
            FoundKind::File(..) => found.mode & 0o1777 | 0o444,
            FoundKind::Symlink(_) | FoundKind::Other => found.mode,
        };
    }
    without_directory_links(listing)
}

pub(crate) fn without_directory_links(mut listing: Listing) -> Listing {
    let directories = listing.values_mut().filter(|found| found.kind == FoundKind::Directory);
    directories.for_each(|found| found.links = 0);
    listing
}

pub(crate) fn assert_same(found: &Listing, expected: &Listing) {
    for (name, expected) in expected {
        assert_eq!(found.get(name), Some(expected), "{}", name.escape_ascii());
    }
    assert_eq!(names(found), names(expected));
}

/// Lists a tree by path, the root being empty.
pub(crate) fn scan(root: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut inodes: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    let mut paths = Vec::new();
    while let Some(path) = open.pop() {
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        paths.push(path);
    }
    paths.sort();
    for path in paths {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let kind = if metadata.is_dir() {
            FoundKind::Directory
        } else if metadata.is_symlink() {
            FoundKind::Symlink(fs::read_link(&path).unwrap().into_os_string().into_vec())
        } else if metadata.is_file() {
            let first = inodes.entry(metadata.ino()).or_insert_with(|| name.clone()).clone();
            FoundKind::File(metadata.len(), file_digest(&path), first)
        } else {
            FoundKind::Other
        };
        let found = Found {
            kind,
            mode: metadata.mode() & 0o7777,
            mtime: metadata.mtime(),
            links: metadata.nlink(),
            owner: (metadata.uid(), metadata.gid()),
        };
        listing.insert(name, found);
    }
    listing
}

fn file_digest(path: &Path) -> Digest {
    let mut hash = Sha256::new();
    let mut file = fs::File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = std::io::Read::read(&mut file, &mut buffer).unwrap();
        if length == 0 {
            return Digest::from_bytes(hash.finalize().into());
        }
        hash.update(&buffer[..length]);
    }
}

/// Unpacks an image with squashfs-tools and lists it; link counts of directories are the file system's, so set to 0.
pub(crate) fn unsquash(image: &Path) -> Listing {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let output = Command::new("unsquashfs")
        .args(["-no-progress", "-processors", "1", "-d"])
        .arg(&root)
        .arg(image)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    without_directory_links(scan(&root))
}

/// Mounts an image with the kernel's squashfs and lists it; needs root and a loop device.
pub(crate) fn mount(image: &Path) -> Listing {
    let target = tempfile::tempdir().unwrap();
    mounted(image, target.path(), || scan(target.path()))
}

/// Runs `look` while an image is mounted at `target`.
pub(crate) fn mounted<T>(image: &Path, target: &Path, look: impl FnOnce() -> T) -> T {
    retry(Command::new("mount").args(["-t", "squashfs", "-o", "loop,ro"]).arg(image).arg(target));
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
    retry(Command::new("umount").arg(target));
    seen.unwrap()
}

/// Runs a command again for up to two seconds: a loop device may be taken by someone else between choice and use, and a
/// process that another test just forked holds our open directories until it executes its program.
fn retry(command: &mut Command) {
    let mut output = command.output().unwrap();
    for _ in 0..100 {
        if output.status.success() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        output = command.output().unwrap();
    }
    panic!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
