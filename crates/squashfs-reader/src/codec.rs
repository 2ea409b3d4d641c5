//! Decompression of single blocks, with every compressor that Linux knows in squashfs, and the older LZMA.
//!
//! A block is decompressed whole, into room that the caller gives. It must use up its input to the last byte: what a
//! kernel would pass over in silence is refused.

use std::io::Read;

use flate2::{Decompress, FlushDecompress, Status};
use lzma_rust2::{LzmaReader, XzReader};

use crate::lzo;

/// How the blocks of an image are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is named after its compressor")]
pub enum Compression {
    Gzip,
    Lzma,
    Lzo,
    Xz,
    Lz4,
    Zstd,
}

impl Compression {
    pub(crate) fn from_id(id: u16) -> Option<Self> {
        Some(match id {
            1 => Self::Gzip,
            2 => Self::Lzma,
            3 => Self::Lzo,
            4 => Self::Xz,
            5 => Self::Lz4,
            6 => Self::Zstd,
            _ => return None,
        })
    }

    pub(crate) fn id(self) -> u16 {
        match self {
            Self::Gzip => 1,
            Self::Lzma => 2,
            Self::Lzo => 3,
            Self::Xz => 4,
            Self::Lz4 => 5,
            Self::Zstd => 6,
        }
    }
}

/// Why a block cannot be decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// It is no stream of the compressor, or a damaged one.
    #[error("the compressed bytes are damaged or hold too much")]
    Damaged,
    /// Bytes follow the stream.
    #[error("bytes follow the compressed ones")]
    Trailing,
    /// The stream asks for more memory than a block of this image can need.
    #[error("the compressed bytes ask for a window of {bytes} bytes")]
    Window {
        /// How much it asks for.
        bytes: u64,
    },
}

/// Decompresses the blocks of one image, one after the other.
pub(crate) struct Codec {
    state: State,
    /// The largest window that a kernel sets memory aside for.
    window: u64,
}

enum State {
    Gzip(Box<Decompress>),
    Lzma,
    Lzo,
    Xz,
    Lz4,
    /// `None` until the first block, because making one can fail.
    Zstd(Option<zstd::bulk::Decompressor<'static>>),
}

impl Codec {
    pub(crate) fn new(compression: Compression, block_size: u32) -> Self {
        let state = match compression {
            Compression::Gzip => State::Gzip(Box::new(Decompress::new(true))),
            Compression::Lzma => State::Lzma,
            Compression::Lzo => State::Lzo,
            Compression::Xz => State::Xz,
            Compression::Lz4 => State::Lz4,
            Compression::Zstd => State::Zstd(None),
        };
        Self { state, window: u64::from(block_size.max(METADATA_BYTES)) }
    }

    /// Decompresses `input` into the beginning of `output` and returns how many bytes it gave.
    pub(crate) fn decompress(
        &mut self,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CodecError> {
        match &mut self.state {
            State::Gzip(zlib) => {
                zlib.reset(true);
                let status = zlib.decompress(input, output, FlushDecompress::Finish);
                if !matches!(status, Ok(Status::StreamEnd)) {
                    return Err(CodecError::Damaged);
                }
                if zlib.total_in() != input.len() as u64 {
                    return Err(CodecError::Trailing);
                }
                usize::try_from(zlib.total_out()).map_err(|_| CodecError::Damaged)
            }
            State::Lzma => {
                let limit = self.kibibytes();
                let mut rest = input;
                let reader = LzmaReader::new_mem_limit(&mut rest, limit, None);
                let length = fill(reader.map_err(|_| CodecError::Damaged)?, output)?;
                if rest.is_empty() { Ok(length) } else { Err(CodecError::Trailing) }
            }
            State::Xz => {
                let mut rest = input;
                let reader = XzReader::new_mem_limit(&mut rest, false, self.kibibytes());
                let length = fill(reader, output)?;
                if rest.is_empty() { Ok(length) } else { Err(CodecError::Trailing) }
            }
            State::Lzo => lzo::decompress(input, output).ok_or(CodecError::Damaged),
            State::Lz4 => {
                lz4_flex::block::decompress_into(input, output).map_err(|_| CodecError::Damaged)
            }
            State::Zstd(decompressor) => {
                check_zstd_frame(input, self.window)?;
                let decompressor = match decompressor {
                    Some(decompressor) => decompressor,
                    none => none
                        .insert(zstd::bulk::Decompressor::new().map_err(|_| CodecError::Damaged)?),
                };
                decompressor.decompress_to_buffer(input, output).map_err(|_| CodecError::Damaged)
            }
        }
    }

    /// The window with room for the decoder's own tables.
    fn kibibytes(&self) -> u32 {
        (self.window >> 10) as u32 + DECODER_KIBIBYTES
    }
}

/// Reads everything; an error also where there is more than `output` holds.
fn fill(mut reader: impl Read, output: &mut [u8]) -> Result<usize, CodecError> {
    let mut filled = 0;
    while let Some(room) = output.get_mut(filled..).filter(|room| !room.is_empty()) {
        match reader.read(room).map_err(|_| CodecError::Damaged)? {
            0 => return Ok(filled),
            length => filled += length,
        }
    }
    match reader.read(&mut [0]) {
        Ok(0) => Ok(filled),
        _ => Err(CodecError::Damaged),
    }
}

/// Checks that `input` is one frame and nothing more, with a window that a kernel has memory for (RFC 8878, 3.1.1).
///
/// The library would go on with further frames where the kernel stops, so that the two could read different things.
fn check_zstd_frame(input: &[u8], allowed: u64) -> Result<(), CodecError> {
    let Some(([0x28, 0xb5, 0x2f, 0xfd, descriptor], rest)) = input.split_first_chunk() else {
        return Err(CodecError::Damaged);
    };
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        let window = *rest.first().ok_or(CodecError::Damaged)?;
        let base = 1_u64 << (10 + (window >> 3));
        let bytes = base + base / 8 * u64::from(window & 7);
        if bytes > allowed {
            return Err(CodecError::Window { bytes });
        }
    }
    match zstd::zstd_safe::find_frame_compressed_size(input) {
        Ok(length) if length == input.len() => Ok(()),
        Ok(_) => Err(CodecError::Trailing),
        Err(_) => Err(CodecError::Damaged),
    }
}

/// Bytes of a metadata block, which every window must hold.
const METADATA_BYTES: u32 = 8192;
/// What a decoder of LZMA2 needs beside its window: probabilities, and the largest chunk.
const DECODER_KIBIBYTES: u32 = 40 + 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn zstd_frame(data: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(data, 3).unwrap()
    }

    #[test]
    fn a_second_frame_or_other_bytes_behind_a_block_are_refused() {
        let mut out = [0; 100];
        let frame = zstd_frame(b"first");
        let mut codec = Codec::new(Compression::Zstd, 4096);
        assert_eq!(codec.decompress(&frame, &mut out), Ok(5));
        let two = [frame.clone(), zstd_frame(b"second")].concat();
        assert_eq!(codec.decompress(&two, &mut out), Err(CodecError::Trailing));
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0][..], &frame].concat();
        assert_eq!(codec.decompress(&skippable, &mut out), Err(CodecError::Damaged));

        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut zlib, b"first").unwrap();
        let mut zlib = zlib.finish().unwrap();
        let mut codec = Codec::new(Compression::Gzip, 4096);
        assert_eq!(codec.decompress(&zlib, &mut out), Ok(5));
        zlib.push(0);
        assert_eq!(codec.decompress(&zlib, &mut out), Err(CodecError::Trailing));
    }

    #[test]
    fn a_block_that_holds_more_than_its_room_is_refused() {
        let frame = zstd_frame(&[7; 8193]);
        let mut out = [0; 8192];
        let mut codec = Codec::new(Compression::Zstd, 4096);
        assert_eq!(codec.decompress(&frame, &mut out), Err(CodecError::Damaged));
        assert_eq!(codec.decompress(&zstd_frame(&[7; 8192]), &mut out), Ok(8192));
    }

    #[test]
    fn a_window_that_no_kernel_has_memory_for_is_refused() {
        // Magic, a descriptor with a window, and one of 128 KiB.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3, 1, 0, 0];
        let mut codec = Codec::new(Compression::Zstd, 4096);
        assert_eq!(
            codec.decompress(&frame, &mut [0; 10]),
            Err(CodecError::Window { bytes: 131_072 })
        );
        assert_eq!(Codec::new(Compression::Zstd, 131_072).decompress(&frame, &mut [0; 10]), Ok(0));
    }

    #[test]
    fn damaged_bytes_are_refused_by_every_compressor() {
        let mut out = [0; 8192];
        for id in 1..=6 {
            let compression = Compression::from_id(id).unwrap();
            let mut codec = Codec::new(compression, 4096);
            for input in [&[][..], &[0xff; 40], b"\x5d\0\0\0\x80", &[17; 9]] {
                assert!(codec.decompress(input, &mut out).is_err(), "{compression:?} {input:?}");
            }
        }
    }
}
