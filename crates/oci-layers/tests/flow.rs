//! The pipeline under load: bounded memory, slow sources, and the same bytes whatever happens when.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod archive;
mod image;

use std::fs;
use std::io::{self, Cursor, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use archive::Tar;
use image::{Silent, layer};
use oci_layers::{Compression, Layer, Options, Progress, convert};

/// Gives its bytes in small pieces, late.
struct Slow(Cursor<Vec<u8>>, Duration);

impl Read for Slow {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        thread::sleep(self.1);
        let length = out.len().min(100_000);
        self.0.read(&mut out[..length])
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| step()).collect()
}

/// Four layers of 12 MB, more than the smallest budget each, hiding a part of each other.
fn layers(delays: [u64; 4]) -> Vec<Layer> {
    let tar = |n: u64| {
        Tar::default()
            .dir("d", 0o755)
            .file("d/shared", 0o644, &noise(n + 1, 3_000_000))
            .file(&format!("d/own-{n}"), 0o644, &noise(n + 10, 8_000_000))
            .file(&format!("small-{n}"), 0o644, &noise(n + 20, 50_000))
            .file(&format!("late-{n}"), 0o644, &noise(n + 30, 1_000_000))
            .finish()
    };
    (0..4)
        .map(|n| {
            let bytes = tar(n);
            let mut layer = layer(&bytes, Compression::None);
            let delay = Duration::from_micros(delays[n as usize]);
            layer.open = Box::new(move || Ok(Box::new(Slow(Cursor::new(bytes), delay))));
            layer
        })
        .collect()
}

fn converted(delays: [u64; 4], workers: usize, readers: usize) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let options = Options { workers, readers, budget: 1, ..Options::default() };
    convert(layers(delays), Vec::new(), file.as_file(), &options, &Silent).unwrap();
    fs::read(file.path()).unwrap()
}

#[test]
fn slow_layers_and_a_small_budget_change_nothing_and_block_nothing() {
    let first = converted([0; 4], 1, 1);
    // 4 layers' own files, and the uppermost shared one.
    assert!((39_200_000..39_400_000).contains(&first.len()), "{}", first.len());
    for (delays, workers, readers) in [
        ([0, 0, 0, 2000], 2, 4), // the one that is committed first comes last
        ([2000, 0, 0, 0], 8, 4),
        ([0, 500, 0, 500], 1, 8),
        ([0, 0, 0, 0], 2, 2),
    ] {
        assert!(converted(delays, workers, readers) == first, "{delays:?} {workers} {readers}");
    }
}

#[derive(Debug, Default)]
struct Watching {
    taken: [AtomicU64; 4],
    done: Mutex<Vec<usize>>,
    written: AtomicU64,
}

impl Progress for Watching {
    fn layer(&self, index: usize, bytes_taken: u64) {
        let before = self.taken[index].swap(bytes_taken, Ordering::Relaxed);
        assert!(before <= bytes_taken, "a layer never goes back");
    }

    fn layer_done(&self, index: usize, _: bool) {
        self.done.lock().unwrap().push(index);
    }

    fn written(&self, bytes: u64) {
        let before = self.written.swap(bytes, Ordering::Relaxed);
        assert!(before <= bytes, "the image never shrinks");
    }
}

#[test]
fn progress_ends_at_the_size_of_each_layer_and_of_the_image() {
    let layers = layers([0; 4]);
    let sizes: Vec<u64> = layers.iter().map(|layer| layer.size).collect();
    let watching = Watching::default();
    let file = tempfile::tempfile().unwrap();
    let summary = convert(layers, Vec::new(), &file, &Options::default(), &watching).unwrap();
    let taken: Vec<u64> =
        watching.taken.iter().map(|taken| taken.load(Ordering::Relaxed)).collect();
    assert_eq!(taken, sizes);
    let mut done = watching.done.lock().unwrap().clone();
    done.sort_unstable();
    assert_eq!(done, [0, 1, 2, 3]);
    assert_eq!(watching.written.load(Ordering::Relaxed), summary.bytes);
    assert_eq!(file.metadata().unwrap().len(), summary.bytes);
    assert_eq!(summary.bytes % 4096, 0);
}

#[test]
fn a_failure_while_other_layers_wait_for_room_ends_them_all() {
    let mut layers = layers([0; 4]);
    let good = layers[3].size as usize;
    layers[3].open = Box::new(move || {
        let zeros = io::repeat(0).take(good as u64 / 2);
        Ok(Box::new(zeros.chain(Broken)))
    });
    let file = tempfile::tempfile().unwrap();
    let options = Options { workers: 1, readers: 4, budget: 1, ..Options::default() };
    let error = convert(layers, Vec::new(), &file, &options, &Silent).unwrap_err();
    assert!(error.is_source(), "{error:?}");
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        thread::sleep(Duration::from_millis(200));
        Err(io::Error::other("connection lost"))
    }
}
