//! Builds tar archives header by header, also such as no tar program would write.
#![allow(dead_code, reason = "each test program uses a part of it")]

/// An archive that grows entry by entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tar {
    pub(crate) bytes: Vec<u8>,
}

/// The fields of one header; the sum is put in when it is written.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) block: [u8; 512],
}

impl Header {
    pub(crate) fn new(kind: u8, name: &[u8], mode: u32, size: u64) -> Self {
        let mut header = Self { block: [0; 512] };
        header.put(0, &name[..name.len().min(100)]);
        header.put(100, format!("{mode:07o}").as_bytes());
        header.put(108, b"0001750\x000001750");
        header.number(124, 12, size as i64);
        header.number(136, 12, 1_600_000_000);
        header.put(156, &[kind]);
        header.put(257, b"ustar\x0000");
        header
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Octal where it fits, else base-256.
    pub(crate) fn number(&mut self, at: usize, width: usize, value: i64) {
        let octal = format!("{value:0>width$o}\0", width = width - 1);
        if value >= 0 && octal.len() == width {
            self.put(at, octal.as_bytes());
        } else {
            let mut field = vec![if value < 0 { 0xff } else { 0 }; width];
            field[width - 8..].copy_from_slice(&value.to_be_bytes());
            field[0] |= 0x80;
            self.put(at, &field);
        }
    }

    pub(crate) fn mtime(mut self, mtime: i64) -> Self {
        self.number(136, 12, mtime);
        self
    }

    pub(crate) fn link(mut self, target: &[u8]) -> Self {
        self.put(157, &target[..target.len().min(100)]);
        self
    }
}

impl Tar {
    pub(crate) fn header(mut self, mut header: Header) -> Self {
        header.put(148, b"        ");
        let sum: u32 = header.block.iter().map(|byte| u32::from(*byte)).sum();
        header.put(148, format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&header.block);
        self
    }

    /// Data behind a header, padded to whole blocks.
    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn dir(self, name: &str, mode: u32) -> Self {
        self.entry(Header::new(b'5', name.as_bytes(), mode, 0), name.as_bytes(), b"")
    }

    pub(crate) fn file(self, name: &str, mode: u32, data: &[u8]) -> Self {
        let header = Header::new(b'0', name.as_bytes(), mode, data.len() as u64);
        self.entry(header, name.as_bytes(), b"").data(data)
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        let header = Header::new(b'2', name.as_bytes(), 0o777, 0).link(target.as_bytes());
        self.entry(header, name.as_bytes(), target.as_bytes())
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        let header = Header::new(b'1', name.as_bytes(), 0o644, 0).link(target.as_bytes());
        self.entry(header, name.as_bytes(), target.as_bytes())
    }

    pub(crate) fn special(self, kind: u8, name: &str) -> Self {
        self.entry(Header::new(kind, name.as_bytes(), 0o666, 0), name.as_bytes(), b"")
    }

    /// A header with GNU's long name and long link in front where they are needed.
    pub(crate) fn entry(mut self, header: Header, name: &[u8], target: &[u8]) -> Self {
        for (kind, text) in [(b'L', name), (b'K', target)] {
            if text.len() > 100 {
                let long = Header::new(kind, b"././@LongLink", 0o644, text.len() as u64 + 1);
                self = self.header(long).data(&[text, b"\0"].concat());
            }
        }
        self.header(header)
    }

    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.header(Header::new(b'x', b"PaxHeaders/x", 0o644, body.len() as u64)).data(&body)
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length.to_string().len() + rest.len() != length {
        length = length.to_string().len() + rest.len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}
