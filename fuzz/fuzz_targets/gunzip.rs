//! Gzip streams come from registries: ours gives what flate2 gives, however the bytes come, and fails where it fails.
//!
//! The decompressor is private to its crate, so that its file is compiled in here.
#![no_main]
#![allow(dead_code, reason = "only the decompressor of this file is used")]

#[rustfmt::skip]
#[path = "../../crates/oci-layers/src/gzip.rs"]
mod gzip;

use flate2::bufread::DeflateDecoder;
use libfuzzer_sys::fuzz_target;
use std::io::{self, Cursor, Read};

/// Gives a few bytes at a time, as many as its seed says.
struct Pieces<'a>(Cursor<&'a [u8]>, u8);

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1.rotate_left(3).wrapping_add(1);
        let length = out.len().min(usize::from(self.1 % 61) + 1);
        self.0.read(&mut out[..length])
    }
}

/// Reads members with flate2's own inflate; what a member's checksum says does not matter, because digests say more.
fn expected(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        rest = behind_header(rest)?;
        let mut inflate = DeflateDecoder::new(rest);
        inflate.by_ref().take(LIMIT + 1 - content.len() as u64).read_to_end(&mut content).ok()?;
        if content.len() as u64 > LIMIT {
            return None;
        }
        rest = inflate.into_inner().get(8..)?;
        if rest.iter().all(|byte| *byte == 0) {
            return Some(content);
        }
    }
}

/// RFC 1952, section 2.3.
fn behind_header(bytes: &[u8]) -> Option<&[u8]> {
    let [0x1f, 0x8b, 8, flags, _, _, _, _, _, _, rest @ ..] = bytes else { return None };
    let mut rest = rest;
    if flags & 0b1110_0000 != 0 {
        return None;
    }
    if flags & 4 != 0 {
        let [low, high, behind @ ..] = rest else { return None };
        rest = behind.get(usize::from(u16::from_le_bytes([*low, *high]))..)?;
    }
    for text in [8, 16] {
        if flags & text != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & 2 != 0 { rest.get(2..) } else { Some(rest) }
}

fn ours(input: impl Read) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    gzip::Gunzip::new(input).take(LIMIT + 1).read_to_end(&mut content)?;
    Ok(content)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((seed, bytes)) = bytes.split_first() else { return };
    // Most inputs are the body of a member, because mutations seldom find a header.
    let stream = if seed % 4 == 0 {
        bytes.to_vec()
    } else {
        [b"\x1f\x8b\x08\0\0\0\0\0\0\xff", bytes].concat()
    };
    let whole = ours(&stream[..]);
    let pieces = ours(Pieces(Cursor::new(&stream), *seed));
    assert_eq!(whole.as_ref().ok(), pieces.as_ref().ok(), "in pieces");
    match whole {
        Ok(content) if content.len() as u64 > LIMIT => {}
        whole => assert_eq!(whole.ok(), expected(&stream), "as flate2"),
    }
});

/// Bytes of content after which neither is asked for more.
const LIMIT: u64 = 1 << 20;
