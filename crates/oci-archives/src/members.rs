//! What stands in a tar archive and where: names, files as ranges, links. No data is read.
//!
//! Names are compared as bytes. Only a `./` in front is taken off, because `tar -c .` writes one.

use std::collections::HashMap;
use std::io::{self, Read};

use image_ref::Digest;
use tar::{EntryType, Header, PaxExtensions};

use crate::error::{ArchiveError, shown};
use crate::layer::hash_bytes;
use crate::upload::{Stream, Upload};

/// The members of an archive.
#[derive(Debug)]
pub(crate) struct Members {
    upload: Upload,
    by_name: HashMap<Vec<u8>, Found>,
    /// How many there are, whether or not they are in `by_name`.
    count: u64,
}

#[derive(Debug)]
enum Found {
    Once(Member),
    Twice,
}

/// One member.
#[derive(Clone, Debug)]
enum Member {
    File(Place),
    /// The name that it stands for, resolved as far as that can be done without looking.
    Link(Option<Vec<u8>>),
    Other,
}

/// Where in the decompressed archive the bytes of a file are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub offset: u64,
    pub size: u64,
}

impl Members {
    /// Reads all headers of the archive.
    pub(crate) fn read(upload: &Upload) -> Result<Self, ArchiveError> {
        let mut members = Self { upload: upload.clone(), by_name: HashMap::new(), count: 0 };
        let mut walk = Walk { upload, stream: upload.stream(0)?, at: 0 };
        while let Some((name, member)) = walk.next_member()? {
            members.count += 1;
            let known = !name.is_empty() && name.len() <= NAME_LIMIT;
            if !known || members.by_name.len() >= MEMBER_LIMIT {
                continue;
            }
            let found = Found::Once(member);
            members.by_name.entry(name).and_modify(|found| *found = Found::Twice).or_insert(found);
        }
        Ok(members)
    }

    pub(crate) fn upload(&self) -> &Upload {
        &self.upload
    }

    /// How many members there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Tells whether there is a member of this name, whatever it is.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.by_name.contains_key(name.as_bytes())
    }

    /// The place of a file, by way of links inside the archive.
    ///
    /// # Errors
    /// Where there is none, it is there twice, or it is no file.
    pub(crate) fn place(&self, name: &str) -> Result<Place, ArchiveError> {
        // An archive with so many members is none of an image; those beyond the limit are not known by name.
        if self.count > MEMBER_LIMIT as u64 {
            let why = format!("it has {} members, more than {MEMBER_LIMIT}", self.count);
            return Err(ArchiveError::Limit(why));
        }
        let no_file = |what| ArchiveError::NoFile { name: shown(name.as_bytes()), what };
        let mut here = name.as_bytes().to_vec();
        for _ in 0..LINK_LIMIT {
            match self.by_name.get(&here) {
                None => return Err(ArchiveError::Missing { name: shown(&here) }),
                Some(Found::Twice) => return Err(ArchiveError::Twice { name: shown(&here) }),
                Some(Found::Once(Member::File(place))) => return Ok(*place),
                Some(Found::Once(Member::Other)) => return Err(no_file("no file")),
                Some(Found::Once(Member::Link(None))) => {
                    return Err(no_file("a link that leads out of the archive"));
                }
                Some(Found::Once(Member::Link(Some(target)))) => here.clone_from(target),
            }
        }
        Err(no_file("a link that leads round in a circle"))
    }

    /// A small file, whole.
    pub(crate) fn document(&self, name: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let place = self.place(name)?;
        if place.size > limit {
            let size = place.size;
            let name = shown(name.as_bytes());
            return Err(ArchiveError::Limit(format!("{name} has {size} bytes, more than {limit}")));
        }
        let mut bytes = Vec::new();
        let mut stream = self.upload.stream(place.offset)?.take(place.size);
        stream.read_to_end(&mut bytes).map_err(|error| self.upload.explain(error))?;
        if (bytes.len() as u64) < place.size {
            return Err(ArchiveError::Tar { at: place.offset, problem: "it is cut short" });
        }
        Ok(bytes)
    }

    /// A small file whose digest and size are known.
    pub(crate) fn checked_document(
        &self,
        name: &str,
        limit: u64,
        digest: Digest,
        size: Option<u64>,
    ) -> Result<Vec<u8>, ArchiveError> {
        let bytes = self.document(name, limit)?;
        let found = bytes.len() as u64;
        if let Some(expected) = size.filter(|size| *size != found) {
            return Err(ArchiveError::Size { name: shown(name.as_bytes()), expected, found });
        }
        let found = hash_bytes(&bytes);
        if found != digest {
            let name = shown(name.as_bytes());
            return Err(ArchiveError::Digest { name, expected: digest, found });
        }
        Ok(bytes)
    }
}

/// The reader of headers.
struct Walk<'a> {
    upload: &'a Upload,
    stream: Stream,
    /// Offset of the next byte.
    at: u64,
}

impl Walk<'_> {
    fn next_member(&mut self) -> Result<Option<(Vec<u8>, Member)>, ArchiveError> {
        let mut extended = Extended::default();
        loop {
            let start = self.at;
            let Some(block) = self.read_header()? else { return Ok(None) };
            let header = Header::from_byte_slice(&block);
            let bad = |problem| ArchiveError::Tar { at: start, problem };
            let size = header.entry_size().map_err(|_| bad("a size is no number"))?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let records = self.read_extended(size)?;
                    extended
                        .take_pax(&records)
                        .ok_or_else(|| bad("an extended header is malformed"))?;
                }
                EntryType::XGlobalHeader => self.skip(size)?,
                EntryType::GNULongName => {
                    extended.name = Some(until_nul(self.read_extended(size)?))
                }
                EntryType::GNULongLink => {
                    extended.link = Some(until_nul(self.read_extended(size)?))
                }
                kind => return self.begin(header, kind, size, extended).map(Some),
            }
        }
    }

    fn begin(
        &mut self,
        header: &Header,
        kind: EntryType,
        size: u64,
        extended: Extended,
    ) -> Result<(Vec<u8>, Member), ArchiveError> {
        let name = extended.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || {
            let own = || header.link_name_bytes().unwrap_or_default().into_owned();
            extended.link.clone().unwrap_or_else(own)
        };
        let directory = name.ends_with(b"/");
        let name = plain(&name);
        let member = match kind {
            EntryType::Regular | EntryType::Continuous if !directory => {
                let size = extended.size.unwrap_or(size);
                let offset = self.at;
                self.skip(size)?;
                Member::File(Place { offset, size })
            }
            // No archive of an image has sparse files; that of a root file system may.
            EntryType::GNUSparse => {
                let mut more = header.as_bytes().get(482) == Some(&1);
                while more {
                    let block = self.read_block()?;
                    more = block.get(504) == Some(&1);
                }
                self.skip(extended.size.unwrap_or(size))?;
                Member::Other
            }
            EntryType::Link => Member::Link(resolve(b"", &link())),
            EntryType::Symlink => {
                let parent = name.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                Member::Link(resolve(name.get(..parent).unwrap_or_default(), &link()))
            }
            _ => Member::Other,
        };
        Ok((name, member))
    }

    /// The next header; `None` at the end, marked or not.
    fn read_header(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        let start = self.at;
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.stream.read(rest) {
                Ok(0) if filled == 0 && start > 0 => return Ok(None),
                Ok(0) if start == 0 => return Err(ArchiveError::Unknown),
                Ok(0) => return Err(ArchiveError::Tar { at: start, problem: "it is cut short" }),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.upload.explain(error)),
            }
        }
        self.at += BLOCK as u64;
        if block == [0; BLOCK] {
            return Ok(None);
        }
        if is_header(&block) {
            return Ok(Some(block));
        }
        Err(match start {
            0 => ArchiveError::Unknown,
            at => ArchiveError::Tar { at, problem: "a header has a wrong sum" },
        })
    }

    fn read_block(&mut self) -> Result<[u8; BLOCK], ArchiveError> {
        let mut block = [0; BLOCK];
        let at = self.at;
        self.stream.read_exact(&mut block).map_err(|error| self.broken(at, error))?;
        self.at += BLOCK as u64;
        Ok(block)
    }

    /// The data of an extended header.
    fn read_extended(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > EXTENDED_LIMIT {
            let why = format!("an extended header has {size} bytes, more than {EXTENDED_LIMIT}");
            return Err(ArchiveError::Limit(why));
        }
        let at = self.at;
        let padded = padded(size).unwrap_or(size);
        let mut bytes = vec![0; padded as usize];
        self.stream.read_exact(&mut bytes).map_err(|error| self.broken(at, error))?;
        self.at += padded;
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    fn skip(&mut self, size: u64) -> Result<(), ArchiveError> {
        let at = self.at;
        let cut = ArchiveError::Tar { at, problem: "a size is beyond the end" };
        let Some(end) = padded(size).and_then(|padded| at.checked_add(padded)) else {
            return Err(cut);
        };
        self.stream.skip(end - at).map_err(|error| self.broken(at, error))?;
        self.at = end;
        Ok(())
    }

    fn broken(&self, at: u64, error: io::Error) -> ArchiveError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return ArchiveError::Tar { at, problem: "it is cut short" };
        }
        self.upload.explain(error)
    }
}

/// What an extended header says of the member behind it.
#[derive(Debug, Default)]
struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extended {
    fn take_pax(&mut self, records: &[u8]) -> Option<()> {
        for record in PaxExtensions::new(records) {
            let record = record.ok()?;
            match record.key_bytes() {
                b"path" => self.name = Some(record.value_bytes().to_vec()),
                b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                b"size" => self.size = Some(record.value().ok()?.parse().ok()?),
                _ => {}
            }
        }
        Some(())
    }
}

/// A name without `./` in front and `/` behind.
fn plain(name: &[u8]) -> Vec<u8> {
    let mut name = name;
    while let Some(rest) = name.strip_prefix(b"./") {
        name = rest;
    }
    while let Some(rest) = name.strip_suffix(b"/") {
        name = rest;
    }
    if name == b"." { Vec::new() } else { name.to_vec() }
}

/// The name that a link in `directory` leads to; `None` where that is not in the archive.
fn resolve(directory: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    if target.starts_with(b"/") || target.len() > NAME_LIMIT {
        return None;
    }
    let mut parts: Vec<&[u8]> = directory.split(|byte| *byte == b'/').collect();
    parts.retain(|part| !part.is_empty());
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// Compares a header's sum; the field of the sum counts as blanks. Old writers took bytes as signed.
fn is_header(block: &[u8; BLOCK]) -> bool {
    let Ok(stored) = Header::from_byte_slice(block).cksum() else { return false };
    let counted = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { b' ' } else { *byte };
    let bytes = || block.iter().enumerate().map(counted);
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte as i8)).sum();
    [unsigned, signed].contains(&i64::from(stored))
}

fn padded(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(BLOCK as u64)
}

const BLOCK: usize = 512;

/// The most members that an archive of images may have: each blob is one, and the oldest form has three for a layer.
const MEMBER_LIMIT: usize = 16_384;

/// The longest name that a member is remembered by: all of them are held in memory.
const NAME_LIMIT: usize = 4096;

/// The most links on the way to a layer; `docker save` wrote one.
const LINK_LIMIT: usize = 8;

/// Bytes of one extended header; the same as within layers.
const EXTENDED_LIMIT: u64 = 1 << 20;
