//! The sidecar is read by root and says who may use an image: there is one way to write each.
#![no_main]

use image_ref::Sidecar;
use libfuzzer_sys::fuzz_target;

const MAGIC: &[u8] = b"GANTRY\x01\n";

fuzz_target!(|records: &[u8]| {
    if let Ok(sidecar) = Sidecar::decode(&[MAGIC, records].concat()) {
        let written = sidecar.encode().expect("what was read is not too large to be written");
        assert_eq!(Sidecar::decode(&written).as_ref(), Ok(&sidecar));
    }
});
