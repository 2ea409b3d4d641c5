//! The header by which a registry asks for credentials decides where they go: no text of it may panic.
//!
//! The parser is private to its crate, so that its file is compiled in here.
#![no_main]
#![allow(dead_code, missing_docs, reason = "only the parser of this file is used")]

#[rustfmt::skip]
#[path = "../../crates/oci-registry/src/challenge.rs"]
mod challenge;

use challenge::{Challenge, parse_challenges};
use libfuzzer_sys::fuzz_target;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

fuzz_target!(|text: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(text) else { return };
    let mut headers = HeaderMap::new();
    headers.insert(WWW_AUTHENTICATE, value);
    for found in parse_challenges(&headers) {
        if let Challenge::Bearer { realm, .. } = found {
            assert!(realm.len() <= text.len());
        }
    }
});
