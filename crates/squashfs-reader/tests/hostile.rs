//! Images that were made to surprise their reader: each is refused for what is wrong with it.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod handmade;

use std::io::Read;

use handmade::{Image, image};
use squashfs_reader::{
    EntryProblem as Entry, Limits, ReadError, Rules, SuperblockProblem as Super, TableName,
    TableProblem as Table, examine, stream,
};

fn refused(image: &Image) -> ReadError {
    examine(&image.bytes, &Rules::published()).unwrap_err()
}

/// The place and the problem of an entry that is refused.
fn entry(image: &Image) -> (String, Entry) {
    match refused(image) {
        ReadError::Entry { path, problem } => (String::from_utf8(path).unwrap(), problem),
        other => panic!("{other}"),
    }
}

fn superblock(image: &Image) -> Super {
    match refused(image) {
        ReadError::Superblock(problem) => problem,
        other => panic!("{other}"),
    }
}

fn table(image: &Image) -> (TableName, Table) {
    match refused(image) {
        ReadError::Table { table, problem, .. } => (table, problem),
        other => panic!("{other}"),
    }
}

fn at(path: &str, problem: Entry) -> (String, Entry) {
    (path.to_owned(), problem)
}

#[test]
fn the_image_that_the_tests_change_is_right() {
    let findings = examine(&image().bytes, &Rules::published()).unwrap();
    assert_eq!((findings.files, findings.directories, findings.symlinks), (3, 2, 1));
    assert_eq!((findings.hard_links, findings.file_bytes), (1, 4156 + 40 + 5000));
    let mut tar = Vec::new();
    stream(image().bytes, &Rules::imported()).unwrap().read_to_end(&mut tar).unwrap();
    assert_eq!(tar.len() % 512, 0);
}

#[test]
fn files_that_are_no_image_or_only_a_part_of_one_are_refused() {
    let read = |bytes: &[u8]| examine(bytes, &Rules::published()).unwrap_err().to_string();
    assert!(read(b"").contains("0 bytes are too few"));
    assert!(read(&[0; 95]).contains("95 bytes are too few"));
    assert!(read(&[7; 5000]).contains("does not begin with `hsqs`"));
    let whole = image();
    for length in 96..whole.bytes.len() {
        assert!(examine(&whole.bytes[..length], &Rules::published()).is_err(), "{length}");
    }
    let mut longer = whole.bytes.clone();
    longer.extend_from_slice(&[0xee; 9000]);
    assert!(
        examine(&longer, &Rules::published()).is_ok(),
        "what follows the last page is not ours"
    );
}

#[test]
fn superblocks_that_kernels_or_our_writer_would_not_have_are_refused() {
    let length = image().bytes.len() as u64;
    let used = image().value("super.used");
    for (name, value, problem) in [
        ("super.version", 5, Super::Version { major: 5, minor: 0 }),
        ("super.version", 4 | 1 << 16, Super::Version { major: 4, minor: 1 }),
        ("super.block size", 2 << 20, Super::BlockSize { bytes: 2 << 20, log: 12 }),
        ("super.block size", 8192, Super::BlockSize { bytes: 8192, log: 12 }),
        ("super.block size", 5000, Super::BlockSize { bytes: 5000, log: 12 }),
        ("super.compressor", 9 | 12 << 16, Super::Compressor { id: 9 }),
        ("super.compressor", 5 | 12 << 16, Super::Compressor { id: 5 }),
        ("super.flags", 0x0481 | 1 << 16, Super::Flags { flags: 0x0481 }),
        ("super.inodes", 0, Super::Count { table: TableName::Inodes, entries: 0 }),
        ("super.fragments", 7, Super::Count { table: TableName::Fragments, entries: 7 }),
        ("super.flags", 0x0680, Super::Count { table: TableName::Ids, entries: 0 }),
        ("super.flags", 0x0680 | 2 << 16, Super::Count { table: TableName::Ids, entries: 2 }),
        ("options.level", 23, Super::CompressorOptions),
        ("options.head", 0x8008, Super::CompressorOptions),
    ] {
        assert_eq!(superblock(&image().put32(name, value)), problem, "{name} {value}");
    }
    let place = |table, offset| Super::Place { table, offset };
    for (name, value, problem) in [
        ("super.used", length + 1, Super::BytesUsed { used: length + 1, length }),
        ("super.used", used - 1, place(TableName::Ids, image().value("super.id table"))),
        ("super.attribute table", 4000, Super::Attributes),
        ("super.inode table", length, place(TableName::Inodes, length)),
        ("super.inode table", 95, place(TableName::Inodes, 95)),
        ("super.directory table", 96, place(TableName::Directories, 96)),
        ("super.id table", u64::MAX, place(TableName::Ids, u64::MAX)),
        ("super.export table", u64::MAX, Super::Missing { table: TableName::Export }),
        ("super.export table", u64::MAX - 1, place(TableName::Export, u64::MAX - 1)),
        ("super.fragment table", u64::MAX, Super::Missing { table: TableName::Fragments }),
        ("super.fragment table", 200, place(TableName::Fragments, 200)),
    ] {
        assert_eq!(superblock(&image().put64(name, value)), problem, "{name} {value}");
    }
    assert_eq!(superblock(&image().put("padding", &[1])), Super::Padding);
}

#[test]
fn what_only_root_could_use_is_refused() {
    for (kind, what) in [(4, "block device"), (5, "character device"), (6, "fifo"), (7, "socket")] {
        assert_eq!(entry(&image().put16("l.type", kind)), at("l", Entry::Special(what)));
    }
    for mode in [0o4755, 0o2755, 0o6777] {
        assert_eq!(entry(&image().put16("b.mode", mode)), at("b", Entry::SetId { mode }));
    }
    let mode = 0o20_644;
    assert_eq!(entry(&image().put16("b.mode", mode)), at("b", Entry::Mode { mode }));
    assert_eq!(entry(&image().put32("h.attributes", 0)), at("h", Entry::Attributes));
    assert_eq!(entry(&image().put16("b.gid", 1)), at("b", Entry::Owner));
    assert_eq!(table(&image().put32("id", 1)), (TableName::Ids, Table::Owners));
    assert!(examine(&image().put16("root.mode", 0o1777).bytes, &Rules::published()).is_ok());
}

#[test]
fn directories_that_are_reached_twice_are_refused() {
    let root = image().value("export.6") as u16;
    let cycle = image().put16("/sub/h2/offset", root).put16("/sub/h2/type", 1);
    let cycle = cycle.put16("/sub/h2/delta", 3);
    assert_eq!(entry(&cycle), at("sub/h2", Entry::DirectoryTwice));
    let sub = image().value("export.5") as u16;
    let linked = image().put16("/h/offset", sub).put16("/h/type", 1).put16("/h/delta", 4);
    assert_eq!(entry(&linked), at("sub", Entry::DirectoryTwice));
    let itself = image().put16("/sub/h2/offset", sub).put16("/sub/h2/type", 1);
    let itself = itself.put16("/sub/h2/delta", 2);
    assert_eq!(entry(&itself), at("sub/h2", Entry::DirectoryTwice));
    for rules in [Rules::published(), Rules::imported()] {
        assert!(examine(&cycle.bytes, &rules).is_err());
        assert!(stream(linked.bytes.clone(), &rules).is_err());
    }
}

#[test]
fn names_that_lead_elsewhere_or_are_there_twice_are_refused() {
    for name in [&b".."[..], b"h/", b"/h", b"h\0"] {
        let changed = image().put("/sub/h2/name", name);
        assert_eq!(entry(&changed), at("sub", Entry::Name { name: name.to_vec() }));
        assert!(stream(changed.bytes, &Rules::imported()).is_err());
    }
    let dot = image().put("/a/name", b".");
    assert_eq!(entry(&dot), at("", Entry::Name { name: b".".to_vec() }));
    let twice = image().put("/b/name", b"a");
    assert_eq!(entry(&twice), at("", Entry::Order { name: b"a".to_vec() }));
    let behind = image().put("/a/name", b"c");
    assert_eq!(entry(&behind), at("", Entry::Order { name: b"b".to_vec() }));
    let long = image().put16("/sub/h2/length", 256);
    assert_eq!(entry(&long), at("sub", Entry::ListingEnd));
}

#[test]
fn listings_that_do_not_agree_with_their_inodes_are_refused() {
    let listed = image().put16("/b/type", 3);
    assert_eq!(entry(&listed), at("b", Entry::TypeMismatch { listed: 3, found: 2 }));
    let number = image().put16("/b/delta", 0xffff);
    assert_eq!(entry(&number), at("b", Entry::NumberMismatch { listed: 0, found: 2 }));
    assert_eq!(entry(&image().put16("/b/offset", 9000)), at("b", Entry::Reference));
    assert_eq!(entry(&image().put32("root-list.inodes", 1)), at("a", Entry::Reference));
    assert_eq!(entry(&image().put32("root-list.count", 256)), at("", Entry::Group { count: 257 }));
    assert_eq!(entry(&image().put32("root-list.count", 5)), at("", Entry::ListingEnd));
    assert_eq!(entry(&image().put16("root.size", 2)), at("", Entry::Size { size: 2 }));
    assert_eq!(entry(&image().put16("root.size", 500)), at("", Entry::Listing));
    assert_eq!(entry(&image().put32("root.block", 8)), at("", Entry::Listing));
    assert_eq!(entry(&image().put16("root.offset", 8192)), at("", Entry::Listing));
    let parent = Entry::Parent { expected: 6, found: 5 };
    assert_eq!(entry(&image().put32("sub.parent", 5)), at("sub", parent));
    let links = |expected, found| Entry::Links { expected, found };
    assert_eq!(entry(&image().put32("h.links", 1)), at("h", links(2, 1)));
    assert_eq!(entry(&image().put32("root.links", 2)), at("", links(3, 2)));
    assert_eq!(entry(&image().put32("l.links", 0)), at("l", links(1, 0)));
    let unread = image().put16("sub.size", 3).put32("h.links", 1);
    assert_eq!(table(&unread), (TableName::Directories, Table::Coverage));
}

#[test]
fn inodes_that_are_not_possible_are_refused() {
    assert_eq!(entry(&image().put16("b.type", 0)), at("b", Entry::Type { kind: 0 }));
    assert_eq!(entry(&image().put16("b.type", 15)), at("b", Entry::Type { kind: 15 }));
    let target = |length| at("l", Entry::Target { length });
    assert_eq!(entry(&image().put32("l.length", 65_536)), target(65_536));
    assert_eq!(entry(&image().put32("l.length", 4096)), target(4096));
    assert_eq!(entry(&image().put32("l.length", 0)), target(0));
    assert_eq!(entry(&image().put("l.target", b"\0")), target(1));
    assert_eq!(entry(&image().put32("l.length", 4000)), at("l", Entry::CutOff));
    let root = image().value("super.root");
    let reference = at("", Entry::Reference);
    assert_eq!(entry(&image().put64("super.root", root | 1 << 50)), reference);
    assert_eq!(entry(&image().put64("super.root", 8192)), reference);
    assert_eq!(entry(&image().put64("super.root", 0)), at("", Entry::Root));
    let twice = (TableName::Inodes, Table::Number { number: 2 });
    let same = image().put32("a.number", 2).put16("/a/delta", 1).put64("export.2", 0);
    assert_eq!(table(&same), twice);
    let zero = (TableName::Inodes, Table::Number { number: 0 });
    assert_eq!(table(&image().put32("a.number", 0).put16("/a/delta", 0xffff)), zero);
    let exported = (TableName::Export, Table::Export { number: 4 });
    assert_eq!(table(&image().put64("export.4", 0)), exported);
    let unnamed = image().put32("sub-list.count", u32::MAX);
    assert_eq!(entry(&unnamed), at("sub", Entry::Group { count: 1 << 32 }));
}

#[test]
fn data_outside_the_data_is_refused() {
    assert_eq!(entry(&image().put32("a.start", 0)), at("a", Entry::Data));
    let inodes = image().value("super.inode table") as u32;
    assert_eq!(entry(&image().put32("a.start", inodes - 4095)), at("a", Entry::Data));
    for word in [1 << 24, 4096 | 1 << 25, 4097, 100 | 1 << 24, u32::MAX] {
        assert_eq!(entry(&image().put32("a.word", word)), at("a", Entry::Block { index: 0, word }));
    }
    let fragment = |index| at("b", Entry::Fragment { index });
    assert_eq!(entry(&image().put32("b.fragment", 1)), fragment(1));
    assert_eq!(entry(&image().put32("b.offset", 61)), fragment(0));
    assert_eq!(entry(&image().put32("b.offset", u32::MAX)), fragment(0));
    assert_eq!(entry(&image().put32("b.size", 41)), fragment(0));
    assert_eq!(entry(&image().put32("b.size", 0)), fragment(0));
    assert_eq!(entry(&image().put32("b.offset", 59)), at("b", Entry::Overlap));
    let size = u64::MAX / 2 + 1;
    assert_eq!(entry(&image().put64("h.size", size)), at("h", Entry::Size { size }));
    assert_eq!(entry(&image().put64("h.size", 1 << 62)), at("h", Entry::CutOff));
    let holes = |found| at("h", Entry::Holes { expected: 4999, found });
    assert_eq!(entry(&image().put64("h.holes", 1)), holes(1));
    assert_eq!(entry(&image().put64("h.holes", u64::MAX)), holes(u64::MAX));
    let outside = (TableName::Fragments, Table::Fragment { index: 0 });
    for (name, value) in [
        ("fragment.start", 0),
        ("fragment.start", image().value("fragment.start") + 1),
        ("fragment.start", u64::MAX),
        ("fragment.word", 1 << 24),
        ("fragment.word", 4097 | 1 << 24),
        ("fragment.word", 100 | 1 << 25),
    ] {
        let bytes = if name == "fragment.word" { 4 } else { 8 };
        let changed = image().put(name, &value.to_le_bytes()[..bytes]);
        assert_eq!(table(&changed), outside, "{name} {value}");
    }
    let shared = image().put64("fragment.start", image().value("fragment.start") - 1);
    assert_eq!(table(&shared), outside, "a fragment block and a file");
}

#[test]
fn tables_that_are_not_whole_are_refused() {
    let inodes = |problem| (TableName::Inodes, problem);
    let head = image().value("inodes.head") as u16;
    assert_eq!(table(&image().put16("inodes.head", 0)), inodes(Table::BlockLength { length: 0 }));
    let long = Table::BlockLength { length: 8193 };
    assert_eq!(table(&image().put16("inodes.head", 8193)), inodes(long));
    assert_eq!(table(&image().put16("inodes.head", head + 1)), inodes(Table::CutOff));
    assert!(matches!(table(&image().put16("inodes.head", head & 0x7fff)).1, Table::Decompress(_)));
    for list in ["fragments.list", "export.list", "ids.list"] {
        for value in [0, image().value(list) - 1, image().value(list) + 1, u64::MAX] {
            let changed = image().put64(list, value);
            assert!(matches!(
                refused(&changed),
                ReadError::Table { .. } | ReadError::Superblock(_)
            ));
        }
    }
}

#[test]
fn tables_that_expand_without_end_are_refused_at_the_limit() {
    // Blocks of twenty bytes that hold 8 KiB each: 40 MiB of inodes in 100 KB.
    let block = zstd::bulk::compress(&[0; 8192], 19).unwrap();
    let mut bomb = image();
    let start = bomb.bytes.len() as u64;
    for _ in 0..5000 {
        bomb.bytes.extend_from_slice(&(block.len() as u16).to_le_bytes());
        bomb.bytes.extend_from_slice(&block);
    }
    let end = bomb.bytes.len() as u64;
    let tail = image().bytes[image().value("super.directory table") as usize..].to_vec();
    let moved = end - image().value("super.directory table");
    bomb.bytes.extend_from_slice(&tail);
    let mut bomb = bomb.put64("super.inode table", start);
    for name in [
        "super.directory table",
        "super.fragment table",
        "super.export table",
        "super.id table",
        "super.used",
    ] {
        let value = bomb.value(name) + moved;
        bomb = bomb.put64(name, value);
    }
    for list in ["fragments.list", "export.list", "ids.list"] {
        let at = bomb.field(list).start + moved as usize;
        let value = bomb.value(list) + moved;
        bomb.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let used = bomb.value("super.used") as usize;
    bomb.bytes.truncate(used);
    bomb.bytes.resize(used.next_multiple_of(4096), 0);
    let limits = Limits { table_bytes: 16 << 20, ..Limits::default() };
    for rules in [Rules::published(), Rules::imported()] {
        let rules = Rules { limits: limits.clone(), ..rules };
        let error = examine(&bomb.bytes, &rules).unwrap_err();
        assert_eq!(error.to_string(), "the image has more than 16777216 bytes in its inode table");
        // Without the limit it is read, and found to hold no inode.
        let unlimited = examine(&bomb.bytes, &Rules { limits: Limits::default(), ..rules });
        assert!(matches!(unlimited, Err(ReadError::Entry { .. })));
    }
}

#[test]
fn images_beyond_the_limits_are_refused() {
    let examine_with = |limits| {
        let rules = Rules { limits, ..Rules::published() };
        examine(&image().bytes, &rules).unwrap_err().to_string()
    };
    let few = examine_with(Limits { inodes: 5, ..Limits::default() });
    assert_eq!(few, "the image has more than 5 inodes");
    let names = examine_with(Limits { names: 6, ..Limits::default() });
    assert_eq!(names, "the image has more than 6 names");
    let depth = examine_with(Limits { depth: 0, ..Limits::default() });
    assert_eq!(depth, "`/sub/h2` in the image: more than 0 directories are above it");
}

#[test]
fn data_that_cannot_be_read_ends_the_stream_with_an_error() {
    let changed = image().put32("a.word", 4000);
    let mut source = stream(changed.bytes, &Rules::imported()).unwrap();
    let mut tar = Vec::new();
    let error = source.read_to_end(&mut tar).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(error.to_string().starts_with("`/a` in the image: its data at offset"), "{error}");
    assert!(source.read(&mut [0; 10]).is_err(), "what failed must not look like an end");
}
