//! The directories of CDI specification files, and which file is right about a device.
//!
//! A file that cannot be used matters only where it may be about the device that was asked for.

use super::document::{self, Device, Document, Format};
use super::name::DeviceName;
use nix::fcntl::OFlag;
use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Everything that the directories have.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    files: Vec<SpecFile>,
    broken: Vec<Broken>,
}

/// A file that can be used; of a later directory where `rank` is higher.
#[derive(Debug)]
pub(super) struct SpecFile {
    rank: usize,
    pub(super) path: PathBuf,
    pub(super) document: Document,
}

/// A file, or a directory, that cannot be used.
#[derive(Debug)]
struct Broken {
    rank: usize,
    path: PathBuf,
    reason: String,
    /// Its text, where it could be read.
    text: Option<String>,
}

impl Catalog {
    /// Reads every specification file of `directories`, of which a later one counts more.
    pub(super) fn load(directories: &[PathBuf]) -> Self {
        let mut catalog = Self::default();
        for (rank, directory) in directories.iter().enumerate() {
            match list(directory) {
                Ok(files) => files.into_iter().for_each(|(path, format)| {
                    catalog.take(rank, path, format);
                }),
                Err(reason) => {
                    catalog.broken.push(Broken {
                        rank,
                        path: directory.clone(),
                        reason,
                        text: None,
                    });
                }
            }
        }
        catalog
    }

    fn take(&mut self, rank: usize, path: PathBuf, format: Format) {
        let (reason, text) = match read(&path) {
            Ok(text) => match document::parse(&text, format) {
                Ok(document) => {
                    self.files.push(SpecFile { rank, path, document });
                    return;
                }
                Err(reason) => (reason, Some(text)),
            },
            Err(reason) => (reason, None),
        };
        self.broken.push(Broken { rank, path, reason, text });
    }

    /// The device, and the file that it stands in.
    ///
    /// # Errors
    /// Where there is none, where two files of one directory have it, or where a file that would count as much
    /// or more cannot be used and may have it.
    pub(super) fn find(&self, name: &DeviceName) -> Result<(&SpecFile, &Device), CatalogError> {
        let of_kind = self.files.iter().filter(|file| file.document.kind == name.kind);
        let mut found: Vec<(&SpecFile, &Device)> = of_kind
            .flat_map(|file| file.document.devices.iter().map(move |device| (file, device)))
            .filter(|(_, device)| device.name == name.device)
            .collect();
        let rank = found.iter().map(|(file, _)| file.rank).max();
        found.retain(|(file, _)| Some(file.rank) == rank);
        let suspect = self.broken.iter().find(|broken| match (&broken.text, rank) {
            (Some(text), Some(rank)) => broken.rank >= rank && text.contains(&name.kind),
            (Some(text), None) => text.contains(&name.kind),
            (None, rank) => rank.is_none(),
        });
        if let Some(Broken { path, reason, .. }) = suspect {
            let (path, reason) = (path.clone(), reason.clone());
            return Err(CatalogError::Broken { name: name.clone(), path, reason });
        }
        match found[..] {
            [one] => Ok(one),
            [] => Err(CatalogError::Unknown { name: name.clone(), known: self.known() }),
            [(one, _), (other, _), ..] => Err(CatalogError::Twice {
                name: name.clone(),
                paths: [one.path.clone(), other.path.clone()],
            }),
        }
    }

    /// A line for each file that cannot be used.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        let line =
            |broken: &Broken| format!("{} is not used: {}", broken.path.display(), broken.reason);
        self.broken.iter().map(line)
    }

    /// Names that could have been asked for, a few of them.
    fn known(&self) -> Vec<String> {
        let names = self.files.iter().flat_map(|SpecFile { document, .. }| {
            document.devices.iter().map(|device| format!("{}={}", document.kind, device.name))
        });
        names.take(8).collect()
    }
}

/// The specification files of a directory in the order of their names; none where it is not there.
fn list(directory: &Path) -> Result<Vec<(PathBuf, Format)>, String> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let format = match path.extension().and_then(|it| it.to_str()) {
            Some("json") => Format::Json,
            Some("yaml") => Format::Yaml,
            _ => continue,
        };
        if files.len() == FILES_MOST {
            return Err(format!("it has more than {FILES_MOST} specification files"));
        }
        files.push((path, format));
    }
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(files)
}

/// The text of a regular file of bounded size. Without O_NONBLOCK, opening a named pipe would wait for its writer.
fn read(path: &Path) -> Result<String, String> {
    let mut options = File::options();
    options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = options.open(path).map_err(|error| error.to_string())?;
    if !file.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("it is not a regular file".into());
    }
    let mut text = String::new();
    file.take(SIZE_LIMIT + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > SIZE_LIMIT {
        return Err(format!("it has more than {SIZE_LIMIT} bytes"));
    }
    Ok(text)
}

/// The most bytes of a file. That of a node with eight GPUs, each with seven parts, has about 60 KiB.
const SIZE_LIMIT: u64 = 1 << 20;

/// The most files of a directory.
const FILES_MOST: usize = 256;

/// Why a device cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CatalogError {
    /// No file has it.
    Unknown { name: DeviceName, known: Vec<String> },
    /// Two files that count the same have it.
    Twice { name: DeviceName, paths: [PathBuf; 2] },
    /// A file that may have it cannot be used.
    Broken { name: DeviceName, path: PathBuf, reason: String },
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, .. } => {
                write!(f, "there is no device {name} in this host's CDI specification files")
            }
            Self::Twice { name, paths: [one, other] } => {
                write!(f, "both {} and {} have the device {name}", one.display(), other.display())
            }
            Self::Broken { name, path, reason } => {
                write!(f, "cannot look for the device {name} in {}: {reason}", path.display())
            }
        }
    }
}
