//! A reader of tar archives: V7, ustar, star, GNU and PAX headers, sparse files in all four of their forms.
//!
//! It gives what the headers say, in order, with everything that an extended header overrides already applied, and the
//! data of each file. It judges no names and creates nothing. Where formats leave room, it follows Go's `archive/tar`,
//! because that is what Docker and containerd read the same layer with: a difference would let one archive mean two
//! things (CVE-2025-62518).

mod header;
mod pax;
mod sparse;

use std::io::{self, BufRead};

use crate::limits::{Limit, LimitExceeded, check};
use header::{Block, Header};
use pax::Extended;
pub(crate) use sparse::Segment;

/// One entry of an archive.
#[derive(Debug)]
pub(crate) struct Member {
    /// The name as it is written, possibly absolute or with `..`.
    pub name: Vec<u8>,
    pub kind: MemberKind,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Seconds since 1970, fractions rounded down.
    pub mtime: i64,
    /// The target of a link.
    pub link: Vec<u8>,
    /// Size of the file, holes included; 0 for everything that is not a file.
    pub size: u64,
    /// Which parts of the file the archive holds, if not all of it.
    pub sparse: Option<Vec<Segment>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberKind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// Reads the members of the archive that `input` gives, one after the other.
#[derive(Debug)]
pub(crate) struct Archive<R> {
    input: R,
    /// Bytes read so far.
    offset: u64,
    /// Bytes left of the current member's data, and of the padding behind them.
    data: u64,
    padding: u64,
    header_limit: u64,
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(input: R, header_limit: u64) -> Self {
        Self { input, offset: 0, data: 0, padding: 0, header_limit }
    }

    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    /// Goes to the next member, skipping what was not read of the current one; `None` at the end of the archive.
    ///
    /// What stands behind the end is left to the caller. An archive without an end marker ends where its bytes do.
    pub(crate) fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        self.skip_data()?;
        let mut extended = Extended::default();
        loop {
            let at = self.offset;
            let Some(header) = self.read_header()? else {
                return if extended.is_empty() {
                    Ok(None)
                } else {
                    Err(malformed(at, TarProblem::ExtendedHeaderAlone))
                };
            };
            match header.kind {
                b'x' => {
                    let records = self.read_small(header.size)?;
                    extended.take_pax(&records).map_err(|problem| malformed(at, problem))?;
                }
                // Docker passes global headers over, so they mean nothing in an image; `git archive` writes one.
                b'g' => self.begin_data(at, header.size).and_then(|()| self.skip_data())?,
                b'L' => extended.long_name = Some(until_nul(self.read_small(header.size)?)),
                b'K' => extended.long_link = Some(until_nul(self.read_small(header.size)?)),
                _ => return self.begin_member(at, header, extended).map(Some),
            }
        }
    }

    fn begin_member(
        &mut self,
        at: u64,
        header: Header,
        extended: Extended,
    ) -> Result<Member, TarError> {
        let bad = |problem| malformed(at, problem);
        let Extended { long_name, path, mut sparse, .. } = extended;
        let name = long_name.or(sparse.name.take()).or(path).unwrap_or(header.name);
        let kind = match header.kind {
            0 if name.ends_with(b"/") => MemberKind::Directory,
            0 | b'0' | b'7' | b'S' => MemberKind::File,
            b'1' => MemberKind::HardLink,
            b'2' => MemberKind::Symlink,
            b'3' => MemberKind::CharDevice,
            b'4' => MemberKind::BlockDevice,
            b'5' => MemberKind::Directory,
            b'6' => MemberKind::Fifo,
            other => return Err(bad(TarProblem::Type(other))),
        };
        let stored = match kind {
            MemberKind::File => extended.size.unwrap_or(header.size),
            _ => 0,
        };
        self.begin_data(at, stored)?;
        let mut member = Member {
            name,
            kind,
            mode: header.mode,
            mtime: extended.mtime.unwrap_or(header.mtime),
            link: extended.long_link.or(extended.link).unwrap_or(header.link),
            size: stored,
            sparse: None,
        };
        if kind == MemberKind::File {
            let map = if header.kind == b'S' {
                Some(self.read_old_gnu_map(&header.block)?)
            } else {
                match sparse.into_map().map_err(bad)? {
                    pax::SparseMap::None => None,
                    pax::SparseMap::Listed(map) => Some(map),
                    pax::SparseMap::InData { size } => {
                        Some(sparse::Map { segments: self.read_data_map(at)?, size })
                    }
                }
            };
            if let Some(map) = map {
                map.check(self.data).map_err(bad)?;
                member.size = map.size;
                member.sparse = Some(map.segments);
            }
        }
        Ok(member)
    }

    /// Reads the map of an old GNU sparse header and of the blocks that continue it.
    fn read_old_gnu_map(&mut self, block: &Block) -> Result<sparse::Map, TarError> {
        let at = self.offset;
        let bad = |problem| malformed(at, problem);
        let (size, mut segments, mut more) = sparse::parse_old_header(block).map_err(bad)?;
        // These blocks belong to the header: they are not counted in the size of the member.
        while more {
            check(Limit::HeaderBytes, segments.len() as u64 * 24, self.header_limit)
                .map_err(TarError::Limit)?;
            let block = self.read_block()?.ok_or(bad(TarProblem::CutOff))?;
            more = sparse::parse_old_continuation(&block, &mut segments).map_err(bad)?;
        }
        Ok(sparse::Map { segments, size })
    }

    /// Reads the map that PAX format 1.0 puts in front of the data: decimal numbers, one a line, padded to 512 bytes.
    fn read_data_map(&mut self, at: u64) -> Result<Vec<Segment>, TarError> {
        let mut map = sparse::DataMap::default();
        let mut taken = 0;
        loop {
            let mut block: Block = [0; 512];
            if self.data < block.len() as u64 {
                return Err(malformed(at, TarProblem::SparseMap));
            }
            taken += block.len() as u64;
            check(Limit::HeaderBytes, taken, self.header_limit).map_err(TarError::Limit)?;
            self.fill(&mut block)?;
            self.data -= block.len() as u64;
            if let Some(segments) = map.take(&block).map_err(|problem| malformed(at, problem))? {
                return Ok(segments);
            }
        }
    }

    fn read_header(&mut self) -> Result<Option<Header>, TarError> {
        let at = self.offset;
        let Some(block) = self.read_block()? else { return Ok(None) };
        if block == [0; 512] {
            return match self.read_block()? {
                None | Some([0, ..]) => Ok(None),
                Some(_) => Err(malformed(at, TarProblem::LoneZeroBlock)),
            };
        }
        header::parse(&block).map(Some).map_err(|problem| malformed(at, problem))
    }

    /// The data of an extended header, which is kept in memory and so must be small.
    fn read_small(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        check(Limit::HeaderBytes, size, self.header_limit).map_err(TarError::Limit)?;
        self.begin_data(self.offset, size)?;
        let mut bytes = vec![0; size as usize];
        self.fill(&mut bytes)?;
        self.data = 0;
        self.skip_data()?;
        Ok(bytes)
    }

    fn begin_data(&mut self, at: u64, size: u64) -> Result<(), TarError> {
        // No archive is this long; refusing keeps every later sum within 64 bits.
        if size > i64::MAX as u64 {
            return Err(malformed(at, TarProblem::Number("size")));
        }
        self.data = size;
        self.padding = size.next_multiple_of(512) - size;
        Ok(())
    }

    fn skip_data(&mut self) -> Result<(), TarError> {
        let left = self.data + self.padding;
        self.pass(left, |_| {})?;
        self.data = 0;
        self.padding = 0;
        Ok(())
    }

    /// The next 512 bytes, or `None` if the archive ends before them.
    fn read_block(&mut self) -> Result<Option<Block>, TarError> {
        let mut block = [0; 512];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest).map_err(TarError::Read)? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(malformed(self.offset, TarProblem::CutOff)),
                length => filled += length,
            }
        }
        self.offset += 512;
        Ok(Some(block))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), TarError> {
        self.input.read_exact(bytes).map_err(|error| match error.kind() {
            // Decompressors report their own cut off streams with a message; `read_exact` has none of ours.
            io::ErrorKind::UnexpectedEof if error.get_ref().is_none() => {
                malformed(self.offset, TarProblem::CutOff)
            }
            _ => TarError::Read(error),
        })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Gives the next `length` bytes to `take`, in pieces as they are in the buffer.
    fn pass(&mut self, length: u64, mut take: impl FnMut(&[u8])) -> Result<(), TarError> {
        let mut left = length;
        while left > 0 {
            let piece = match self.input.fill_buf() {
                Ok([]) => return Err(malformed(self.offset, TarProblem::CutOff)),
                Ok(bytes) => bytes.get(..left as usize).unwrap_or(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(TarError::Read(error)),
            };
            take(piece);
            let length = piece.len();
            self.input.consume(length);
            left -= length as u64;
        }
        self.offset += length;
        Ok(())
    }

    /// Appends `length` bytes of the current member's data to `bytes`; the member must have as many left.
    pub(crate) fn append_data(&mut self, length: u64, bytes: &mut Vec<u8>) -> Result<(), TarError> {
        self.data =
            self.data.checked_sub(length).ok_or(malformed(self.offset, TarProblem::SparseMap))?;
        self.pass(length, |piece| bytes.extend_from_slice(piece))
    }

    /// Reads data of the current member into all of `bytes`, of which the member must have as many left.
    pub(crate) fn read_data(&mut self, bytes: &mut [u8]) -> Result<(), TarError> {
        let length = bytes.len() as u64;
        self.data =
            self.data.checked_sub(length).ok_or(malformed(self.offset, TarProblem::SparseMap))?;
        self.fill(bytes)
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn malformed(offset: u64, problem: TarProblem) -> TarError {
    TarError::Malformed { offset, problem }
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The bytes could not be read.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// The bytes are wrong.
    #[error("at byte {offset}: {problem}")]
    Malformed {
        /// Where the header stands that is wrong, or begins what is wrong.
        offset: u64,
        /// What is wrong.
        problem: TarProblem,
    },
    /// An extended header is too large.
    #[error("an extended header is too large")]
    Limit(#[source] LimitExceeded),
}

/// What can be wrong in an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TarProblem {
    /// It ends in the middle of a header or of data.
    #[error("the archive is cut off")]
    CutOff,
    /// The sum over the header is not the one that it holds.
    #[error("the checksum of a header is wrong")]
    Checksum,
    /// A numeric field does not hold a number, or not a possible one.
    #[error("the {0} in a header is not a valid number")]
    Number(&'static str),
    /// A zero block is followed by one that is not.
    #[error("a single block of zeros stands between entries")]
    LoneZeroBlock,
    /// An extended header is followed by the end.
    #[error("an extended header has no entry behind it")]
    ExtendedHeaderAlone,
    /// A PAX record is malformed.
    #[error("a PAX record is malformed")]
    PaxRecord,
    /// A sparse map is malformed, or does not fit its file.
    #[error("a sparse map is malformed or does not fit its file")]
    SparseMap,
    /// The type is none that layers have.
    #[error("there is no entry type `{}`", .0.escape_ascii())]
    Type(u8),
}
