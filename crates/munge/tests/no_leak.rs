//! libmunge's memory is ours to free on every path; alone in its program, because it looks at the whole process.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod munged;

use munge::MungeError;
use munged::Munged;

#[test]
fn nothing_leaks_on_any_path() {
    const ROUNDS: usize = 20_000;
    const PAYLOAD: usize = 1_024;
    let munged = Munged::start();
    let round = |payload: &[u8]| {
        let credential = munged.context().encode(payload).unwrap();
        assert_eq!(munged.context().decode(&credential).unwrap().payload.len(), payload.len());
        assert_eq!(munged.context().decode(&credential), Err(MungeError::Replayed));
    };
    let payload = vec![7; PAYLOAD];
    (0..ROUNDS / 20).for_each(|_| round(&payload));
    let before = resident_bytes();
    (0..ROUNDS).for_each(|_| round(&payload));
    let grown = resident_bytes().saturating_sub(before);
    // One forgotten payload a round would be 20 MB.
    assert!(grown < ROUNDS * PAYLOAD / 10, "grown by {grown} bytes");
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}
