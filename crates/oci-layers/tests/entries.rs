//! Layers of very many entries; alone in their program, because they look at how much memory it uses.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod archive;
mod image;

use std::fs;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use archive::{Header, Tar};
use image::{blob_layer, convert_layers, digest, layer, limit_of};
use oci_layers::{Compression, Layer, Limit, Limits, Options};

/// Makes the headers of empty files as they are asked for, in directories of 1000.
struct Headers {
    next: u64,
    count: u64,
    rest: Vec<u8>,
    made: Arc<AtomicU64>,
}

impl Read for Headers {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() && self.next < self.count {
            let from = self.next;
            self.next = self.count.min(from + 256);
            let headers = (from..self.next).fold(Tar::default(), |tar, number| {
                let name = format!("{}/{number}", number / 1000);
                tar.header(Header::new(b'0', name.as_bytes(), 0o644, 0))
            });
            self.rest = headers.bytes;
            self.made.store(self.next, Ordering::Relaxed);
        }
        let length = out.len().min(self.rest.len());
        out[..length].copy_from_slice(&self.rest[..length]);
        self.rest.drain(..length);
        Ok(length)
    }
}

/// A layer of so many entries, which are made one by one, and how many have been made.
///
/// Its digests are wrong: who reads it to its end would say so.
fn endless(count: u64) -> (Layer, Arc<AtomicU64>) {
    let made = Arc::new(AtomicU64::new(0));
    let mut layer = blob_layer(Vec::new(), digest(b""), Compression::None);
    layer.size = u64::MAX;
    let headers = Headers { next: 0, count, rest: Vec::new(), made: Arc::clone(&made) };
    layer.open = Box::new(move || Ok(Box::new(headers)));
    (layer, made)
}

/// One at a time: the tests here share what memory the program has used.
static TURN: Mutex<()> = Mutex::new(());

/// The most memory that this program has used so far, in MiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

#[test]
fn c09_ten_million_entries_stop_at_the_limit_with_little_memory() {
    let _turn = TURN.lock();
    // Forgets the peak of what ran before.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    let (layer, made) = endless(10_000_000);
    let limits = Limits { entries: 50_000, ..Limits::default() };
    let options = Options { limits, workers: 1, readers: 1, ..Options::default() };
    let error = convert_layers(vec![layer], &options).unwrap_err();
    assert_eq!(limit_of(&error), Limit::Entries);
    let made = made.load(Ordering::Relaxed);
    assert!(made < 51_000, "{made} entries were read");
    let used = peak() - before;
    assert!(used < 64, "{used} MiB for 50000 entries");
}

#[test]
fn c09_three_hundred_thousand_entries_are_an_image() {
    let _turn = TURN.lock();
    let count = 300_000;
    let made = Arc::new(AtomicU64::new(0));
    let mut tar = Vec::new();
    Headers { next: 0, count, rest: Vec::new(), made }.read_to_end(&mut tar).unwrap();
    let limits = Limits { entries: count, ..Limits::default() };
    let options = Options { limits, workers: 1, readers: 1, ..Options::default() };
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    let (_, summary) = convert_layers(vec![layer(&tar, Compression::None)], &options).unwrap();
    let used = peak() - before;
    println!("{used} MiB");
    assert_eq!((summary.files, summary.directories), (count, count / 1000));
    // As little as `Limits::entries` promises; ten million would need so many times more.
    assert!(used * 1024 < count, "{used} MiB for {count} entries");
}

#[test]
fn c09_entries_are_counted_over_all_layers() {
    let _turn = TURN.lock();
    let tar = |prefix: &str| {
        let name = |n| format!("{prefix}{n}");
        (0..10).fold(Tar::default(), |tar, n| tar.file(&name(n), 0o644, b"")).finish()
    };
    let with = |entries| {
        let limits = Limits { entries, ..Limits::default() };
        let layers = ["a", "b"].map(|prefix| layer(&tar(prefix), Compression::None)).into();
        convert_layers(layers, &Options { limits, ..Options::default() })
    };
    assert!(with(20).is_ok());
    assert_eq!(limit_of(&with(19).unwrap_err()), Limit::Entries);
}
