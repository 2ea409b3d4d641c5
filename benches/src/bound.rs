//! The lower bound: what any converter of these layers must do to their bytes, and nothing else.
//!
//! In it: reading the blobs from the page cache, SHA-256 of them, inflate, SHA-256 of the archives, and Zstandard over
//! the unique content of the image's files. Not in it: receiving and writing, the archives' headers, finding what is
//! unique, tables. The crates, their versions and features are the products', and so are the calls.

mod plan;

use anyhow::{Context, Result, ensure};
use flate2::{Decompress, FlushDecompress, Status};
use nix::sys::resource::UsageWho;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

pub(crate) use plan::{LayerPlan, plan};

use crate::measure::{Cost, usage};

/// Does the work once, on as many compressing threads as there are cores, and readers beside them.
///
/// # Errors
/// Where a layer is not what its digests say.
pub(crate) fn run(plans: &[LayerPlan]) -> Result<(Cost, u64)> {
    let cores = thread::available_parallelism()?.get();
    let mut order: Vec<&LayerPlan> = plans.iter().collect();
    order.sort_by_key(|plan| plan.layer.size);
    let waiting = Mutex::new(order);
    let pool = Pool::default();
    let (sender, receiver) = sync_channel(QUEUE);
    let receiver = Mutex::new(receiver);
    let (used, system) = usage(UsageWho::RUSAGE_SELF)?;
    let begun = Instant::now();
    let bytes = thread::scope(|scope| -> Result<u64> {
        let readers: Vec<_> = (0..(cores / 2).max(1))
            .map(|_| {
                let sender = sender.clone();
                scope.spawn(|| read_all(&waiting, &pool, sender))
            })
            .collect();
        drop(sender);
        let workers: Vec<_> =
            (0..cores).map(|_| scope.spawn(|| compress_all(&receiver, &pool))).collect();
        let mut bytes = 0;
        for worker in workers {
            bytes += worker.join().ok().context("a thread broke off")??;
        }
        for reader in readers {
            reader.join().ok().context("a thread broke off")??;
        }
        Ok(bytes)
    })?;
    let wall = begun.elapsed().as_secs_f64();
    let (used_after, system_after) = usage(UsageWho::RUSAGE_SELF)?;
    let (cpu, system) = (used_after - used, system_after - system);
    Ok((Cost { wall, cpu, system, ..Cost::default() }, bytes))
}

/// A block to compress: part of a buffer that others may use too.
struct Job {
    buffer: Arc<Vec<u8>>,
    range: Range<usize>,
}

/// Buffers that were used before, so that the kernel need not clear new pages.
#[derive(Default)]
struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    fn take(&self, length: usize) -> Vec<u8> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|buffer| buffer.len() == length);
        found.map_or_else(|| vec![0; length], |at| kept.swap_remove(at))
    }

    fn give(&self, buffer: Arc<Vec<u8>>) {
        if let Some(buffer) = Arc::into_inner(buffer) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

fn compress_all(receiver: &Mutex<Receiver<Job>>, pool: &Pool) -> Result<u64> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    let mut scratch = vec![0; zstd::zstd_safe::compress_bound(BLOCK)];
    let mut bytes = 0;
    loop {
        let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { buffer, range }) = job else { return Ok(bytes) };
        let block = buffer.get(range).context("a block beyond its buffer")?;
        let length = compressor.compress_to_buffer(block, scratch.as_mut_slice())?;
        bytes += length.min(block.len()) as u64;
        pool.give(buffer);
    }
}

fn read_all(waiting: &Mutex<Vec<&LayerPlan>>, pool: &Pool, sender: SyncSender<Job>) -> Result<()> {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(plan) = next else { return Ok(()) };
        let path = &plan.layer.path;
        read_layer(plan, pool, &sender)
            .with_context(|| format!("cannot read {}", path.display()))?;
    }
}

/// Inflates one layer and sends the blocks that its plan names.
fn read_layer(plan: &LayerPlan, pool: &Pool, sender: &SyncSender<Job>) -> Result<()> {
    let mut archive = Inflating::open(plan)?;
    let mut pieces = plan.pieces.iter().peekable();
    let (mut base, mut kept) = (0, 0);
    let mut buffer = pool.take(BUFFER);
    let mut shared = pool.take(BLOCK);
    let mut filled = 0;
    loop {
        let end = archive.fill(&mut buffer, kept)?;
        let full = Arc::new(buffer);
        let mut rest = end;
        while let Some(piece) = pieces.peek() {
            let begin = usize::try_from(piece.offset - base)?;
            if begin + piece.length > end {
                rest = begin.min(end);
                break;
            }
            if piece.shared {
                if filled + piece.length > BLOCK {
                    sender.send(Job { buffer: Arc::new(shared), range: 0..filled })?;
                    (shared, filled) = (pool.take(BLOCK), 0);
                }
                let from = full.get(begin..begin + piece.length).context("a piece outside")?;
                shared
                    .get_mut(filled..filled + piece.length)
                    .context("no room")?
                    .copy_from_slice(from);
                filled += piece.length;
            } else {
                let range = begin..begin + piece.length;
                sender.send(Job { buffer: Arc::clone(&full), range })?;
            }
            pieces.next();
        }
        if archive.ended {
            ensure!(pieces.peek().is_none(), "the archive ends before its files");
            pool.give(full);
            sender.send(Job { buffer: Arc::new(shared), range: 0..filled })?;
            return archive.check(plan);
        }
        buffer = pool.take(BUFFER);
        kept = end - rest;
        buffer
            .get_mut(..kept)
            .context("no room")?
            .copy_from_slice(full.get(rest..end).context("no rest")?);
        base += rest as u64;
        pool.give(full);
    }
}

/// A layer on its way through both hashes and inflate.
struct Inflating {
    file: File,
    input: Vec<u8>,
    range: Range<usize>,
    packed: Sha256,
    unpacked: Sha256,
    inflate: Decompress,
    ended: bool,
}

impl Inflating {
    /// Opens a layer of one gzip member with the plainest header, as `pigz -n` writes it.
    fn open(plan: &LayerPlan) -> Result<Self> {
        let mut file = File::open(&plan.layer.path)?;
        let mut header = [0; 10];
        file.read_exact(&mut header)?;
        ensure!(header[..4] == [0x1f, 0x8b, 8, 0], "no plain gzip header");
        let mut packed = Sha256::new();
        packed.update(header);
        Ok(Self {
            file,
            input: vec![0; STEP],
            range: 0..0,
            packed,
            unpacked: Sha256::new(),
            // The CRC is left out, as in the product: SHA-256 covers the same bytes.
            inflate: Decompress::new(false),
            ended: false,
        })
    }

    /// Fills the buffer from `at` on, to its end or that of the archive; returns how far it is filled.
    fn fill(&mut self, buffer: &mut [u8], mut at: usize) -> Result<usize> {
        while at < buffer.len() && !self.ended {
            if self.range.is_empty() {
                let count = self.file.read(&mut self.input)?;
                ensure!(count > 0, "the layer is cut off");
                self.packed.update(self.input.get(..count).unwrap_or_default());
                self.range = 0..count;
            }
            let input = self.input.get(self.range.clone()).unwrap_or_default();
            let limit = buffer.len().min(at + STEP);
            let out = buffer.get_mut(at..limit).unwrap_or_default();
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(input, out, FlushDecompress::None)?;
            let given = usize::try_from(self.inflate.total_out() - before.1)?;
            self.unpacked.update(out.get(..given).unwrap_or_default());
            self.range.start += usize::try_from(self.inflate.total_in() - before.0)?;
            at += given;
            self.ended = status == Status::StreamEnd;
        }
        Ok(at)
    }

    /// Hashes what is behind the archive and compares both digests.
    fn check(mut self, plan: &LayerPlan) -> Result<()> {
        loop {
            let count = self.file.read(&mut self.input)?;
            if count == 0 {
                break;
            }
            self.packed.update(self.input.get(..count).unwrap_or_default());
        }
        let written = |hash: Sha256| -> String {
            hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let (packed, unpacked) = (written(self.packed), written(self.unpacked));
        ensure!(plan.layer.digest == format!("sha256:{packed}"), "its digest is {packed}");
        ensure!(plan.layer.diff_id == format!("sha256:{unpacked}"), "its diff_id is {unpacked}");
        Ok(())
    }
}

/// The product's default block size.
const BLOCK: usize = 128 << 10;

/// The product's default level.
const LEVEL: i32 = 2;

/// An archive is inflated into buffers of this size; what is cut at the end of one is copied to the next.
const BUFFER: usize = 2 << 20;

/// As much is hashed at a time as is still in the processor's cache.
const STEP: usize = 128 << 10;

/// Blocks that wait for a thread.
const QUEUE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use ::tests::images::{Layer, Packing, Tree, noise};

    #[test]
    fn the_bound_compresses_every_planned_byte_and_checks_both_digests() {
        let directory = std::env::temp_dir().join(format!("bench-bound-{}", std::process::id()));
        let mut tree = Tree::new();
        // Noise does not shrink, so that what comes out tells what went in; the file crosses several buffers.
        let large = 3 * BUFFER + BLOCK / 2 + 3;
        tree.file("large", 0o644, &noise(1, large)).unwrap();
        for number in 0..20 {
            tree.file(&format!("small-{number}"), 0o644, &noise(100 + 2 * number, 9000)).unwrap();
        }
        let archive = tree.finish().unwrap();
        let mut layer = Layer::pack(&directory, &archive, Packing::Gzip).unwrap();
        let plans = plan(std::slice::from_ref(&layer)).unwrap();
        let (cost, bytes) = run(&plans).unwrap();
        assert_eq!(bytes, (large + 20 * 9000) as u64);
        assert!(cost.wall > 0.0);
        layer.diff_id = layer.digest.clone();
        let wrong = plan(&[layer]).unwrap();
        assert!(run(&wrong).unwrap_err().root_cause().to_string().contains("diff_id"));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
