//! The image file: bytes are gathered and written at their position, ranges of other files are copied; nothing is read
//! back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr;

use crate::error::WriteError;

/// Appends to a file through positioned writes, so that nothing else that shares the descriptor is disturbed.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    file: &'a File,
    written: u64,
    pending: Vec<u8>,
    /// Stands behind the pending bytes.
    range: Option<Range<'a>>,
    /// Whether the file system may do better than copying.
    shares: bool,
}

/// A part of another file that is to be copied.
#[derive(Debug)]
struct Range<'a> {
    file: &'a File,
    offset: u64,
    length: u64,
}

impl<'a> Sink<'a> {
    /// Starts behind `reserved` bytes that are written last.
    pub(crate) fn new(file: &'a File, reserved: u64) -> Self {
        let pending = Vec::with_capacity(GATHER);
        Self { file, written: reserved, pending, range: None, shares: may_share(file) }
    }

    /// Offset in the file at which the next byte will stand.
    pub(crate) fn position(&self) -> u64 {
        let range = self.range.as_ref().map_or(0, |range| range.length);
        self.written + self.pending.len() as u64 + range
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.copy_range()?;
        if self.pending.len() + bytes.len() > GATHER {
            self.flush()?;
        }
        if bytes.len() >= GATHER {
            write_at(self.file, bytes, self.written)?;
            self.written += bytes.len() as u64;
        } else {
            self.pending.extend_from_slice(bytes);
        }
        Ok(())
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
        self.flush()?;
        self.file
            .set_len(self.written)
            .map_err(|source| WriteError::Length { length: self.written, source })?;
        write_at(self.file, head, 0)?;
        Ok(self.written)
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
        self.gather(file, offset, length)
    }

    fn gather(&mut self, file: &File, mut offset: u64, mut length: u64) -> Result<(), WriteError> {
        while length > 0 {
            if self.pending.len() == GATHER {
                self.flush()?;
            }
            let from = self.pending.len();
            let count = length.min((GATHER - from) as u64);
            self.pending.resize(from + count as usize, 0);
            let room = self.pending.get_mut(from..).unwrap_or_default();
            if let Err(source) = file.read_exact_at(room, offset) {
                return Err(WriteError::Copy { offset, length: count, source });
            }
            offset += count;
            length -= count;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        write_at(self.file, &self.pending, self.written)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

fn write_at(file: &File, bytes: &[u8], offset: u64) -> Result<(), WriteError> {
    file.write_all_at(bytes, offset).map_err(|source| WriteError::Write {
        offset,
        length: bytes.len(),
        source,
    })
}

/// Tells whether the file system can share blocks between files, or copy them where they lie.
///
/// Everywhere else copy_file_range(2) goes through a pipe of sixteen pages: on ext4 with large folios that took five
/// times the processor time of reading and writing a megabyte at a time.
fn may_share(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|facts| SHARING.contains(&(facts.f_type as u32)))
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
/// What file systems share, at the least.
const PAGE: u64 = 4096;
/// Magic numbers (linux/magic.h and the file systems' own) of those that share blocks, and of network file systems whose
/// servers copy: btrfs, bcachefs, OCFS2, XFS, ZFS; Ceph, NFS, SMB in both its forms.
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
/// Below this, reading and writing costs no more than a call of its own.
const WORTH_A_CALL: u64 = 64 << 10;

#[cfg(test)]
mod tests;
