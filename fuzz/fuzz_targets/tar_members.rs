//! Archives are read the same however their bytes come and whether their data is read or passed over, within limits.
//!
//! The reader is private to its crate, so that its files are compiled in here.
#![no_main]
#![allow(
    dead_code,
    unfulfilled_lint_expectations,
    reason = "only the reader of these files is used"
)]

#[rustfmt::skip]
#[path = "../../crates/oci-layers/src/limits.rs"]
mod limits;
#[rustfmt::skip]
#[path = "../../crates/oci-layers/src/tar/mod.rs"]
mod tar;

use libfuzzer_sys::fuzz_target;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use tar::{Archive, Member, MemberKind};

/// Gives a few bytes at a time.
struct Pieces<'a>(Cursor<&'a [u8]>, u8);

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1.rotate_left(3).wrapping_add(1);
        let length = out.len().min(usize::from(self.1) * 3 + 1);
        self.0.read(&mut out[..length])
    }
}

/// What the archive holds, up to where it ends or is malformed.
fn members(input: impl BufRead, read_data: bool) -> (Vec<String>, Result<(), String>) {
    let mut archive = Archive::new(input, HEADER_LIMIT);
    let mut found = Vec::new();
    loop {
        match archive.next_member() {
            Ok(None) => return (found, Ok(())),
            Err(error) => return (found, Err(format!("{error:?}"))),
            Ok(Some(member)) => {
                let stored = check(&member);
                found.push(format!("{member:?}"));
                let mut data = vec![0; stored.min(1 << 16) as usize];
                if read_data && let Err(error) = archive.read_data(&mut data) {
                    return (found, Err(format!("{error:?}")));
                }
            }
        }
    }
}

/// Checks what every later step relies on; returns how many bytes of data the member has.
fn check(member: &Member) -> u64 {
    assert!(!member.name.contains(&0) && !member.link.contains(&0));
    assert!(member.mode <= 0o7777);
    if member.kind != MemberKind::File {
        assert!(member.size == 0 && member.sparse.is_none());
    }
    let Some(segments) = &member.sparse else { return member.size };
    let mut end = 0;
    for segment in segments {
        assert!(segment.offset >= end);
        end = segment.offset.checked_add(segment.length).expect("it was checked");
    }
    assert!(end <= member.size);
    segments.iter().map(|segment| segment.length).sum()
}

/// Gives every header its right sum, because mutations seldom find it.
fn mend(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((seed, bytes)) = bytes.split_first() else { return };
    let mut archive = bytes.to_vec();
    if seed % 8 != 0 {
        mend(&mut archive);
    }
    let whole = members(&archive[..], true);
    let pieces = BufReader::with_capacity(700, Pieces(Cursor::new(&archive), *seed));
    assert_eq!(whole, members(pieces, true), "in pieces");
    let passed_over = members(&archive[..], false);
    if whole.1.is_ok() {
        assert_eq!(whole, passed_over, "passed over");
    }
});

const HEADER_LIMIT: u64 = 1 << 16;
