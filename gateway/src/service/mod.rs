//! What callers may ask for, in the domain's words: no HTTP, no SQL.

pub mod access;
pub mod error;
pub mod images;
pub mod imports;
pub mod pulls;
mod record;
