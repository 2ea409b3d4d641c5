//! The bytes of an upload: any range of it, and what they are once decompressed.
//!
//! Everything reads by position, so that several readers share one descriptor. Of a compressed archive each reader
//! decompresses anew from the start: that costs time and saves a temporary file.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use crate::error::ArchiveError;

/// An uploaded file.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    file: Arc<File>,
    size: u64,
    packing: Packing,
    /// The most bytes that come out of a decompressor, or of a squashfs.
    expanded_limit: u64,
}

/// How an upload is compressed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    /// By the first bytes.
    pub(crate) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

impl Upload {
    pub(crate) fn open(file: File, expanded_limit: u64) -> Result<Self, ArchiveError> {
        // Not by its metadata: the converter's sandbox has no statx.
        let size = (&file).seek(SeekFrom::End(0)).map_err(ArchiveError::Read)?;
        let mut upload =
            Self { file: Arc::new(file), size, packing: Packing::None, expanded_limit };
        upload.packing = Packing::of(&upload.raw_head(0, 4)?);
        Ok(upload)
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The most bytes that may come out of what is in it.
    pub(crate) fn expanded_limit(&self) -> u64 {
        self.expanded_limit
    }

    pub(crate) fn packing(&self) -> Packing {
        self.packing
    }

    /// Tells whether these bytes stand at that offset of the file as it is.
    pub(crate) fn starts_with(&self, offset: u64, magic: &[u8]) -> Result<bool, ArchiveError> {
        Ok(self.raw_head(offset, magic.len())? == magic)
    }

    /// What kind of file it is, where it is one that is known and of no use.
    pub(crate) fn foreign(&self) -> Result<Option<&'static str>, ArchiveError> {
        for (offset, magic, what) in FOREIGN {
            if self.starts_with(*offset, magic)? {
                return Ok(Some(what));
            }
        }
        Ok(None)
    }

    /// Up to `length` bytes at that offset of the file as it is.
    pub(crate) fn raw_head(&self, offset: u64, length: usize) -> Result<Vec<u8>, ArchiveError> {
        let mut head = Vec::new();
        let mut section = self.section(offset, length as u64);
        section.read_to_end(&mut head).map_err(ArchiveError::Read)?;
        Ok(head)
    }

    /// A range of the file as it is, cut where the file ends.
    pub(crate) fn section(&self, offset: u64, length: u64) -> Section {
        let end = offset.saturating_add(length).min(self.size);
        Section { file: Arc::clone(&self.file), start: offset.min(end), at: offset.min(end), end }
    }

    /// The decompressed bytes from that offset on.
    pub(crate) fn stream(&self, offset: u64) -> Result<Stream, ArchiveError> {
        let input = |from| BufReader::with_capacity(BUFFER, self.section(from, u64::MAX));
        let unpacked: Box<dyn Read + Send> = match self.packing {
            Packing::None => return Ok(Stream::Plain(input(offset.min(self.size)))),
            Packing::Gzip => Box::new(MultiGzDecoder::new(input(0))),
            Packing::Zstd => {
                let broken = |source| ArchiveError::Unpack { packing: "zstd", source };
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(input(0)).map_err(broken)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(broken)?;
                Box::new(decoder)
            }
        };
        let bounded = Bounded { inner: unpacked, left: self.expanded_limit };
        let mut stream = Stream::Packed(BufReader::with_capacity(BUFFER, bounded));
        stream.skip(offset).map_err(|error| self.explain(error))?;
        Ok(stream)
    }

    /// What an error means that reading a stream gave.
    pub(crate) fn explain(&self, error: io::Error) -> ArchiveError {
        if error.get_ref().is_some_and(|inner| inner.is::<Exceeded>()) {
            return ArchiveError::expanded(self.expanded_limit);
        }
        match self.packing {
            Packing::None => ArchiveError::Read(error),
            Packing::Gzip => ArchiveError::Unpack { packing: "gzip", source: error },
            Packing::Zstd => ArchiveError::Unpack { packing: "zstd", source: error },
        }
    }
}

/// A range of a file; reads by position.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    file: Arc<File>,
    start: u64,
    at: u64,
    end: u64,
}

impl Section {
    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }

    /// The same range for the reader of squashfs.
    pub(crate) fn into_range(self) -> io::Result<squashfs_reader::Section<Arc<File>>> {
        squashfs_reader::Section::new(self.file, self.start, self.end - self.start)
    }
}

impl Read for Section {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let length = out.len().min(left);
        let count = self.file.read_at(out.get_mut(..length).unwrap_or_default(), self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Section {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => self.start.checked_add(offset),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
        };
        match target.filter(|at| (self.start..=self.end).contains(at)) {
            Some(at) => {
                self.at = at;
                Ok(at - self.start)
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// The decompressed bytes of an upload, from some offset on.
pub(crate) enum Stream {
    Plain(BufReader<Section>),
    Packed(BufReader<Bounded>),
}

impl Stream {
    /// Goes on without reading; an error where that leads beyond the end.
    pub(crate) fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match self {
            Self::Plain(input) => {
                let by = i64::try_from(bytes).map_err(|_| io::ErrorKind::UnexpectedEof)?;
                input.seek_relative(by)
            }
            Self::Packed(input) => {
                let skipped = io::copy(&mut input.take(bytes), &mut io::sink())?;
                if skipped == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(out),
            Self::Packed(input) => input.read(out),
        }
    }
}

/// A decompressor that gives only so much.
pub(crate) struct Bounded {
    inner: Box<dyn Read + Send>,
    left: u64,
}

impl Read for Bounded {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.left =
            self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other(Exceeded))?;
        Ok(count)
    }
}

/// More bytes than allowed came out of a decompressor.
#[derive(Debug, thiserror::Error)]
#[error("more bytes than allowed")]
struct Exceeded;

const BUFFER: usize = 64 << 10;

/// 128 MiB: what a decompressor may allocate, whatever the frame asks for; the same as for layers.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Files that people try; an offset, what stands there, and what to say.
const FOREIGN: &[(u64, &[u8], &str)] = &[
    (0, b"\xfd7zXZ\0", "compressed by xz: decompress it first (`xz -d`)"),
    (0, b"BZh", "compressed by bzip2: decompress it first (`bzip2 -d`)"),
    (0, b"PK\x03\x04", "a zip archive, which is no image"),
    (0, b"sqsh", "a squashfs of the other byte order, which Linux does not mount either"),
    (0, b"\x7fELF", "a program, not an image"),
    (
        0x438,
        b"\x53\xef",
        "an ext file system, which cannot be imported; a squashfs or a tar archive of it can",
    ),
];
