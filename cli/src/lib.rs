//! The two commands people type: `imgctl` (images) and `gantry` (run).
//!
//! `imgctl` talks to the image gateway as the calling user; `gantry` finds the image's digest and execs the
//! set-user-id program. Nothing here has any privilege, and nothing but [`output`] prints.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod client;
pub mod exit;
pub mod follow;
pub mod gantry;
pub mod imgctl;
pub mod logins;
pub mod lookup;
pub mod names;
pub mod output;
pub mod progress;
pub mod site;
pub mod upload;
pub mod usage;
