//! Tar headers in GNU's form, which has room for any name, number and map of holes without records of text.

/// What one entry of an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    HardLink,
    Symlink,
    Character,
    Block,
    Directory,
    Fifo,
}

/// One entry, without its data.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub kind: EntryKind,
    pub path: &'a [u8],
    pub link: &'a [u8],
    pub mode: u16,
    pub owners: [u32; 2],
    pub mtime: u32,
    /// Bytes of a file, holes included.
    pub size: u64,
    /// Major and minor number.
    pub device: [u32; 2],
    /// The parts of a file that are not holes; `None` where there are no holes worth leaving out.
    pub segments: Option<&'a [Segment]>,
}

/// A part of a file that stands in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// Appends the header of an entry, with the headers for a long name or link target before it, and the rest of a long map
/// behind it.
pub(crate) fn append_header(entry: &Entry<'_>, out: &mut Vec<u8>) {
    for (kind, text) in [(b'K', entry.link), (b'L', entry.path)] {
        if text.len() > NAME_ROOM {
            append_long(kind, text, out);
        }
    }
    let (kind, stored) = match (entry.kind, entry.segments) {
        (EntryKind::File, Some(segments)) => {
            (b'S', segments.iter().map(|segment| segment.length).sum())
        }
        (EntryKind::File, None) => (b'0', entry.size),
        (EntryKind::HardLink, _) => (b'1', 0),
        (EntryKind::Symlink, _) => (b'2', 0),
        (EntryKind::Character, _) => (b'3', 0),
        (EntryKind::Block, _) => (b'4', 0),
        (EntryKind::Directory, _) => (b'5', 0),
        (EntryKind::Fifo, _) => (b'6', 0),
    };
    let mut header = Header::new(kind, entry.path);
    header.number(100, 8, entry.mode.into());
    header.number(108, 8, u64::from(entry.owners[0]));
    header.number(116, 8, u64::from(entry.owners[1]));
    header.number(124, 12, stored);
    header.number(136, 12, entry.mtime.into());
    header.text(157, NAME_ROOM, entry.link);
    if matches!(entry.kind, EntryKind::Character | EntryKind::Block) {
        header.number(329, 8, entry.device[0].into());
        header.number(337, 8, entry.device[1].into());
    }
    let mut rest: &[Segment] = &[];
    if let Some(segments) = entry.segments {
        let (first, later) = segments.split_at(segments.len().min(FIRST_SEGMENTS));
        header.segments(386, first);
        header.text(482, 1, &[u8::from(!later.is_empty())]);
        header.number(483, 12, entry.size);
        rest = later;
    }
    header.append(out);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(MORE_SEGMENTS));
        let mut block = Header { bytes: [0; BLOCK] };
        block.segments(0, now);
        block.text(504, 1, &[u8::from(!later.is_empty())]);
        out.extend_from_slice(&block.bytes);
        rest = later;
    }
}

/// Zeros that fill the last block of `length` bytes of data.
pub(crate) fn padding(length: u64) -> usize {
    (length.next_multiple_of(BLOCK as u64) - length) as usize
}

fn append_long(kind: u8, text: &[u8], out: &mut Vec<u8>) {
    let mut header = Header::new(kind, b"././@LongLink");
    let length = text.len() as u64 + 1;
    for (from, room) in [(100, 8), (108, 8), (116, 8), (136, 12)] {
        header.number(from, room, 0);
    }
    header.number(124, 12, length);
    header.append(out);
    out.extend_from_slice(text);
    out.resize(out.len() + 1 + padding(length), 0);
}

/// One block with fields.
struct Header {
    bytes: [u8; BLOCK],
}

impl Header {
    fn new(kind: u8, name: &[u8]) -> Self {
        let mut header = Self { bytes: [0; BLOCK] };
        header.text(0, NAME_ROOM, name);
        header.text(156, 1, &[kind]);
        header.text(257, 8, b"ustar  \0");
        header
    }

    /// Writes as much of a text as has room; a text that fills its room has no NUL.
    fn text(&mut self, from: usize, room: usize, text: &[u8]) {
        let length = text.len().min(room);
        if let (Some(field), Some(text)) =
            (self.bytes.get_mut(from..from + length), text.get(..length))
        {
            field.copy_from_slice(text);
        }
    }

    /// Writes octal digits and a NUL, or the number in base 256 where they have no room.
    fn number(&mut self, from: usize, room: usize, number: u64) {
        let digits = room - 1;
        if digits * 3 >= 64 || number >> (digits * 3) == 0 {
            self.text(from, room, format!("{number:0digits$o}").as_bytes());
            return;
        }
        let bytes = number.to_be_bytes();
        let mut field = vec![0; room.saturating_sub(bytes.len())];
        field.extend_from_slice(bytes.get(bytes.len().saturating_sub(room)..).unwrap_or_default());
        if let Some(first) = field.first_mut() {
            *first |= 0x80;
        }
        self.text(from, room, &field);
    }

    fn segments(&mut self, from: usize, segments: &[Segment]) {
        for (index, segment) in segments.iter().enumerate() {
            self.number(from + 24 * index, 12, segment.offset);
            self.number(from + 24 * index + 12, 12, segment.length);
        }
    }

    /// Appends the block with the sum over it, for which the field of the sum counts as blanks.
    fn append(mut self, out: &mut Vec<u8>) {
        self.text(148, 8, &[b' '; 8]);
        let sum: u32 = self.bytes.iter().map(|byte| u32::from(*byte)).sum();
        self.text(148, 8, format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&self.bytes);
    }
}

/// Bytes of a block of an archive.
pub(crate) const BLOCK: usize = 512;
const NAME_ROOM: usize = 100;
/// Segments that the header of a sparse file has room for, and each block that continues it.
const FIRST_SEGMENTS: usize = 4;
const MORE_SEGMENTS: usize = 21;
