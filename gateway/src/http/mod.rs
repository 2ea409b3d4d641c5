//! The gateway as its clients see it: routes, credentials, JSON. Holds no decisions of its own.

mod auth;
mod error;
mod events;
mod health;
mod images;
mod import;
mod queue;
mod request_log;
pub mod router;
pub mod server;

pub(crate) use health::HealthCache;
