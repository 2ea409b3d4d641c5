//! Blobs: compression, digests, sizes, ends, and sources that fail.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod archive;
mod image;

use std::fs::File;
use std::io::{self, Read};

use archive::Tar;
use image::{
    Silent, blob_layer, compress, convert_layers, convert_tars, digest, is_file, layer, names,
    unsquash,
};
use oci_layers::{Compression, ConvertError, Layer, Options, convert};

#[test]
fn c13_the_bytes_decide_on_the_compression_not_the_label() {
    let tar = Tar::default().file("x", 0o644, b"content").finish();
    let all = [Compression::None, Compression::Gzip, Compression::Zstd];
    for real in all {
        for label in all {
            let layer = blob_layer(compress(&tar, real), digest(&tar), label);
            let (file, _) = convert_layers(vec![layer], &Options::default()).unwrap();
            assert!(is_file(&unsquash(file.path()), "x", b"content"), "{real:?} as {label:?}");
        }
    }
}

#[test]
fn c17_a_truncated_layer_is_refused_and_zeros_behind_the_archive_are_not() {
    let tar = Tar::default().file("x", 0o644, &[1; 2000]).file("y", 0o644, b"y").finish();
    for length in (0..tar.len()).filter(|length| length % 512 != 0) {
        let cut = &tar[..length];
        let result = convert_layers(vec![layer(cut, Compression::None)], &Options::default());
        if length <= 3584 {
            assert!(result.is_err(), "{length}");
        }
    }
    let padded = [&tar[..], &[0; 20_000]].concat();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let layer = layer(&padded, compression);
        convert_layers(vec![layer], &Options::default()).unwrap();
    }
    let zeros_behind_gzip = [compress(&tar, Compression::Gzip), vec![0; 777]].concat();
    let layer = blob_layer(zeros_behind_gzip, digest(&tar), Compression::Gzip);
    convert_layers(vec![layer], &Options::default()).unwrap();
}

#[test]
fn c17_what_stands_behind_the_end_of_the_archive_is_no_part_of_it() {
    let hidden = Tar::default().file("smuggled", 0o644, b"s").finish();
    let tar = [Tar::default().file("x", 0o644, b"x").finish(), hidden].concat();
    assert_eq!(
        names(&unsquash(convert_tars(&[tar]).unwrap().0.path())),
        ["", "x"],
        "as Docker, containerd and GNU tar read it"
    );
}

#[test]
fn a_wrong_digest_diff_id_or_size_is_told_apart_and_leaves_no_image() {
    let tar = Tar::default().file("x", 0o644, &[5; 300_000]).finish();
    let other = digest(b"other");
    let wrong: [fn(&mut Layer, image_ref::Digest); 4] = [
        |layer, other| layer.digest = other,
        |layer, other| layer.diff_id = other,
        |layer, _| layer.size += 1,
        |layer, _| layer.size -= 1,
    ];
    for change in wrong {
        let mut layer = layer(&tar, Compression::Gzip);
        change(&mut layer, other);
        let file = tempfile::tempfile().unwrap();
        let error =
            convert(vec![layer], Vec::new(), &file, &Options::default(), &Silent).unwrap_err();
        assert!(error.is_digest_mismatch() && !error.is_source(), "{error:?}");
        assert_no_superblock(&file);
    }
}

#[test]
fn a_flipped_bit_is_a_digest_mismatch_not_a_malformed_layer() {
    let tar = Tar::default().file("x", 0o644, &[5; 3000]).finish();
    let blob = compress(&tar, Compression::Gzip);
    for at in 0..blob.len() {
        let mut broken = blob.clone();
        broken[at] ^= 0x10;
        let size = blob.len() as u64;
        let mut layer = blob_layer(broken, digest(&tar), Compression::Gzip);
        layer.digest = digest(&blob);
        layer.size = size;
        let error = convert_layers(vec![layer], &Options::default()).unwrap_err();
        assert!(error.is_digest_mismatch(), "byte {at}: {error:?}");
    }
}

#[test]
fn a_source_that_fails_is_told_apart_and_ends_the_other_layers() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let length = self.0.min(out.len());
            self.0 -= length;
            if length == 0 { Err(io::Error::other("connection lost")) } else { Ok(length) }
        }
    }
    for bytes in [0, 3, 100_000] {
        let good = Tar::default().file("x", 0o644, &[1; 1_000_000]).finish();
        let mut broken = layer(&good, Compression::None);
        broken.open = Box::new(move || Ok(Box::new(Broken(bytes))));
        let layers = vec![layer(&good, Compression::Gzip), broken, layer(&good, Compression::Zstd)];
        let options = Options { readers: 3, ..Options::default() };
        let error = convert_layers(layers, &options).unwrap_err();
        if bytes < 512 {
            assert!(error.is_source(), "{error:?}");
        }
        assert!(matches!(error, ConvertError::Layer { index: 1, .. }), "{error:?}");
    }
}

#[test]
fn no_layers_are_an_empty_image() {
    let (file, summary) = convert_tars(&[]).unwrap();
    assert_eq!((summary.entries, summary.bytes), (0, 4096));
    assert_eq!(names(&unsquash(file.path())), [""]);
}

fn assert_no_superblock(file: &File) {
    use std::os::unix::fs::FileExt;
    let mut magic = [0; 4];
    let length = file.read_at(&mut magic, 0).unwrap();
    assert_ne!(&magic[..length], b"hsqs");
}
