//! Digests end up in file names and requests: what is taken for one must be sixty-four hexadecimal digits.
#![no_main]

use image_ref::Digest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(digest) = Digest::from_hex(text) {
        assert_eq!(digest.hex().to_string(), text);
        assert!(text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
});
