//! Damaged layers, more than 10,000 of them: each an error that names its layer, or a correct image, never a panic,
//! never a hang, and no image where there is an error.
//!
//! Digests are computed over the damaged bytes where the damage is to reach the decompressors and the tar reader. A
//! case that fails is made smaller and printed.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod archive;
mod image;

use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use archive::{Header, Tar};
use image::{Silent, blob_layer, chain, compress, digest, examined, layer, unsquash};
use oci_layers::{BlockSize, Compression, ConvertError, Layer, Limits, Options, convert};
use proptest::prelude::*;
use tempfile::NamedTempFile;

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

/// Converts one layer under the eyes of a watchdog; an error must tell its layer and leave no superblock.
fn converted(layer: Layer) -> Result<NamedTempFile, ConvertError> {
    let (done, finished) = mpsc::channel();
    let conversion = thread::spawn(move || {
        let file = NamedTempFile::new().unwrap();
        let result = convert(vec![layer], Vec::new(), file.as_file(), &options(), &Silent);
        done.send(()).unwrap();
        (file, result)
    });
    let timely = finished.recv_timeout(LONGEST);
    assert_ne!(timely, Err(mpsc::RecvTimeoutError::Timeout), "it hangs");
    let Ok((file, result)) = conversion.join() else { panic!("it panics") };
    let mut magic = [0; 4];
    let length = file.as_file().read_at(&mut magic, 0).unwrap();
    let has_superblock = &magic[..length] == b"hsqs";
    match result {
        Ok(summary) => {
            assert!(has_superblock);
            examined(file.as_file(), &summary);
            Ok(file)
        }
        Err(error) => {
            let text = chain(&error);
            assert!(!has_superblock, "{text}");
            assert!(text.starts_with("layer 1 (sha256:") && text.contains(": "), "{text}");
            assert!(!text.contains("was dropped although"), "{text}");
            Err(error)
        }
    }
}

/// No case takes as much as a second.
const LONGEST: Duration = Duration::from_secs(120);

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

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, max_shrink_iters: 200, ..ProptestConfig::default() }
}

fn packed() -> impl Strategy<Value = Compression> {
    prop::sample::select(vec![Compression::None, Compression::Gzip, Compression::Zstd])
}

proptest! {
    #![proptest_config(cases(5000))]

    #[test]
    fn damaged_archives_are_errors_or_correct_images(
        all in prop::collection::vec(damage(), 1..4),
        mend in any::<bool>(),
        packed in packed(),
        look in 0..20_u8,
    ) {
        let mut tar = sample();
        all.iter().for_each(|damage| apply(damage, &mut tar));
        if mend {
            mend_sums(&mut tar);
        }
        if let Ok(image) = converted(layer(&tar, packed)) && look == 0 {
            unsquash(image.path());
        }
    }
}

proptest! {
    #![proptest_config(cases(4000))]

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
        let result = converted(blob_layer(blob, digest(&tar), compression));
        // Damage to what does not matter, such as a checksum, is all that the diff_id lets pass.
        prop_assert!(result.is_ok() || changed);
    }
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn blobs_damaged_on_their_way_are_digest_mismatches(damage in damage(), packed in packed()) {
        let tar = sample();
        let blob = compress(&tar, packed);
        let mut damaged = blob.clone();
        apply(&damage, &mut damaged);
        let changed = damaged != blob;
        let mut layer = blob_layer(damaged, digest(&tar), packed);
        (layer.digest, layer.size) = (digest(&blob), blob.len() as u64);
        match converted(layer) {
            Ok(_) => prop_assert!(!changed),
            Err(error) => prop_assert!(changed && error.is_digest_mismatch(), "{error:?}"),
        }
    }

    #[test]
    fn noise_is_never_a_layer_that_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        start in 0..6_usize,
    ) {
        let starts: [&[u8]; 6] = [
            b"",
            b"\x1f\x8b\x08\0\0\0\0\0\0\0",
            b"\x28\xb5\x2f\xfd",
            b"\x50\x2a\x4d\x18",
            b"\xfd7zXZ\0",
            b"BZh91AY&SY",
        ];
        let blob = [starts[start], &bytes].concat();
        let error = converted(blob_layer(blob, digest(b""), Compression::Gzip)).err();
        // An empty blob is an empty archive: the only one of these that can be what it says.
        prop_assert!(error.is_some() || (start == 0 && bytes.is_empty()));
    }
}
