//! The payload of a credential is whatever a caller put there: no bytes of it may panic or bind by mistake.
#![no_main]

use gateway_api::Payload;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(payload) = Payload::from_bytes(bytes) {
        let _ = payload.check("GET", "/api/list/cluster/", b"");
    }
});
