//! The configuration is the admin's, but root reads it: no text of it may make the parser panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(conf) = udiroot_conf::parse(bytes) {
        assert!(conf.image_path.starts_with('/'));
    }
});
