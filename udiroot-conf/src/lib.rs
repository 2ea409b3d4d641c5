//! udiRoot.conf and volumes: what admin, plugin, runtime and commands agree on.
//!
//! Reads Shifter's file unchanged, with Gantry's own keys beside Shifter's. No dependencies and no `std`, because
//! the set-user-id program reads the same file; feature `std` adds [`load`] for the others. Nothing here opens,
//! follows or trusts a path that it parsed.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod accounts;
mod conf;
mod env;
mod error;
mod lines;
#[cfg(feature = "std")]
mod load;
mod module;
#[cfg(feature = "std")]
pub mod show;
mod size;
pub mod volume;

pub use conf::{Conf, parse};
pub use env::EnvRules;
pub use error::{ConfError, Notice, Problem};
#[cfg(feature = "std")]
pub use load::{LoadError, load};
pub use module::{Module, ModuleError};
pub use size::parse_size;
pub use volume::{Origin, Volume, VolumeError};

/// The largest udiRoot.conf that is read, in bytes: a file beyond it is not a configuration.
pub const CONF_LIMIT: usize = 64 << 10;
