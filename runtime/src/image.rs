//! Opens an image and decides whether the caller may use it.
//!
//! A digest chosen by a user is a name, not a permission: the sidecar's access list decides, read as the account
//! that published it. What is checked is what is mounted: one descriptor from here to the loop device.
#![forbid(unsafe_code)]

use crate::caller::Caller;
use crate::error::{Error, Shown};
use crate::privileges::FileIdentity;
use crate::sys::{self, Errno, Fd, Stat};
use crate::trust::{self, TrustError};
use alloc::format;
use alloc::string::String;
use core::fmt;
use image_ref::{Access, Digest, SIDECAR_LIMIT, Sidecar, SidecarError, image_file, sidecar_file};

/// Where images are and who publishes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelf {
    /// The image directory.
    pub directory: String,
    /// The uid that owns every file in it; where the site names none, the owner of the directory.
    pub owner: Option<u32>,
}

/// An image, by its digest and what the caller asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its digest.
    pub digest: Digest,
    /// What the user wrote, for messages.
    pub request: Option<String>,
}

/// An image's file, open and checked.
#[derive(Debug)]
pub struct Image {
    /// Its digest.
    pub digest: Digest,
    /// The file.
    pub file: Fd,
    /// What the kernel says of it.
    pub stat: Stat,
}

/// Opens the image for the caller: its sidecar must name it and admit the caller.
///
/// # Errors
/// [`ImageError`], where there is no such image, it cannot be trusted, or it is not for the caller.
pub fn open_for(
    caller: &Caller,
    shelf: &Shelf,
    wanted: &Wanted,
) -> Result<(Image, Sidecar), Error> {
    open(caller, shelf, wanted, |shelf| {
        // Looked at first: where the image is gone, that is what the user should hear.
        let image = shelf.open_image(wanted.digest)?;
        let (sidecar, stat) = shelf.read_sidecar(wanted.digest)?;
        if !sidecar.admits(caller.uid, &caller.all_groups()) {
            return Err(Problem::Denied);
        }
        if sidecar.access != Access::Public && (image.stat.mode | stat.mode) & 0o077 != 0 {
            return Err(Problem::Exposed);
        }
        Ok((image, sidecar))
    })
}

/// Opens the image for root, who needs no permission: a Prolog mounts it where nobody else can look.
///
/// # Errors
/// As [`open_for`], without those on access.
pub fn open_for_root(caller: &Caller, shelf: &Shelf, digest: Digest) -> Result<Image, Error> {
    let wanted = Wanted { digest, request: None };
    open(caller, shelf, &wanted, |shelf| shelf.open_image(digest))
}

/// Lets `body` open files as the account that publishes images.
fn open<T>(
    caller: &Caller,
    shelf: &Shelf,
    wanted: &Wanted,
    body: impl FnOnce(OpenShelf<'_>) -> Result<T, Problem>,
) -> Result<T, Error> {
    let fail = |problem| ImageError { wanted: wanted.clone(), problem };
    let path = &*shelf.directory;
    // Who made another account the owner of the directory had root's power.
    let owner = shelf.owner.map_or_else(|| trust::owner_of(path), Ok);
    let owner = owner.map_err(|error| fail(Problem::Shelf(error)))?;
    let _identity = FileIdentity::assume(caller, owner)?;
    let directory = trust::open_directory(path, &[0, owner]).map_err(Problem::Shelf);
    Ok(directory.and_then(|fd| body(OpenShelf { fd, path, owner })).map_err(fail)?)
}

/// The image directory, open and checked.
struct OpenShelf<'a> {
    fd: Fd,
    path: &'a str,
    owner: u32,
}

impl OpenShelf<'_> {
    fn open_image(&self, digest: Digest) -> Result<Image, Problem> {
        let opened = trust::open_file(&self.fd, self.path, &image_file(&digest), self.owner);
        let (file, stat) = opened.map_err(|error| {
            if error.is_missing() { Problem::Missing(error.path) } else { Problem::Trust(error) }
        })?;
        let above = sys::stat(&self.fd).map_err(|errno| self.unreadable(errno, ""))?;
        if stat.links != 1 || stat.device != above.device {
            return Err(Problem::OtherNames);
        }
        let mut head = [0; SUPERBLOCK];
        let complete = sys::read(&file, &mut head) == Ok(SUPERBLOCK);
        if !complete || !head.starts_with(b"hsqs") {
            return Err(Problem::NotSquashfs);
        }
        let used = head.get(BYTES_USED..).and_then(|tail| tail.first_chunk().copied());
        let used = used.map_or(u64::MAX, u64::from_le_bytes);
        if stat.size % 4096 != 0 || used > stat.size {
            return Err(Problem::Truncated);
        }
        Ok(Image { digest, file, stat })
    }

    fn read_sidecar(&self, digest: Digest) -> Result<(Sidecar, Stat), Problem> {
        let name = sidecar_file(&digest);
        let (file, stat) =
            trust::open_file(&self.fd, self.path, &name, self.owner).map_err(Problem::Trust)?;
        let bytes = trust::read_whole(&file, SIDECAR_LIMIT)
            .map_err(|errno| self.unreadable(errno, &name))?;
        let sidecar = Sidecar::decode(&bytes).map_err(Problem::Sidecar)?;
        if sidecar.digest == digest { Ok((sidecar, stat)) } else { Err(Problem::OtherDigest) }
    }

    fn unreadable(&self, errno: Errno, name: &str) -> Problem {
        let path = format!("{}/{name}", self.path);
        Problem::Trust(TrustError { path, problem: trust::Problem::Open(errno) })
    }
}

/// Size of a squashfs superblock, and where in it the length of the file system is (squashfs 4.0).
const SUPERBLOCK: usize = 96;
const BYTES_USED: usize = 40;

/// An image that cannot be used: which and why.
#[derive(Debug)]
pub struct ImageError {
    wanted: Wanted,
    problem: Problem,
}

/// Why an image cannot be used.
#[derive(Debug)]
pub enum Problem {
    /// The image directory cannot be opened or trusted.
    Shelf(TrustError),
    /// There is no such file.
    Missing(String),
    /// A file of the image cannot be opened or trusted.
    Trust(TrustError),
    /// The file has further names or lies on another file system than its directory.
    OtherNames,
    /// The file is no squashfs.
    NotSquashfs,
    /// The file is shorter than it should be.
    Truncated,
    /// The sidecar cannot be read.
    Sidecar(SidecarError),
    /// The sidecar is that of another image.
    OtherDigest,
    /// The caller is not on the access list.
    Denied,
    /// The image has an access list, but others can read its file or its sidecar.
    Exposed,
}

impl ImageError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        let text = match &self.problem {
            Problem::Shelf(error) if error.is_missing() => {
                "is the file system with the images mounted on this node?"
            }
            Problem::Shelf(error) | Problem::Trust(error) => return error.hint(),
            Problem::Missing(_) => {
                let request = self.wanted.request.as_deref().unwrap_or_default();
                let pull = format!("imgctl pull {}", Shown(request.as_bytes()));
                let pull = pull.trim_end();
                return Some(format!("it may have been removed; ask for it again with `{pull}`"));
            }
            Problem::Denied => "its owner or an administrator can give you access",
            Problem::Exposed | Problem::OtherNames => return None,
            _ => "an administrator removes and pulls the image again",
        };
        Some(text.into())
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "image {}", self.wanted.digest)?;
        if let Some(request) = &self.wanted.request {
            write!(f, " ({})", Shown(request.as_bytes()))?;
        }
        let text = match &self.problem {
            Problem::Missing(path) => {
                let path = Shown(path.as_bytes());
                return write!(f, " is not on this node's file system: {path} does not exist");
            }
            Problem::Shelf(error) | Problem::Trust(error) => {
                return write!(f, " cannot be used: {error}");
            }
            Problem::Sidecar(error) => {
                return write!(f, " is damaged: its sidecar cannot be read: {error}");
            }
            Problem::OtherNames => {
                "is not trusted: its file has other names or is mounted from elsewhere"
            }
            Problem::NotSquashfs => "is damaged: its file is no squashfs file system",
            Problem::Truncated => "is damaged: its file is shorter than it was published",
            Problem::OtherDigest => "is damaged: its sidecar belongs to another image",
            Problem::Denied => "is private and you are not among those who may use it",
            Problem::Exposed => {
                "is not trusted: it is private but others can read its file or sidecar"
            }
        };
        write!(f, " {text}")
    }
}
