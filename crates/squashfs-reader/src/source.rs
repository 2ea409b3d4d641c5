//! Where an image is read from: a file, a part of a file, or memory.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Something with a length that can be read at any offset, without a position that readers would share.
pub trait ReadAt {
    /// The number of bytes there are.
    fn length(&self) -> io::Result<u64>;

    /// Fills `bytes` from `offset` on, or fails with [`io::ErrorKind::UnexpectedEof`] where fewer are left.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn length(&self) -> io::Result<u64> {
        // Not by stat(2), which a sandbox may forbid. Nobody reads at the file's position.
        let mut file = self;
        file.seek(SeekFrom::End(0))
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, offset)
    }
}

impl ReadAt for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let part = usize::try_from(offset)
            .ok()
            .and_then(|from| self.get(from..from.checked_add(bytes.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(part);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn length(&self) -> io::Result<u64> {
        self.as_slice().length()
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(bytes, offset)
    }
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    fn length(&self) -> io::Result<u64> {
        (**self).length()
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(bytes, offset)
    }
}

impl<S: ReadAt + ?Sized> ReadAt for Arc<S> {
    fn length(&self) -> io::Result<u64> {
        (**self).length()
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(bytes, offset)
    }
}

/// A part of something larger, such as a partition of a SIF file.
#[derive(Clone, Debug)]
pub struct Section<S> {
    source: S,
    start: u64,
    length: u64,
}

impl<S: ReadAt> Section<S> {
    /// Takes `length` bytes from `start` on; what would lie behind the end of `source` is cut off.
    pub fn new(source: S, start: u64, length: u64) -> io::Result<Self> {
        let length = length.min(source.length()?.saturating_sub(start));
        Ok(Self { source, start, length })
    }
}

impl<S: ReadAt> ReadAt for Section<S> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let from = self.start.checked_add(offset).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.source.read_exact_at(bytes, from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_where_it_says_and_never_behind_its_source() {
        let bytes = b"0123456789".to_vec();
        let section = Section::new(&bytes, 2, 5).unwrap();
        let mut two = [0; 2];
        section.read_exact_at(&mut two, 3).unwrap();
        assert_eq!(&two, b"56");
        for offset in [4, 5, u64::MAX, u64::MAX - 1] {
            assert!(section.read_exact_at(&mut two, offset).is_err(), "{offset}");
        }
        assert_eq!(Section::new(&bytes, 8, 5).unwrap().length().unwrap(), 2);
        assert_eq!(Section::new(&bytes, 80, 5).unwrap().length().unwrap(), 0);
    }
}
