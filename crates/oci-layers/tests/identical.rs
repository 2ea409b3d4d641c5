//! The same layers give the same file, byte for byte, however many threads work on them, however their bytes arrive,
//! and whether layers were read or taken from other images.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod archive;
mod image;

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::FileExt;

use archive::Tar;
use image::{Silent, blob_layer, compress, digest, layer};
use image_ref::Digest;
use oci_layers::{Compression, Layer, Options, convert};

/// Three layers of about 30 MB that share content, hide a part of each other and need every way of storing a file.
fn tars() -> [Vec<u8>; 3] {
    let base = (0..1500).fold(Tar::default().dir("usr", 0o755).dir("usr/lib", 0o755), |tar, n| {
        tar.file(&format!("usr/lib/{n}"), 0o644, &text(n % 900, 200 + n as usize * 7))
    });
    let base = base
        .file("usr/lib/large.so", 0o755, &noise(1, 9_000_000))
        .hard_link("usr/lib/large.so.1", "usr/lib/large.so")
        .file("usr/lib/hidden.so", 0o755, &noise(2, 3_000_000))
        .file("usr/lib/linked.so", 0o755, &noise(3, 1_000_000));
    let middle = (0..400)
        .fold(Tar::default().dir("opt", 0o755), |tar, n| {
            tar.file(&format!("opt/{n}"), 0o644, &text(n, 3000))
        })
        .file("opt/data", 0o644, &noise(4, 6_000_000))
        .hard_link("opt/linked", "usr/lib/linked.so")
        .file("usr/lib/.wh.hidden.so", 0, b"");
    let upper = Tar::default()
        .dir("usr/lib", 0o755)
        .file("usr/lib/large.so", 0o755, &noise(5, 2_000_000))
        .file("opt/data", 0o644, &[noise(6, 300_000), vec![0; 4_000_000], noise(7, 9)].concat())
        .file("opt/.wh.3", 0, b"")
        .symlink("lib", "usr/lib");
    [base.finish(), middle.finish(), upper.finish()]
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| step()).collect()
}

fn text(seed: u32, length: usize) -> Vec<u8> {
    let words = format!("line {seed} of a text that compresses\n");
    words.bytes().cycle().take(length).collect()
}

fn layers(tars: &[Vec<u8>]) -> Vec<Layer> {
    let packed = [Compression::Gzip, Compression::None, Compression::Zstd];
    tars.iter().zip(packed).map(|(tar, packed)| layer(tar, packed)).collect()
}

/// The image, the digest of its file, and how many layers were taken from the sources.
fn converted(layers: Vec<Layer>, sources: &[&File], options: &Options) -> (File, Digest, u64) {
    let file = tempfile::tempfile().unwrap();
    let sources = sources.iter().map(|source| source.try_clone().unwrap()).collect();
    let summary = convert(layers, sources, &file, options, &Silent).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    (file, digest(&bytes), summary.reused.layers)
}

fn threads(count: usize, budget: usize) -> Options {
    Options { workers: count, readers: count, budget, ..Options::default() }
}

#[test]
fn c18_the_same_input_gives_the_same_file_in_20_runs_with_1_2_and_8_threads() {
    let tars = tars();
    assert!(tars.iter().map(Vec::len).sum::<usize>() > 25 << 20);
    let (whole, first, _) = converted(layers(&tars), &[], &threads(1, 0));
    // Other images that have some of the layers, with other content hidden.
    let (lower, ..) = converted(layers(&tars[..1]), &[], &threads(2, 0));
    let (below, ..) = converted(layers(&tars[..2]), &[], &threads(2, 0));
    let sources: [&[&File]; 4] = [&[], &[&lower], &[&below, &lower], &[&whole]];
    for run in 0..20 {
        let count = [1, 2, 8][run % 3];
        let budget = [0, 64 << 20][run % 2];
        let given = sources[run % 4];
        let (_, again, reused) = converted(layers(&tars), given, &threads(count, budget));
        assert_eq!(again, first, "run {run}: {count} threads, {budget} bytes, {reused} reused");
        assert_eq!(reused, [0, 1, 2, 3][run % 4], "run {run}");
    }
}

#[test]
fn c18_the_file_does_not_depend_on_how_bytes_arrive() {
    struct Dribble(Cursor<Vec<u8>>, usize);
    impl Read for Dribble {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.1 = (self.1 * 31 + 7) % 50_000;
            let length = out.len().min(self.1 + 1);
            self.0.read(&mut out[..length])
        }
    }
    let tars = tars();
    let (first, ..) = converted(layers(&tars), &[], &threads(2, 0));
    let slow = tars.iter().enumerate().map(|(seed, tar)| {
        let blob = compress(tar, Compression::Gzip);
        let mut layer = blob_layer(Vec::new(), digest(tar), Compression::Gzip);
        (layer.digest, layer.size) = (digest(&blob), blob.len() as u64);
        layer.open = Box::new(move || Ok(Box::new(Dribble(Cursor::new(blob), seed))));
        layer
    });
    // They are packed in other ways, too: the squashfs tells nothing of it.
    let (again, ..) = converted(slow.collect(), &[], &threads(8, 0));
    assert_eq!(squashfs(&again), squashfs(&first));
}

/// The part of the file that the kernel reads, whose length the superblock says.
fn squashfs(file: &File) -> Digest {
    let mut length = [0; 8];
    file.read_exact_at(&mut length, 40).unwrap();
    let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    digest(&bytes)
}
