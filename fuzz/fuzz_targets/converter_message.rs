//! What a converter says is believed as far as its types go: any bytes are one message or none, and can be said again.
#![no_main]

use converter_api::{Answer, Message, Reply, Request, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check::<Request>(bytes);
    check::<Answer>(bytes);
    check::<Reply>(bytes);
});

fn check<T: Message + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = parse::<T>(bytes) {
        let again = serde_json::to_vec(&message).expect("what was read can be written");
        assert_eq!(parse::<T>(&again).expect("what was written can be read"), message);
    }
}
