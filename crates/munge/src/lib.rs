//! Who is asking: credentials of the MUNGE authentication service, over libmunge.
//!
//! A process asks munged for a credential ([`Context::encode`]), sends it to another process of the same cluster, and
//! that one learns from its own munged whose it is ([`Context::decode`]). This crate is the only one that calls
//! libmunge; no pointer or C string leaves it, and what libmunge allocates is freed on every path.

// Written by `cargo xtask bindings` with bindgen from the header text
//     #include <errno.h>
//     #include <stdlib.h>
//     #include <munge.h>
// allowing the functions munge_encode, munge_decode, munge_strerror, munge_ctx_{create,copy,destroy,strerror,get,set} and
// free, the types munge_{opt,err,ttl,uid} and time_t, and the constant EPROTOTYPE; enums as constants without the enum's
// name in front, core instead of std, extern blocks merged, no comments, no layout tests, no version of bindgen on top.
#[allow(unreachable_pub)]
mod bindings;
mod context;
mod credential;
mod error;
mod socket;

pub use context::Context;
pub use credential::Decoded;
pub use error::MungeError;
