//! End to end: Gantry's programs against a real munged, Slurm, registry and kernel.
//!
//! Every test runs on a [`Machine`] of its own: namespaces over a throw-away copy of this system, in which it installs
//! Gantry at its real paths and starts its own daemons. Products are run as programs, never linked. Everything
//! ends with the machine, also when the test panics or is killed.
#![forbid(unsafe_code)]

pub mod caller;
pub mod cluster;
pub mod daemon;
pub mod gateway;
pub mod images;
pub mod install;
pub mod leaks;
pub mod machine;
pub mod munged;
pub mod pull_site;
pub mod registry;
pub mod science;
pub mod slurm;
pub mod wait;

pub use caller::{Caller, Outcome};
pub use cluster::{Cluster, Plan};
pub use machine::{Machine, on_a_machine};
