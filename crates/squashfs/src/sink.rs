//! The image file: bytes are gathered and written at their position, never read back.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::WriteError;

/// Appends to a file through positioned writes, so that nothing else that shares the descriptor is disturbed.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    file: &'a File,
    written: u64,
    pending: Vec<u8>,
}

impl<'a> Sink<'a> {
    /// Starts behind `reserved` bytes that are written last.
    pub(crate) fn new(file: &'a File, reserved: u64) -> Self {
        Self { file, written: reserved, pending: Vec::with_capacity(GATHER) }
    }

    /// Offset in the file at which the next byte will stand.
    pub(crate) fn position(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
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

    /// Appends zeros until the position is a multiple of `alignment`.
    pub(crate) fn align(&mut self, alignment: u64) -> Result<(), WriteError> {
        let missing = self.position().next_multiple_of(alignment) - self.position();
        let zeros = vec![0; missing as usize];
        self.append(&zeros)
    }

    /// Writes what is gathered, then `head` at the very start, and gives the file its exact length.
    pub(crate) fn finish(mut self, head: &[u8]) -> Result<u64, WriteError> {
        self.flush()?;
        self.file
            .set_len(self.written)
            .map_err(|source| WriteError::Length { length: self.written, source })?;
        write_at(self.file, head, 0)?;
        Ok(self.written)
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

/// Bytes gathered before a write: large enough that the number of calls does not matter.
const GATHER: usize = 1 << 20;
