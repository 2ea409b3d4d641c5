//! The converter: makes one image, or looks one over, and ends.
//!
//! A child of the gateway, which hands it descriptors over a socket and believes nothing it says. Before the first
//! message is read the process is in its [`sandbox`]: it has no network, no credential and no path, so that whoever
//! takes it over through a hostile layer holds a few descriptors and nothing to do with them.
#![forbid(unsafe_code)]

mod conversation;
mod convert;
mod examine;
mod failure;
mod import;
mod options;
mod run;
pub mod sandbox;
mod tell;
mod writeback;

pub use run::{check, run};
