//! A small image laid down byte by byte, with nothing compressed, so that tests can change any field of it.
#![allow(dead_code, reason = "each test program uses its part of this")]

use std::collections::BTreeMap;
use std::ops::Range;

/// An image and where its fields are.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    fields: BTreeMap<String, Range<usize>>,
}

impl Image {
    /// Where a field stands.
    pub(crate) fn field(&self, name: &str) -> Range<usize> {
        self.fields.get(name).unwrap_or_else(|| panic!("there is no field {name}")).clone()
    }

    /// The field that a byte belongs to.
    pub(crate) fn field_at(&self, at: usize) -> Option<&str> {
        let holds = |(_, range): &(&String, &Range<usize>)| range.contains(&at);
        self.fields.iter().find(holds).map(|(name, _)| name.as_str())
    }

    /// Overwrites the beginning of a field.
    pub(crate) fn put(mut self, name: &str, value: &[u8]) -> Self {
        let start = self.field(name).start;
        self.bytes[start..start + value.len()].copy_from_slice(value);
        self
    }

    pub(crate) fn put16(self, name: &str, value: u16) -> Self {
        self.put(name, &value.to_le_bytes())
    }

    pub(crate) fn put32(self, name: &str, value: u32) -> Self {
        self.put(name, &value.to_le_bytes())
    }

    pub(crate) fn put64(self, name: &str, value: u64) -> Self {
        self.put(name, &value.to_le_bytes())
    }

    pub(crate) fn value(&self, name: &str) -> u64 {
        let bytes = &self.bytes[self.field(name)];
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}

/// Lays the image down: `/a` (a block and a tail), `/b` (a tail), `/h` and `/sub/h2` (one file that is all hole),
/// `/l` -> `b`, and `/sub`.
pub(crate) fn image() -> Image {
    let mut file = Layout { bytes: vec![0; 96], ..Layout::default() };
    file.add("options.head", &(4_u16 | 1 << 15).to_le_bytes());
    file.add("options.level", &3_u32.to_le_bytes());
    let block = file.bytes.len() as u64;
    file.add("data", &[b'a'; 4096]);
    let fragment = file.bytes.len() as u64;
    file.add("data.fragment", &[b'f'; 100]);

    let mut inodes = Layout::default();
    let common = |inodes: &mut Layout, name: &str, kind: u16, mode: u16, number: u32| -> u64 {
        let at = inodes.bytes.len() as u64;
        let time = 1_000_000 + number;
        inodes.add16(&format!("{name}.type"), kind);
        inodes.add16(&format!("{name}.mode"), mode);
        inodes.add16(&format!("{name}.uid"), 0);
        inodes.add16(&format!("{name}.gid"), 0);
        inodes.add32(&format!("{name}.mtime"), time);
        inodes.add32(&format!("{name}.number"), number);
        at
    };
    let a = common(&mut inodes, "a", 2, 0o644, 1);
    inodes.add32("a.start", block as u32);
    inodes.add32("a.fragment", 0);
    inodes.add32("a.offset", 0);
    inodes.add32("a.size", 4096 + 60);
    inodes.add32("a.word", 4096 | 1 << 24);
    let b = common(&mut inodes, "b", 2, 0o755, 2);
    inodes.add32("b.start", 0);
    inodes.add32("b.fragment", 0);
    inodes.add32("b.offset", 60);
    inodes.add32("b.size", 40);
    let h = common(&mut inodes, "h", 9, 0o600, 3);
    inodes.add64("h.start", 0);
    inodes.add64("h.size", 5000);
    inodes.add64("h.holes", 4999);
    inodes.add32("h.links", 2);
    inodes.add32("h.fragment", u32::MAX);
    inodes.add32("h.offset", 0);
    inodes.add32("h.attributes", u32::MAX);
    inodes.add("h.words", &[0; 8]);
    let l = common(&mut inodes, "l", 3, 0o777, 4);
    inodes.add32("l.links", 1);
    inodes.add32("l.length", 1);
    inodes.add("l.target", b"b");
    let sub = common(&mut inodes, "sub", 1, 0o755, 5);
    inodes.add32("sub.block", 0);
    inodes.add32("sub.links", 2);
    inodes.add16("sub.size", 12 + 10 + 3);
    inodes.add16("sub.offset", 0);
    inodes.add32("sub.parent", 6);
    let root = common(&mut inodes, "root", 1, 0o755, 6);
    inodes.add32("root.block", 0);
    inodes.add32("root.links", 3);
    inodes.add16("root.size", 12 + 4 * 9 + 11 + 3);
    inodes.add16("root.offset", 22);
    inodes.add32("root.parent", 7);

    let mut directories = Layout::default();
    let header = |directories: &mut Layout, name: &str, count: u32, number: u32| {
        directories.add32(&format!("{name}.count"), count - 1);
        directories.add32(&format!("{name}.inodes"), 0);
        directories.add32(&format!("{name}.base"), number);
    };
    let entry = |directories: &mut Layout, name: &str, at: u64, delta: i16, kind: u16| {
        let text = name.rsplit('/').next().unwrap();
        directories.add16(&format!("{name}/offset"), at as u16);
        directories.add16(&format!("{name}/delta"), delta as u16);
        directories.add16(&format!("{name}/type"), kind);
        directories.add16(&format!("{name}/length"), text.len() as u16 - 1);
        directories.add(&format!("{name}/name"), text.as_bytes());
    };
    header(&mut directories, "sub-list", 1, 3);
    entry(&mut directories, "/sub/h2", h, 0, 2);
    header(&mut directories, "root-list", 5, 1);
    entry(&mut directories, "/a", a, 0, 2);
    entry(&mut directories, "/b", b, 1, 2);
    entry(&mut directories, "/h", h, 2, 2);
    entry(&mut directories, "/l", l, 3, 3);
    entry(&mut directories, "/sub", sub, 4, 1);

    let inode_table = file.add_block("inodes", inodes);
    let directory_table = file.add_block("directories", directories);
    let mut fragments = Layout::default();
    fragments.add64("fragment.start", fragment);
    fragments.add32("fragment.word", 100 | 1 << 24);
    fragments.add32("fragment.unused", 0);
    let fragment_table = file.add_table("fragments", fragments);
    let mut export = Layout::default();
    for (number, at) in [a, b, h, l, sub, root].into_iter().enumerate() {
        export.add64(&format!("export.{}", number + 1), at);
    }
    let export_table = file.add_table("export", export);
    let mut ids = Layout::default();
    ids.add32("id", 0);
    let id_table = file.add_table("ids", ids);
    let used = file.bytes.len();
    file.bytes.resize(used.next_multiple_of(4096), 0);
    file.fields.insert("padding".to_owned(), used..file.bytes.len());

    let mut head = Layout::default();
    head.add("magic", b"hsqs");
    for (name, value) in [
        ("inodes", 6),
        ("created", 77),
        ("block size", 4096),
        ("fragments", 1),
        ("compressor", 6 | 12 << 16),
        ("flags", 0x0680 | 1 << 16),
        ("version", 4),
    ] {
        head.add32(name, value);
    }
    for (name, value) in [
        ("root", root),
        ("used", used as u64),
        ("id table", id_table),
        ("attribute table", u64::MAX),
        ("inode table", inode_table),
        ("directory table", directory_table),
        ("fragment table", fragment_table),
        ("export table", export_table),
    ] {
        head.add64(name, value);
    }
    file.bytes[..96].copy_from_slice(&head.bytes);
    file.fields.extend(head.fields.into_iter().map(|(name, at)| (format!("super.{name}"), at)));
    Image { bytes: file.bytes, fields: file.fields }
}

#[derive(Default)]
struct Layout {
    bytes: Vec<u8>,
    fields: BTreeMap<String, Range<usize>>,
}

impl Layout {
    fn add(&mut self, name: &str, value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.fields.insert(name.to_owned(), start..self.bytes.len());
    }

    fn add16(&mut self, name: &str, value: u16) {
        self.add(name, &value.to_le_bytes());
    }

    fn add32(&mut self, name: &str, value: u32) {
        self.add(name, &value.to_le_bytes());
    }

    fn add64(&mut self, name: &str, value: u64) {
        self.add(name, &value.to_le_bytes());
    }

    /// Adds a metadata block that is not compressed; returns where it begins.
    fn add_block(&mut self, name: &str, content: Layout) -> u64 {
        let start = self.bytes.len();
        self.add16(&format!("{name}.head"), content.bytes.len() as u16 | 1 << 15);
        let body = self.bytes.len();
        self.bytes.extend_from_slice(&content.bytes);
        let moved =
            |(name, range): (String, Range<usize>)| (name, range.start + body..range.end + body);
        self.fields.extend(content.fields.into_iter().map(moved));
        start as u64
    }

    /// Adds a lookup table; returns where its list begins.
    fn add_table(&mut self, name: &str, content: Layout) -> u64 {
        let block = self.add_block(name, content);
        let list = self.bytes.len() as u64;
        self.add64(&format!("{name}.list"), block);
        list
    }
}
