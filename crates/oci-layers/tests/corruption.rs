//! Damaged layers: each an error or a correct image, never a panic, never a hang.
//!
//! Digests are computed over the damaged bytes, so that the damage reaches the decompressors and the tar reader.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod archive;
mod image;

use archive::{Header, Tar};
use image::{blob_layer, compress, convert_layers, digest, layer, unsquash};
use oci_layers::{BlockSize, Compression, Limits, Options};
use proptest::prelude::*;

fn sample() -> Vec<u8> {
    let mut sparse = Header::new(b'S', b"old-sparse", 0o644, 600);
    sparse.number(386, 12, 5000);
    sparse.number(398, 12, 600);
    sparse.number(483, 12, 100_000);
    let records: [(&str, &[u8]); 2] =
        [("GNU.sparse.map", b"0,4,9000,4"), ("GNU.sparse.size", b"10000")];
    let data_map: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"map-in-data"),
        ("GNU.sparse.realsize", b"10000"),
    ];
    Tar::default()
        .dir("d", 0o755)
        .file("d/text", 0o644, &b"some text that compresses well ".repeat(400))
        .hard_link("hard", "d/text")
        .symlink("soft", "d")
        .file(&"long/".repeat(40), 0o644, b"long name")
        .pax(&records)
        .header(Header::new(b'0', b"sparse", 0o644, 8))
        .data(b"headtail")
        .pax(&data_map)
        .header(Header::new(b'0', b"made-up", 0o644, 516))
        .data(&[&b"1\n500\n4\n"[..], &[0; 504], b"here"].concat())
        .header(sparse)
        .data(&[3; 600])
        .special(b'3', "device")
        .file("d/.wh..wh..opq", 0, b"")
        .finish()
}

fn options() -> Options {
    let limits = Limits { file_bytes: 1 << 30, expanded_bytes: 1 << 28, ..Limits::default() };
    let block_size = BlockSize::new(4096).unwrap();
    Options { limits, block_size, workers: 1, readers: 1, ..Options::default() }
}

#[derive(Clone, Debug)]
enum Damage {
    Cut(prop::sample::Index),
    Flip(prop::sample::Index, u8),
    Overwrite(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    let interesting = prop::sample::select(vec![
        b"77777777777\0".to_vec(),
        vec![0xff; 12],
        vec![0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0; 512],
        b"99999999999999999999".to_vec(),
        b"../".to_vec(),
    ]);
    prop_oneof![
        at().prop_map(Damage::Cut),
        (at(), 1..=255_u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        (at(), interesting).prop_map(|(at, bytes)| Damage::Overwrite(at, bytes)),
        (at(), 1..1500_usize).prop_map(|(at, length)| Damage::Remove(at, length)),
        (at(), 1..1500_usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
    ]
}

fn apply(damage: &Damage, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    match damage {
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Damage::Flip(at, bits) => {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        Damage::Overwrite(at, new) => {
            let at = at.index(bytes.len());
            let end = (at + new.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&new[..end - at]);
        }
        Damage::Remove(at, length) => {
            let at = at.index(bytes.len());
            bytes.drain(at..(at + length).min(bytes.len()));
        }
        Damage::Repeat(at, length) => {
            let at = at.index(bytes.len());
            let again = bytes[at..(at + length).min(bytes.len())].to_vec();
            bytes.splice(at..at, again);
        }
    }
}

/// Gives every header that looks like one its right sum, so that damage goes deeper than the first check.
fn mend_sums(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn damaged_archives_are_errors_or_correct_images(
        all in prop::collection::vec(damage(), 1..4),
        mend in any::<bool>(),
        look in 0..20_u8,
    ) {
        let mut tar = sample();
        all.iter().for_each(|damage| apply(damage, &mut tar));
        if mend {
            mend_sums(&mut tar);
        }
        if let Ok((image, _)) = convert_layers(vec![layer(&tar, Compression::None)], &options())
            && look == 0
        {
            unsquash(image.path());
        }
    }

    #[test]
    fn damaged_blobs_are_errors_or_give_the_same_archive(
        all in prop::collection::vec(damage(), 1..4),
        gzip in any::<bool>(),
    ) {
        let tar = sample();
        let compression = if gzip { Compression::Gzip } else { Compression::Zstd };
        let mut blob = compress(&tar, compression);
        let whole = blob.clone();
        all.iter().for_each(|damage| apply(damage, &mut blob));
        let changed = blob != whole;
        let result =
            convert_layers(vec![blob_layer(blob, digest(&tar), compression)], &options());
        // Damage to what does not matter, such as a checksum, is all that the diff_id lets pass.
        prop_assert!(result.is_ok() || changed);
    }

    #[test]
    fn noise_is_never_a_layer_that_panics(bytes in prop::collection::vec(any::<u8>(), 0..3000), start in 0..4) {
        let starts: [&[u8]; 4] = [b"", b"\x1f\x8b\x08\0\0\0\0\0\0\0", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"];
        let blob = [starts[start as usize], &bytes].concat();
        let _ = convert_layers(vec![blob_layer(blob, digest(b""), Compression::Gzip)], &options());
    }
}
