//! The index: what is written is read again, and nothing that is damaged is.

use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use squashfs::{BlockSize, BlockWord};

use super::coding::{Decoder, Encoder};
use super::*;
use crate::changeset::{ChangesetBuilder, EntryKind, ObjectId, Special, Whiteout};
use crate::content::{FragmentIndex, Object, Owner, Part as Place, Run};
use crate::layer::LayerIndex;
use crate::limits::Limits;
use crate::path::LayerPath;
use crate::units::{Places, Units};

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes(), &Limits::default()).unwrap()
}

fn blocks() -> BlockSize {
    BlockSize::new(4096).unwrap()
}

fn word(bits: u32) -> BlockWord {
    BlockWord::from_bits(bits).unwrap()
}

/// One layer with everything that there is.
fn sample() -> (LayerIndex, Units) {
    let part = |fragment, offset| Some(Place { fragment: FragmentIndex(fragment), offset });
    let objects = vec![
        Object { size: 100, runs: vec![], part: part(0, 0) },
        Object { size: 9000, runs: vec![Run::Data(3)], part: None },
        Object { size: 0, runs: vec![], part: None },
        Object { size: 3000, runs: vec![], part: part(0, 100) },
        Object { size: 1 << 20, runs: vec![Run::Hole(250), Run::Data(6)], part: None },
        Object { size: 3000, runs: vec![], part: part(1, 0) },
    ];
    let mut units = Units::default();
    for bits in [700, 4096 | 1 << 24, 0] {
        units.push(Owner::Object(ObjectId(1)), word(bits));
    }
    for bits in 1..7 {
        units.push(Owner::Object(ObjectId(4)), word(bits));
    }
    units.push(Owner::Fragment(FragmentIndex(0)), word(2000));
    units.push(Owner::Fragment(FragmentIndex(1)), word(3000 | 1 << 24));
    let mut builder = ChangesetBuilder::default();
    builder.add_entry(path(""), 0o700, 5, EntryKind::Directory);
    builder.add_entry(path("usr"), 0o755, 5, EntryKind::Directory);
    for object in [0, 1, 2, 1, 3, 4, 5] {
        let kind = EntryKind::File(ObjectId(object));
        builder.add_entry(path(&format!("usr/file-{object}")), 0o644, 1 << 31, kind);
    }
    builder.add_entry(path("lib"), 0, 0, EntryKind::Symlink((*b"usr/lib").into()));
    builder.add_entry(path("usr/b"), 0, 0, EntryKind::HardLink(path("usr/file-1")));
    for kind in [Special::CharDevice, Special::BlockDevice, Special::Fifo] {
        builder.add_entry(path("far/away"), 0, 9, EntryKind::Special(kind));
    }
    builder.add_whiteout(Whiteout::Path(path("usr/gone")));
    builder.add_whiteout(Whiteout::Opaque(path("")));
    let counts = Counts { entries: 16, file_bytes: 2 << 20, expanded_bytes: 3 << 20 };
    (LayerIndex { changeset: builder.finish(), objects, counts }, units)
}

fn decode(part: &Part, counts: &Counts) -> Option<StoredLayer> {
    decode_layer(part, counts, blocks(), &Limits::default())
}

fn part(bytes: &[u8]) -> Part {
    Part { bytes: zstd::bulk::compress(bytes, 1).unwrap(), expanded: bytes.len() as u64 }
}

#[test]
fn a_layer_comes_back_as_it_was() {
    let (index, units) = sample();
    let stored = decode(&encode_layer(&index, &units).unwrap(), &index.counts).unwrap();
    assert_eq!(format!("{:?}", stored.index), format!("{index:?}"));
    assert_eq!(stored.units, units);
    let offsets = vec![Some(0), None, Some(90_000), Some(4796)];
    let places = Places { start: 8192, offsets };
    let part = encode_places(&units, &places).unwrap();
    let end = 8192 + 93_000;
    assert_eq!(decode_places(&part, &units, 8192, end), Some(places));
    assert_eq!(decode_places(&part, &units, 8192, end - 1001), None, "outside the data");
    assert_eq!(decode_places(&part, &units, u64::MAX, u64::MAX), None);
}

#[test]
fn what_does_not_fit_together_is_not_decoded() {
    let (index, units) = sample();
    let part = encode_layer(&index, &units).unwrap();
    let counts = index.counts;
    let fewer = Counts { entries: 15, ..counts };
    assert!(decode(&part, &fewer).is_none(), "more entries than were counted");
    let fewer = Counts { file_bytes: 1 << 20, ..counts };
    assert!(decode(&part, &fewer).is_none(), "more bytes than were counted");
    let other = BlockSize::new(8192).unwrap();
    assert!(decode_layer(&part, &counts, other, &Limits::default()).is_none());
    let shallow = Limits { depth: 1, ..Limits::default() };
    assert!(decode_layer(&part, &counts, blocks(), &shallow).is_none());
    let (mut empty, units) = sample();
    empty.objects[4].runs.push(Run::Data(0));
    assert!(decode(&encode_layer(&empty, &units).unwrap(), &counts).is_none(), "a run of nothing");
    for (expanded, what) in [(part.expanded - 1, "longer"), (part.expanded + 1, "shorter")] {
        let lie = Part { expanded, ..part.clone() };
        assert!(decode(&lie, &counts).is_none(), "{what} than it says");
    }
}

#[test]
fn counts_that_nothing_stands_behind_take_no_memory() {
    let huge = Counts { entries: u64::MAX, file_bytes: u64::MAX, expanded_bytes: u64::MAX };
    let mut encoder = Encoder::default();
    encoder.number(u64::MAX);
    assert!(decode(&encoder.finish().unwrap(), &huge).is_none());
    // One object of 2^63 bytes in one run, and a unit of as many blocks.
    let mut encoder = Encoder::default();
    for number in [1, 1 << 63, 2, (1 << 51) << 1, 1, 1] {
        encoder.number(number);
    }
    assert!(decode(&encoder.finish().unwrap(), &huge).is_none());
    let zeros = vec![0; 100 << 20];
    let bomb = Part { expanded: u64::MAX, ..part(&zeros) };
    assert!(bomb.expand().is_none());
    let bomb = Part { expanded: 1 << 20, ..part(&zeros) };
    assert!(bomb.expand().is_none());
}

fn records(bytes: usize) -> Vec<Record<Part>> {
    let key = LayerKey {
        digest: Digest::from_bytes([1; 32]),
        diff_id: Digest::from_bytes([2; 32]),
        size: 10,
    };
    let layer = Part { bytes: vec![7; bytes], expanded: 70 };
    let places = Part { bytes: vec![8; 5], expanded: 5 };
    vec![Record { key, counts: Counts::default(), start: 4096, layer, places }]
}

fn image(end: u64, trailer: &[u8]) -> std::fs::File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(end).unwrap();
    file.write_all_at(trailer, end).unwrap();
    file
}

#[test]
fn an_index_is_found_by_those_who_would_make_the_same_and_by_nobody_else() {
    let made_by = blake3::hash(b"options");
    let bytes = encode_trailer(&records(100), &made_by, 8192);
    assert_eq!(bytes.len(), 4096);
    let file = image(8192, &bytes);
    let trailer = Trailer::read(&file, &made_by).unwrap();
    assert_eq!((trailer.end, trailer.records.len()), (8192, 1));
    assert_eq!(trailer.records[0].layer.read(&file), Some(records(100).remove(0).layer));
    assert_eq!(trailer.records[0].key, records(100)[0].key);
    assert_eq!(Trailer::read(&file, &blake3::hash(b"other options")), None);
    for short in [0, 1, 127, 128] {
        assert_eq!(Trailer::read(&image(0, &bytes[4096 - short..]), &made_by), None);
    }
}

#[test]
fn an_index_that_would_be_too_large_is_left_out() {
    let made_by = blake3::hash(b"options");
    let length = |bytes, end| encode_trailer(&records(bytes), &made_by, end).len();
    assert_eq!(length(60 << 10, 4096), 64 << 10);
    assert_eq!(length(65 << 10, 4096), 0);
    assert_eq!(length(65 << 10, 1 << 20), 68 << 10);
    assert_eq!(length(1 << 20, 4 << 20), 0);
    assert_eq!(encode_trailer(&[], &made_by, 1 << 20), []);
}

proptest! {
    #[test]
    fn numbers_come_back(values in prop::collection::vec(any::<(u64, u64)>(), 0..20)) {
        let mut encoder = Encoder::default();
        for (value, expected) in &values {
            encoder.number(*value);
            encoder.delta(*value, *expected);
        }
        let expanded = encoder.finish().unwrap().expand().unwrap();
        let mut decoder = Decoder::new(&expanded);
        for (value, expected) in &values {
            prop_assert_eq!(decoder.number(), Some(*value));
            prop_assert_eq!(decoder.delta(*expected), Some(*value));
        }
        prop_assert_eq!(decoder.finish(), Some(()));
    }

    #[test]
    fn damaged_layers_are_refused_or_fit_together(
        at in any::<prop::sample::Index>(),
        new in prop_oneof![any::<u8>(), Just(0xff), Just(0x80), Just(0)],
        cut in any::<bool>(),
    ) {
        let (index, units) = sample();
        let mut bytes = encode_layer(&index, &units).unwrap().expand().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = new;
        if cut {
            bytes.truncate(at);
        }
        if let Some(stored) = decode(&part(&bytes), &index.counts) {
            prop_assert!(encode_layer(&stored.index, &stored.units).is_some());
        }
        let _ = decode_places(&part(&bytes), &units, 4096, 1 << 30);
    }

    #[test]
    fn any_bytes_are_no_index_and_no_crash(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let counts = Counts { entries: 99, file_bytes: 1 << 40, expanded_bytes: 1 << 40 };
        let _ = decode(&part(&bytes), &counts);
        prop_assert_eq!(Part { bytes: bytes.clone(), expanded: 50 }.expand(), None);
        prop_assert_eq!(Trailer::read(&image(0, &bytes), &blake3::hash(b"")), None);
    }
}
