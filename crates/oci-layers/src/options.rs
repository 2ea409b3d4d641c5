//! What the caller decides about a conversion.

use std::thread::available_parallelism;

use squashfs::{BlockSize, Compressor};

use crate::limits::Limits;

/// The options of [`convert`](crate::convert).
#[derive(Clone, Debug)]
pub struct Options {
    /// How blocks and tables are compressed.
    pub compressor: Compressor,
    /// Bytes of file data in one block.
    pub block_size: BlockSize,
    /// What the layers may use.
    pub limits: Limits,
    /// Threads that compress; at least one runs.
    pub workers: usize,
    /// Layers that are read at once; at least one. Each costs a decompressor and up to its window of memory.
    pub readers: usize,
    /// Bytes of blocks that may wait for their turn; the layer whose turn it is may have as many again.
    pub budget: usize,
}

impl Default for Options {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self {
            compressor: Compressor::default(),
            block_size: BlockSize::default(),
            limits: Limits::default(),
            workers: cores,
            readers: match cores {
                0..=2 => 1,
                3..=8 => 2,
                _ => 4,
            },
            budget: 32 << 20,
        }
    }
}

impl Options {
    /// Describes everything that the bytes of the image depend on beside the layers.
    ///
    /// Two conversions of the same layers give the same bytes if, and only if, their descriptions are equal: it names
    /// the version of the layout, compressor, block size and the version of the compressor's library.
    pub fn describe(&self) -> String {
        format!(
            "layout {LAYOUT_VERSION}, {}, {} byte blocks, {}",
            self.compressor,
            self.block_size.bytes(),
            self.compressor.library(),
        )
    }
}

/// Raised whenever the same layers and options come out as other bytes than before.
const LAYOUT_VERSION: u32 = 2;
