//! The image file: bytes are gathered and written at their position, ranges of other files are copied; nothing is read
//! back.
//!
//! On local disks the page cache is passed by (O_DIRECT): nobody reads the image here, and pages cost more time than the
//! bytes in them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr;

use rustix::fs::OFlags;

use crate::error::WriteError;
use crate::pages::Pages;

/// Appends to a file through positioned writes, so that nothing else that shares the descriptor is disturbed.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    file: &'a File,
    /// A multiple of [`PAGE`].
    written: u64,
    pending: Pages,
    /// The file's first page, which is written again at the end.
    first: Vec<u8>,
    /// Stands behind the pending bytes.
    range: Option<Range<'a>>,
    /// Whether the file system may do better than copying.
    shares: bool,
    /// Whether the page cache is passed by.
    direct: bool,
}

/// A part of another file that is to be copied.
#[derive(Debug)]
struct Range<'a> {
    file: &'a File,
    offset: u64,
    length: u64,
}

impl<'a> Sink<'a> {
    /// Starts behind `reserved` bytes, less than a page, that are written last.
    pub(crate) fn new(file: &'a File, reserved: usize) -> Self {
        let mut pending = Pages::new(GATHER);
        pending.extend(&vec![0; reserved]);
        let kind = rustix::fs::fstatfs(file).map_or(0, |facts| facts.f_type as u32);
        Self {
            file,
            written: 0,
            pending,
            first: Vec::new(),
            range: None,
            shares: SHARING.contains(&kind),
            direct: LOCAL.contains(&kind) && set_direct(file, true),
        }
    }

    /// Offset in the file at which the next byte will stand.
    pub(crate) fn position(&self) -> u64 {
        let range = self.range.as_ref().map_or(0, |range| range.length);
        self.written + self.pending.len() as u64 + range
    }

    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        self.copy_range()?;
        loop {
            let taken = self.pending.extend(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            self.flush()?;
        }
    }

    /// Appends `length` bytes of `source` from `offset` on; ranges that continue each other are copied as one.
    pub(crate) fn copy_from(
        &mut self,
        source: &'a File,
        offset: u64,
        length: u64,
    ) -> Result<(), WriteError> {
        match &mut self.range {
            Some(range) if ptr::eq(range.file, source) && range.offset + range.length == offset => {
                range.length += length;
            }
            _ => {
                self.copy_range()?;
                self.range = Some(Range { file: source, offset, length });
            }
        }
        Ok(())
    }

    /// Appends zeros until the position is a multiple of `alignment`.
    pub(crate) fn align(&mut self, alignment: u64) -> Result<(), WriteError> {
        let missing = self.position().next_multiple_of(alignment) - self.position();
        let zeros = vec![0; missing as usize];
        self.append(&zeros)
    }

    /// Writes what is gathered, then `head` at the very start, and gives the file its exact length.
    pub(crate) fn finish(mut self, head: &[u8]) -> Result<u64, WriteError> {
        self.copy_range()?;
        let length = self.position();
        let rest = self.pending.len().next_multiple_of(PAGE as usize) - self.pending.len();
        self.append(&vec![0; rest])?;
        self.flush()?;
        self.written = 0;
        self.pending.extend(head);
        self.pending.extend(self.first.get(head.len()..).unwrap_or_default());
        self.flush()?;
        // Less than what was written, by what fills the last page.
        self.file.set_len(length).map_err(|source| WriteError::Length { length, source })?;
        Ok(length)
    }

    /// Copies the range that waits.
    ///
    /// What lies on both sides of whole pages goes through the gathered bytes, so that the part between them starts at
    /// a page of this file: where it does so in the source as well, a file system that can shares it.
    fn copy_range(&mut self) -> Result<(), WriteError> {
        let Some(Range { file, mut offset, mut length }) = self.range.take() else { return Ok(()) };
        let position = self.written + self.pending.len() as u64;
        let head = position.next_multiple_of(PAGE) - position;
        if self.shares && length >= head + WORTH_A_CALL {
            self.gather(file, offset, head)?;
            self.flush()?;
            let pages = (length - head) / PAGE * PAGE;
            let copied = copy_pages(file, offset + head, self.file, self.written, pages);
            self.written += copied;
            offset += head + copied;
            length -= head + copied;
        }
        // The tail, and all that the system would not copy.
        let direct = self.direct && length >= WORTH_A_CALL && set_direct(file, true);
        let gathered = self.gather(file, offset, length);
        if direct {
            set_direct(file, false);
        }
        gathered
    }

    /// Appends bytes of another file, whole pages of both at once where it can.
    fn gather(&mut self, file: &File, mut offset: u64, mut length: u64) -> Result<(), WriteError> {
        while length > 0 {
            if self.pending.room() == 0 {
                self.flush()?;
            }
            let room = self.pending.room() as u64;
            let into_page = self.pending.len() as u64 % PAGE;
            let count = match (offset % PAGE, into_page) {
                (0, 0) if length >= PAGE => length.min(room) / PAGE * PAGE,
                _ => length.min(room),
            };
            self.pending
                .fill(count as usize, |room| read_at(file, room, offset))
                .map_err(|source| WriteError::Copy { offset, length: count, source })?;
            offset += count;
            length -= count;
        }
        Ok(())
    }

    /// Writes all whole pages that are gathered.
    fn flush(&mut self) -> Result<(), WriteError> {
        let pages = self.pending.whole_pages();
        if self.written == 0 && self.first.is_empty() {
            self.first = pages.get(..PAGE as usize).unwrap_or_default().to_vec();
        }
        let length = pages.len();
        write_at(self.file, pages, self.written).map_err(|source| WriteError::Write {
            offset: self.written,
            length,
            source,
        })?;
        self.written += length as u64;
        self.pending.remove(length);
        Ok(())
    }
}

impl Drop for Sink<'_> {
    /// Leaves the file as whoever else has it expects it: to be read and written at any byte.
    fn drop(&mut self) {
        if self.direct {
            set_direct(self.file, false);
        }
    }
}

/// Writes, through the page cache after all where the disk's sectors are larger than our pages.
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    match file.write_all_at(bytes, offset) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput && set_direct(file, false) => {
            file.write_all_at(bytes, offset)
        }
        result => result,
    }
}

/// As [`write_at`]; also where a range does not lie on pages.
fn read_at(file: &File, room: &mut [u8], offset: u64) -> io::Result<()> {
    match file.read_exact_at(room, offset) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput && set_direct(file, false) => {
            file.read_exact_at(room, offset)
        }
        result => result,
    }
}

/// Has the page cache passed by for this open file, or not; tells whether that is so now.
fn set_direct(file: &File, direct: bool) -> bool {
    let flags = if direct { OFlags::DIRECT } else { OFlags::empty() };
    rustix::fs::fcntl_setfl(file, flags).is_ok()
}

/// Lets the system copy as many bytes as it will, by sharing them where the file system can, and returns how many.
///
/// It may refuse for reasons that do not matter (other file systems, an old kernel) and for ones that do (a full disk,
/// a source that has shrunk). Copying the rest by hand tells them apart.
fn copy_pages(from: &File, from_offset: u64, to: &File, to_offset: u64, length: u64) -> u64 {
    let mut copied = 0;
    while copied < length {
        let (mut source, mut target) = (from_offset + copied, to_offset + copied);
        let left = usize::try_from(length - copied).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), left) {
            Ok(0) => break,
            Ok(count) => copied += count as u64,
            Err(error) if io::Error::from(error).kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    copied
}

/// Bytes gathered before a write: large enough that the number of calls does not matter.
const GATHER: usize = 1 << 20;
/// What file systems share, at the least, and what O_DIRECT goes by.
const PAGE: u64 = crate::pages::PAGE as u64;
/// Magic numbers (linux/magic.h and the file systems' own) of those that share blocks, and of network file systems whose
/// servers copy: btrfs, bcachefs, OCFS2, XFS, ZFS; Ceph, NFS, SMB in both its forms.
///
/// Everywhere else copy_file_range(2) goes through a pipe of sixteen pages: on ext4 with large folios that took five
/// times the processor time of reading and writing a megabyte at a time.
const SHARING: [u32; 9] = [
    0x9123_683e,
    0xca45_1a4e,
    0x7461_636f,
    0x5846_5342,
    0x2fc1_2fc1,
    0x00c3_6400,
    0x6969,
    0xfe53_4d42,
    0xff53_4d42,
];
/// ext4 and XFS, where it was measured. Over a network one write after the other may be slower than the page cache.
const LOCAL: [u32; 2] = [0xef53, 0x5846_5342];
/// Below this, reading and writing costs no more than a call of its own.
const WORTH_A_CALL: u64 = 64 << 10;

#[cfg(test)]
mod tests;
