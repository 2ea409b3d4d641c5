//! An upload is what anybody sends: it is planned or refused, and its layers are as long as the plan says.
#![no_main]

use std::io::Write;

use image_ref::Platform;
use libfuzzer_sys::fuzz_target;
use oci_archives::{Wanted, plan};

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("room for it");
    let wanted = Wanted { platform: Platform::host(), image: None, expanded_bytes: 1 << 24 };
    let Ok(planned) = plan(file, &wanted) else { return };
    for layer in &planned.layers {
        let (_, size) = layer.stream();
        if let Ok(mut input) = layer.open()
            && let Ok(length) = std::io::copy(&mut input, &mut std::io::sink())
        {
            assert!(length <= size, "a layer of {size} bytes gives {length}");
        }
    }
});
