//! Layers are archives that strangers made: any bytes end in an image or in an error, and an error leaves no image.
#![no_main]

use image_ref::Digest;
use libfuzzer_sys::fuzz_target;
use oci_layers::{Compression, Layer, Limits, Options, Progress, convert};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{Cursor, Read};
use std::os::unix::fs::FileExt;

/// Nobody watches.
struct Unwatched;

impl Progress for Unwatched {
    fn layer(&self, _: usize, _: u64) {}
    fn layer_done(&self, _: usize, _: bool) {}
    fn written(&self, _: u64) {}
}

fn layer(bytes: &[u8]) -> Layer {
    let digest = Digest::from_bytes(Sha256::digest(bytes).into());
    let content = bytes.to_vec();
    Layer {
        digest,
        diff_id: digest,
        size: bytes.len() as u64,
        compression: Compression::None,
        open: Box::new(move || Ok(Box::new(Cursor::new(content)) as Box<dyn Read + Send>)),
    }
}

fn magic(out: &File) -> [u8; 4] {
    let mut magic = [0; 4];
    let _ = out.read_at(&mut magic, 0);
    magic
}

fuzz_target!(|bytes: &[u8]| {
    // A lower and an upper layer, so that whiteouts and replaced entries have something to work on.
    let middle = bytes.len() / 2 / 512 * 512;
    let (lower, upper) = bytes.split_at(middle);
    let limits = Limits { entries: 1000, expanded_bytes: 8 << 20, ..Limits::default() };
    let options = Options { limits, workers: 1, readers: 1, ..Options::default() };
    let out = tempfile::tempfile().expect("a temporary file can be made");
    match convert(vec![layer(lower), layer(upper)], Vec::new(), &out, &options, &Unwatched) {
        Ok(summary) => {
            assert_eq!(&magic(&out), b"hsqs");
            assert_eq!(summary.bytes % 4096, 0);
            assert_eq!(out.metadata().expect("it is open").len(), summary.bytes);
        }
        Err(_) => assert_ne!(&magic(&out), b"hsqs"),
    }
});
