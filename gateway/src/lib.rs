//! The image gateway: pulls images from registries, turns each into one squashfs file, publishes and remembers them.
//!
//! Arrows within: `http -> service -> {pull, store, image_dir}`, never back. Only `http` knows HTTP, only `store` SQL,
//! only `image_dir` where files lie; `app` puts them together.
#![forbid(unsafe_code)]

pub mod app;
pub mod command;
pub mod config;
pub mod credentials;
pub mod http;
pub mod image_dir;
pub mod pull;
pub mod registries;
pub mod service;
pub mod store;
pub mod system;
pub mod telemetry;
