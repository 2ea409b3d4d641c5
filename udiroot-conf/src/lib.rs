//! udiRoot.conf and volumes: what admin, plugin, runtime and commands agree on.
//!
//! Reads Shifter's file unchanged, with Gantry's own keys beside Shifter's. No dependencies and no `std`, because
//! the set-user-id program reads the same file; what it has no use for stands in modules behind the feature
//! `unprivileged`. Nothing here opens, follows or trusts a path that it parsed.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "unprivileged")]
extern crate std;

mod conf;
mod env;
mod error;
mod lines;
mod module;
mod size;
pub mod volume;

#[cfg(feature = "unprivileged")]
pub mod accounts;
#[cfg(feature = "unprivileged")]
mod canonical;
#[cfg(feature = "unprivileged")]
mod commands;
#[cfg(feature = "unprivileged")]
mod load;
#[cfg(feature = "unprivileged")]
pub mod show;

pub use conf::{Conf, parse};
pub use env::EnvRules;
pub use error::{ConfError, Problem};
pub use module::{Module, ModuleError};
pub use size::parse_size;
pub use volume::{Origin, Volume, VolumeError};

#[cfg(feature = "unprivileged")]
pub use commands::{CommandConf, Notice, SUID_PATH};
#[cfg(feature = "unprivileged")]
pub use load::{LoadError, load};

/// The largest udiRoot.conf that is read, in bytes: a file beyond it is not a configuration.
pub const CONF_LIMIT: usize = 64 << 10;

/// The longest line for /etc/passwd or /etc/group that the runtime accepts, in bytes: a group of a large site may list
/// thousands of members.
pub const LINE_LIMIT: usize = 64 << 10;
