//! Where readers, workers and the committer meet: one queue of blocks to encode, and what came of them, by layer.
//!
//! Memory is bounded by a budget of bytes that blocks hold from the moment they are handed in until the committer takes
//! them. The layer whose turn it is to be committed may use the budget whatever the others hold, so it never waits for
//! a layer that waits for it. Nothing here decides what the image holds.

use std::collections::{BTreeMap, VecDeque};
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
}

#[derive(Debug)]
struct State {
    jobs: VecDeque<Job>,
    layers: Vec<Arrivals>,
    /// Bytes that all blocks hold.
    held: u64,
    /// The layer that is being committed.
    turn: usize,
    ended: bool,
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
            ended: false,
            failure: None,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            arrival: Condvar::new(),
            budget: (budget as u64).max(SMALLEST_BUDGET),
        }
    }

    /// The next block to encode; `None` when there will be none.
    pub(crate) fn next_job(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state = wait(&self.work, state);
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
        if state.turn == layer {
            self.arrival.notify_one();
        }
        self.room.notify_all();
    }

    /// Says that a layer has been read whole, in `blocks` blocks.
    fn finish_layer(&self, layer: usize, index: LayerIndex, blocks: u64) {
        let mut state = self.lock();
        if let Some(arrivals) = state.layers.get_mut(layer) {
            arrivals.finished = Some((index, blocks));
        }
        self.arrival.notify_one();
    }

    /// Waits for block number `sequence` of a layer, or its end.
    pub(crate) fn take(&self, layer: usize, sequence: u64) -> Result<Next, Stopped> {
        let mut state = self.lock();
        state.turn = layer;
        self.room.notify_all();
        loop {
            if state.ended {
                return Err(Stopped);
            }
            let arrivals = state.layers.get_mut(layer).ok_or(Stopped)?;
            if let Some(encoded) = arrivals.blocks.remove(&sequence) {
                state.release(layer, charge(encoded.block.bytes.len()));
                self.room.notify_all();
                return Ok(Next::Block(encoded));
            }
            if let Some((index, _)) = arrivals.finished.take_if(|(_, blocks)| *blocks == sequence) {
                return Ok(Next::End(index));
            }
            state = wait(&self.arrival, state);
        }
    }

    /// Ends everything because of an error; the first one counts.
    pub(crate) fn fail(&self, error: ConvertError) {
        let mut state = self.lock();
        if !state.ended {
            state.failure = Some(error);
        }
        drop(state);
        self.end();
    }

    /// Ends everything: workers find no more jobs, readers no more room.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.work.notify_all();
        self.room.notify_all();
        self.arrival.notify_all();
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.lock().ended
    }

    pub(crate) fn failure(&self) -> Option<ConvertError> {
        self.lock().failure.take()
    }

    fn submit(&self, job: Job) -> Result<(), LayerError> {
        let need = charge(job.data.len());
        let mut state = self.lock();
        loop {
            if state.ended {
                return Err(LayerError::Stopped);
            }
            let own = state.layers.get(job.layer).map_or(0, |arrivals| arrivals.held);
            let used = if state.turn == job.layer { own } else { state.held };
            if used + need <= self.budget {
                break;
            }
            state = wait(&self.room, state);
        }
        state.hold(job.layer, need);
        state.jobs.push_back(job);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
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

/// Room for a few blocks of the largest size, below which threads would only take turns.
const SMALLEST_BUDGET: u64 = 8 << 20;
