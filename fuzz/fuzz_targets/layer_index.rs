//! What an image's index says of a layer is decoded into something that fits together, or not at all.
//!
//! The index is private to its crate, so that its files are compiled in here.
#![no_main]
#![allow(
    dead_code,
    unfulfilled_lint_expectations,
    unused_imports,
    reason = "a part of these files is used"
)]

macro_rules! compiled_in {
    ($($name:ident = $path:literal;)*) => { $( #[rustfmt::skip] #[path = $path] mod $name; )* };
}

compiled_in! {
    blob = "../../crates/oci-layers/src/blob.rs";
    changeset = "../../crates/oci-layers/src/changeset.rs";
    content = "../../crates/oci-layers/src/content.rs";
    error = "../../crates/oci-layers/src/error.rs";
    gzip = "../../crates/oci-layers/src/gzip.rs";
    index = "../../crates/oci-layers/src/index/mod.rs";
    layer = "../../crates/oci-layers/src/layer.rs";
    limits = "../../crates/oci-layers/src/limits.rs";
    options = "../../crates/oci-layers/src/options.rs";
    path = "../../crates/oci-layers/src/path.rs";
    tar = "../../crates/oci-layers/src/tar/mod.rs";
    units = "../../crates/oci-layers/src/units.rs";
}

use changeset::{EntryKind, ObjectId};
use index::{Part, StoredLayer, decode_layer, decode_places, encode_layer, encode_places};
use libfuzzer_sys::fuzz_target;
use limits::{Counts, Limits};
use squashfs::BlockSize;

fn part(bytes: &[u8]) -> Part {
    let compressed = zstd::bulk::compress(bytes, 1).expect("there is memory");
    Part { bytes: compressed, expanded: bytes.len() as u64 }
}

fn decode(part: &Part) -> Option<StoredLayer> {
    let counts = Counts { entries: 200, file_bytes: 1 << 40, expanded_bytes: 1 << 40 };
    let block_size = BlockSize::new(4096).expect("it is a power of two");
    decode_layer(part, &counts, block_size, &Limits::default())
}

fuzz_target!(|bytes: &[u8]| {
    // The last bytes are the places, after a byte that says how many.
    let Some((last, rest)) = bytes.split_last() else { return };
    let Some((layer, places)) = rest.split_at_checked(rest.len().saturating_sub((*last).into()))
    else {
        return;
    };
    let Some(stored) = decode(&part(layer)) else { return };
    for entry in &stored.index.changeset.entries {
        if let EntryKind::File(ObjectId(object)) = entry.kind {
            assert!((object as usize) < stored.index.objects.len());
        }
        assert!(entry.mode & !0o1777 == 0, "set-id bits do not come back");
    }
    let again =
        encode_layer(&stored.index, &stored.units).expect("what is decoded is not too large");
    let same = decode(&again).expect("what is encoded can be decoded");
    assert_eq!(format!("{stored:?}"), format!("{same:?}"));

    let (start, end) = (4096, 1 << 40);
    if let Some(found) = decode_places(&part(places), &stored.units, start, end) {
        for offset in found.offsets.iter().flatten() {
            assert!(start + offset <= end);
        }
        let again = encode_places(&stored.units, &found).expect("they are few");
        let same = decode_places(&again, &stored.units, start, end).expect("they were all inside");
        assert_eq!(found.offsets, same.offsets);
    }
});
