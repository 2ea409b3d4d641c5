//! From layers to one squashfs: changesets, whiteouts, the merged tree and the pipeline that does it in one pass.
//!
//! [`convert`] reads every layer once, checks its digests, and writes what the layers stacked on each other show. It
//! unpacks nothing: names and links of an archive are resolved in a model and never touch a file system, so nothing an
//! image says can name a file outside it. It knows no network and no store; the caller opens the layers, syncs and
//! publishes. What it writes is a function of the layers and the options alone.
#![forbid(unsafe_code)]

mod blob;
mod changeset;
mod commit;
mod content;
mod convert;
mod error;
mod flatten;
mod gzip;
mod index;
mod layer;
mod limits;
mod mask;
mod merge;
mod options;
mod path;
mod pipeline;
mod reuse;
mod tar;
mod units;

pub use convert::{Compression, Layer, Open, Progress, Reused, Skipped, Summary, convert};
pub use error::{ConvertError, EntryError, LayerError};
pub use limits::{Limit, LimitExceeded, Limits};
pub use options::Options;
pub use path::LayerPath;
pub use squashfs::{BlockSize, Compressor, CompressorError, WriteError};
pub use tar::{TarError, TarProblem};
