//! What the gateway and its converter say to each other.
//!
//! The gateway asks for one thing and hands over descriptors; the converter, which can open nothing itself, asks for the
//! layers when it gets to them, tells how far it is and how it ended. Here are the messages and the [`Channel`] that
//! carries them; what to make of them is decided at either end. Nothing here trusts the other end with more than the
//! types say.
#![forbid(unsafe_code)]

mod channel;
mod message;

pub use channel::{Channel, ChannelError, MESSAGE_LIMIT, parse};
pub use message::{
    Answer, Compression, Convert, Converted, Failure, FailureKind, Import, LayerSpec, MAX_SOURCES,
    Message, Options, Plan, PlannedLayer, Reply, Request,
};

/// The converter's exit code where it has no sandbox and does nothing therefore (`EX_OSERR` of sysexits.h).
pub const NO_SANDBOX: u8 = 71;
