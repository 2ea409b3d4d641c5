//! Gzip streams (RFC 1952) of any number of members.
//!
//! Neither the CRC-32 nor the length at the end of a member is looked at: the caller checks the SHA-256 of what goes
//! in and of what comes out, and a CRC over gigabytes is not free.

use std::io::{self, Read};

use flate2::{Decompress, FlushDecompress, Status};

/// Decompresses what `input` gives.
#[derive(Debug)]
pub(crate) struct Gunzip<R> {
    input: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    state: State,
    inflate: Decompress,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Header,
    Body,
    /// Behind a member: another one, zeros, or the end.
    Between,
    End,
}

impl<R: Read> Gunzip<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; BUFFER].into(),
            start: 0,
            end: 0,
            state: State::Header,
            inflate: Decompress::new(false),
        }
    }

    pub(crate) fn get_ref(&self) -> &R {
        &self.input
    }

    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    fn read_header(&mut self) -> io::Result<()> {
        let mut head = [0; 10];
        for byte in &mut head {
            *byte = self.next_byte()?;
        }
        let [0x1f, 0x8b, 8, flags, ..] = head else {
            return Err(invalid("there is no gzip header where one must be"));
        };
        if flags & RESERVED != 0 {
            return Err(invalid("a gzip header has reserved flags"));
        }
        if flags & EXTRA != 0 {
            let length = u16::from_le_bytes([self.next_byte()?, self.next_byte()?]);
            for _ in 0..length {
                self.next_byte()?;
            }
        }
        for text in [NAME, COMMENT] {
            if flags & text != 0 {
                while self.next_byte()? != 0 {}
            }
        }
        if flags & HEADER_CRC != 0 {
            self.next_byte()?;
            self.next_byte()?;
        }
        self.inflate.reset(false);
        Ok(())
    }

    /// Inflates into `out` until there are bytes or the member ends.
    fn read_body(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let at_end = self.start == self.end && !self.fill()?;
            let input = self.buffer.get(self.start..self.end).unwrap_or_default();
            let (taken, given) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(input, out, FlushDecompress::None)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            self.start += (self.inflate.total_in() - taken) as usize;
            let produced = (self.inflate.total_out() - given) as usize;
            if status == Status::StreamEnd {
                for _ in 0..TRAILER {
                    self.next_byte()?;
                }
                self.state = State::Between;
                return Ok(produced);
            }
            if produced > 0 {
                return Ok(produced);
            }
            if at_end {
                return Err(cut_off());
            }
        }
    }

    /// Looks for another member; zeros up to the end are padding, as tape and `dd` leave it.
    fn read_between(&mut self) -> io::Result<()> {
        if self.start == self.end && !self.fill()? {
            self.state = State::End;
            return Ok(());
        }
        if self.buffer.get(self.start) != Some(&0) {
            self.state = State::Header;
            return Ok(());
        }
        loop {
            let rest = self.buffer.get(self.start..self.end).unwrap_or_default();
            if rest.iter().any(|byte| *byte != 0) {
                return Err(invalid("there is something else behind the gzip stream"));
            }
            if !self.fill()? {
                self.state = State::End;
                return Ok(());
            }
        }
    }

    fn next_byte(&mut self) -> io::Result<u8> {
        if self.start == self.end && !self.fill()? {
            return Err(cut_off());
        }
        let byte = self.buffer.get(self.start).copied().ok_or_else(cut_off)?;
        self.start += 1;
        Ok(byte)
    }

    /// Replaces the buffer, which must have been used up; `false` at the end of the input.
    fn fill(&mut self) -> io::Result<bool> {
        self.start = 0;
        self.end = 0;
        self.end = self.input.read(&mut self.buffer)?;
        Ok(self.end > 0)
    }
}

impl<R: Read> Read for Gunzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::Header => {
                    self.read_header()?;
                    self.state = State::Body;
                }
                State::Body => {
                    let produced = self.read_body(out)?;
                    if produced > 0 {
                        return Ok(produced);
                    }
                }
                State::Between => self.read_between()?,
                State::End => return Ok(0),
            }
        }
    }
}

fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the gzip stream is cut off")
}

/// A download comes through a pipe of 1 MiB, whose two ends wake each other once for each read: the fewer, the better. What
/// is read must still fit in a cache beside what comes of it.
const BUFFER: usize = 256 << 10;
/// CRC-32 and length, four bytes each.
const TRAILER: usize = 8;
const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder};

    use super::*;

    fn member(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzBuilder::new()
            .filename("name")
            .comment("comment")
            .extra(vec![1, 2, 3])
            .write(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn gunzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Gunzip::new(bytes).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn members_follow_each_other_and_zeros_may_end_them() {
        let mut bytes = member(b"first ");
        bytes.extend(member(b""));
        bytes.extend(member(b"second"));
        bytes.extend([0; 100_000]);
        assert_eq!(gunzip(&bytes).unwrap(), b"first second");
    }

    #[test]
    fn anything_else_behind_a_member_is_refused() {
        for garbage in [&b"x"[..], b"\0\0\0x", b"\x1f\x8b\x08"] {
            let bytes = [&member(b"content"), garbage].concat();
            assert!(gunzip(&bytes).is_err(), "{garbage:?}");
        }
    }

    #[test]
    fn a_stream_that_is_cut_off_anywhere_is_refused() {
        let bytes = member(&b"0123456789".repeat(1000));
        for length in 0..bytes.len() {
            let error = gunzip(&bytes[..length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
    }
}
