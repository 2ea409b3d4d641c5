//! Where readers, workers and the committer meet: one queue of blocks to encode, and what came of them, by layer.
//!
//! Memory is bounded by a budget of bytes that blocks hold from the moment they are handed in until the committer takes
//! them. The layer whose turn it is to be committed may use the budget whatever the others hold, so it never waits for
//! a layer that waits for it. Nothing here decides what the image holds.
//!
//! A thread that sleeps is woken for several blocks at once where there are more to come: a switch for each would cost
//! more than all the rest that is done here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use squashfs::Block;

use crate::content::{BlockSink, Claim, Owner};
use crate::error::{ConvertError, LayerError};
use crate::layer::LayerIndex;

/// What the threads of one conversion share.
#[derive(Debug)]
pub(crate) struct Pipeline {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
    arrival: Condvar,
    budget: u64,
    /// Set under the lock, and readable without it.
    ended: AtomicBool,
}

#[derive(Debug)]
struct State {
    jobs: VecDeque<Job>,
    layers: Vec<Arrivals>,
    /// Bytes that all blocks hold.
    held: u64,
    /// The layer that is being committed.
    turn: usize,
    /// Number of the block that the committer sleeps for.
    awaited: Option<u64>,
    /// Workers that sleep because there are no jobs.
    idle: usize,
    /// Whether the reader of the layer that is being committed sleeps because there is no room.
    blocked: bool,
    /// Readers of other layers that do.
    waiting: usize,
    failure: Option<ConvertError>,
}

/// What of one layer waits for the committer.
#[derive(Debug, Default)]
struct Arrivals {
    blocks: BTreeMap<u64, Encoded>,
    held: u64,
    finished: Option<(LayerIndex, u64)>,
}

/// A block to encode.
#[derive(Debug)]
pub(crate) struct Job {
    layer: usize,
    sequence: u64,
    pub owner: Owner,
    claim: Claim,
    pub data: Vec<u8>,
}

/// A block that the committer may take.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub owner: Owner,
    pub claim: Claim,
    pub block: Block,
}

/// What the committer finds next in a layer.
#[derive(Debug)]
pub(crate) enum Next {
    Block(Encoded),
    End(LayerIndex),
}

/// The conversion has ended early; [`Pipeline::failure`] has the reason, if it is an error.
#[derive(Debug)]
pub(crate) struct Stopped;

impl Pipeline {
    pub(crate) fn new(layers: usize, budget: usize) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            layers: (0..layers).map(|_| Arrivals::default()).collect(),
            held: 0,
            turn: layers.saturating_sub(1),
            awaited: None,
            idle: 0,
            blocked: false,
            waiting: 0,
            failure: None,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            arrival: Condvar::new(),
            budget: (budget as u64).max(SMALLEST_BUDGET),
            ended: AtomicBool::new(false),
        }
    }

    /// The next block to encode; `None` when there will be none.
    pub(crate) fn next_job(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if self.is_ended() {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            state = wait(&self.work, state);
            state.idle -= 1;
        }
    }

    /// Hands in what came of `job`, whose data had `length` bytes.
    pub(crate) fn deliver(&self, job: Job, length: usize, block: Block) {
        let Job { layer, sequence, owner, claim, data: _ } = job;
        let mut state = self.lock();
        state.release(layer, charge(length));
        state.hold(layer, charge(block.bytes.len()));
        if let Some(arrivals) = state.layers.get_mut(layer) {
            arrivals.blocks.insert(sequence, Encoded { owner, claim, block });
        }
        if state.is_awaited(layer) {
            self.arrival.notify_one();
        }
        self.offer_room(&state);
    }

    /// Says that a layer has been read whole, in `blocks` blocks.
    fn finish_layer(&self, layer: usize, index: LayerIndex, blocks: u64) {
        let mut state = self.lock();
        if let Some(arrivals) = state.layers.get_mut(layer) {
            arrivals.finished = Some((index, blocks));
        }
        // The last of its blocks may be too few to have woken anyone.
        self.work.notify_all();
        self.arrival.notify_one();
    }

    /// Waits for block number `sequence` of a layer, or its end.
    pub(crate) fn take(&self, layer: usize, sequence: u64) -> Result<Next, Stopped> {
        let mut state = self.lock();
        if state.turn != layer {
            state.turn = layer;
            // Its reader may have more room now.
            self.room.notify_all();
        }
        loop {
            if self.is_ended() {
                return Err(Stopped);
            }
            let arrivals = state.layers.get_mut(layer).ok_or(Stopped)?;
            if let Some(encoded) = arrivals.blocks.remove(&sequence) {
                state.release(layer, charge(encoded.block.bytes.len()));
                self.offer_room(&state);
                return Ok(Next::Block(encoded));
            }
            if let Some((index, _)) = arrivals.finished.take_if(|(_, blocks)| *blocks == sequence) {
                return Ok(Next::End(index));
            }
            state.awaited = Some(sequence);
            state = wait(&self.arrival, state);
            state.awaited = None;
        }
    }

    /// Ends everything because of an error; the first one counts.
    pub(crate) fn fail(&self, error: ConvertError) {
        let mut state = self.lock();
        if !self.is_ended() {
            state.failure = Some(error);
            self.ended.store(true, Ordering::Relaxed);
        }
        drop(state);
        self.end();
    }

    /// Ends everything: workers find no more jobs, readers no more room.
    pub(crate) fn end(&self) {
        let state = self.lock();
        self.ended.store(true, Ordering::Relaxed);
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
        self.arrival.notify_all();
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    pub(crate) fn failure(&self) -> Option<ConvertError> {
        self.lock().failure.take()
    }

    fn submit(&self, job: Job) -> Result<(), LayerError> {
        let need = charge(job.data.len());
        let mut state = self.lock();
        loop {
            if self.is_ended() {
                return Err(LayerError::Stopped);
            }
            if state.used(job.layer) + need <= self.budget {
                break;
            }
            // Whoever can make room must be awake, however few blocks there are for it.
            self.work.notify_all();
            if state.turn == job.layer {
                self.arrival.notify_one();
                state.blocked = true;
                state = wait(&self.room, state);
                state.blocked = false;
            } else {
                state.waiting += 1;
                state = wait(&self.room, state);
                state.waiting -= 1;
            }
        }
        state.hold(job.layer, need);
        state.jobs.push_back(job);
        let wake = state.idle > 0 && state.jobs.len() >= BATCH;
        drop(state);
        if wake {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Wakes readers once there is room worth waking for.
    fn offer_room(&self, state: &State) {
        let low = self.budget - self.budget / 4;
        let own = state.blocked && state.used(state.turn) <= low;
        if own || (state.waiting > 0 && state.held <= low) {
            self.room.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Bytes that count against the budget where a block of `layer` is to be held.
    fn used(&self, layer: usize) -> u64 {
        let own = self.layers.get(layer).map_or(0, |arrivals| arrivals.held);
        if self.turn == layer { own } else { self.held }
    }

    /// Tells whether the committer sleeps for what is there of `layer`, and for enough of it.
    fn is_awaited(&self, layer: usize) -> bool {
        let Some(arrivals) = self.layers.get(layer).filter(|_| self.turn == layer) else {
            return false;
        };
        let enough = arrivals.blocks.len() >= BATCH || arrivals.finished.is_some() || self.blocked;
        enough && self.awaited.is_some_and(|sequence| arrivals.blocks.contains_key(&sequence))
    }

    fn hold(&mut self, layer: usize, bytes: u64) {
        self.held += bytes;
        if let Some(arrivals) = self.layers.get_mut(layer) {
            arrivals.held += bytes;
        }
    }

    fn release(&mut self, layer: usize, bytes: u64) {
        self.held -= bytes;
        if let Some(arrivals) = self.layers.get_mut(layer) {
            arrivals.held -= bytes;
        }
    }
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condition.wait(state).unwrap_or_else(PoisonError::into_inner)
}

/// What a block with so many bytes counts against the budget; one without bytes still takes some room.
fn charge(bytes: usize) -> u64 {
    bytes as u64 + 256
}

/// Numbers the blocks of one layer as its reader hands them in.
#[derive(Debug)]
pub(crate) struct LayerSink<'a> {
    pipeline: &'a Pipeline,
    layer: usize,
    next: u64,
}

impl<'a> LayerSink<'a> {
    pub(crate) fn new(pipeline: &'a Pipeline, layer: usize) -> Self {
        Self { pipeline, layer, next: 0 }
    }

    /// Says that the layer has been read whole.
    pub(crate) fn finish(self, index: LayerIndex) {
        self.pipeline.finish_layer(self.layer, index, self.next);
    }
}

impl BlockSink for LayerSink<'_> {
    fn submit(&mut self, owner: Owner, claim: Claim, data: Vec<u8>) -> Result<(), LayerError> {
        let sequence = self.next;
        self.next += 1;
        self.pipeline.submit(Job { layer: self.layer, sequence, owner, claim, data })
    }
}

/// Ends the pipeline if the thread that holds it panics, so that no other thread waits for it for ever.
#[derive(Debug)]
pub(crate) struct EndOnPanic<'a>(pub &'a Pipeline);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end();
        }
    }
}

/// For how many blocks a thread is woken while more are to come.
const BATCH: usize = 4;
/// Room for a few blocks of the largest size, below which threads would only take turns.
const SMALLEST_BUDGET: u64 = 8 << 20;
