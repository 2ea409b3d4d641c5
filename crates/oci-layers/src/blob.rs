//! A layer's blob on its way from the source to its tar archive: counted, hashed, decompressed, hashed again.

use std::fmt;
use std::io::{self, BufReader, Cursor, Read};

use image_ref::Digest;
use sha2::{Digest as _, Sha256};

use crate::error::LayerError;
use crate::gzip::Gunzip;
use crate::limits::{LimitExceeded, Usage};

/// What the blob must turn out to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub digest: Digest,
    pub diff_id: Digest,
    pub size: u64,
}

/// The decompressed bytes of a blob. Read to the end, then call [`Blob::finish`].
pub(crate) struct Blob<'a> {
    expected: Expected,
    usage: &'a Usage<'a>,
    decoder: Decoder<'a>,
    diff: Sha256,
    expanded: u64,
}

type Input<'a> = io::Chain<Cursor<Vec<u8>>, Source<'a>>;

enum Decoder<'a> {
    Plain(Input<'a>),
    Gzip(Gunzip<Input<'a>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<Input<'a>>>),
}

impl<'a> Blob<'a> {
    /// Starts reading: the first bytes decide on the compression.
    ///
    /// The media type is a hint that registries get wrong, and Docker and containerd look at the bytes as well; whatever
    /// comes out is checked against the diff_id.
    pub(crate) fn open(
        mut source: Source<'a>,
        expected: Expected,
        usage: &'a Usage<'a>,
    ) -> Result<Self, LayerError> {
        let mut head = Vec::new();
        let failed = |error| fault_or(error, LayerError::Source);
        (&mut source).take(LONGEST_MAGIC).read_to_end(&mut head).map_err(failed)?;
        if let Some(compression) = unsupported(&head) {
            // If it is not even the right blob, that is what to report.
            source.finish(&expected)?;
            return Err(LayerError::Unsupported { compression });
        }
        let gzip = head.starts_with(&[0x1f, 0x8b]);
        let zstd = is_zstd(&head);
        let input = Cursor::new(head).chain(source);
        let decoder = if gzip {
            Decoder::Gzip(Gunzip::new(input))
        } else if zstd {
            let broken = |source| LayerError::Decompress { compression: "zstd", source };
            let buffered = BufReader::with_capacity(128 << 10, input);
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered).map_err(broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(broken)?;
            Decoder::Zstd(decoder)
        } else {
            Decoder::Plain(input)
        };
        Ok(Self { expected, usage, decoder, diff: Sha256::new(), expanded: 0 })
    }

    /// Turns an error that reading gave into what it means.
    pub(crate) fn explain(&self, error: io::Error) -> LayerError {
        let compression = match self.decoder {
            Decoder::Plain(_) => "plain tar",
            Decoder::Gzip(_) => "gzip",
            Decoder::Zstd(_) => "zstd",
        };
        fault_or(error, |source| LayerError::Decompress { compression, source })
    }

    /// Reads what is left and checks size, digest and diff_id.
    pub(crate) fn finish(mut self) -> Result<(), LayerError> {
        let mut waste = vec![0; 64 << 10];
        loop {
            match self.read(&mut waste) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    let error = self.explain(error);
                    return Err(self.prefer_mismatch(error));
                }
            }
        }
        let Self { expected, diff, decoder, .. } = self;
        decoder.into_source().finish(&expected)?;
        let found = Digest::from_bytes(diff.finalize().into());
        if found != expected.diff_id {
            return Err(LayerError::DiffId { expected: expected.diff_id, found });
        }
        Ok(())
    }

    /// Reads the rest of a blob that made no sense: if it is not even the right blob, that is what to report.
    pub(crate) fn prefer_mismatch(self, error: LayerError) -> LayerError {
        let malformed = matches!(
            error,
            LayerError::Decompress { .. } | LayerError::Tar(_) | LayerError::Entry { .. }
        );
        if !malformed {
            return error;
        }
        match self.decoder.into_source().finish(&self.expected) {
            Err(mismatch) => mismatch,
            Ok(()) => error,
        }
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = match &mut self.decoder {
            Decoder::Plain(input) => input.read(out),
            Decoder::Gzip(gunzip) => gunzip.read(out),
            Decoder::Zstd(zstd) => zstd.read(out),
        }?;
        self.diff.update(out.get(..length).unwrap_or_default());
        self.expanded += length as u64;
        let taken = self.decoder.source().taken;
        self.usage
            .add_expanded(length as u64, taken, self.expanded)
            .map_err(|limit| io::Error::other(Fault::Limit(limit)))?;
        Ok(length)
    }
}

impl<'a> Decoder<'a> {
    fn source(&self) -> &Source<'a> {
        match self {
            Self::Plain(input) => input,
            Self::Gzip(gunzip) => gunzip.get_ref(),
            Self::Zstd(zstd) => zstd.get_ref().get_ref(),
        }
        .get_ref()
        .1
    }

    fn into_source(self) -> Source<'a> {
        match self {
            Self::Plain(input) => input,
            Self::Gzip(gunzip) => gunzip.into_inner(),
            Self::Zstd(zstd) => zstd.into_inner().into_inner(),
        }
        .into_inner()
        .1
    }
}

impl fmt::Debug for Blob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("expected", &self.expected).finish_non_exhaustive()
    }
}

/// The caller's bytes, counted and hashed as they come.
pub(crate) struct Source<'a> {
    inner: Box<dyn Read + Send>,
    size: u64,
    taken: u64,
    hash: Sha256,
    watch: &'a (dyn Fn(u64) -> bool + Sync),
}

impl<'a> Source<'a> {
    /// `watch` is told how many bytes came so far and answers whether to go on.
    pub(crate) fn new(
        inner: Box<dyn Read + Send>,
        size: u64,
        watch: &'a (dyn Fn(u64) -> bool + Sync),
    ) -> Self {
        Self { inner, size, taken: 0, hash: Sha256::new(), watch }
    }

    /// Reads what is left, and checks that size and digest are those of the descriptor.
    fn finish(mut self, expected: &Expected) -> Result<(), LayerError> {
        let mut waste = vec![0; 64 << 10];
        while self.read(&mut waste).map_err(|error| fault_or(error, LayerError::Source))? > 0 {}
        if self.taken != expected.size {
            let (expected, found) = (expected.size, self.taken);
            return Err(LayerError::Size { expected, found, longer: false });
        }
        let found = Digest::from_bytes(self.hash.finalize().into());
        if found != expected.digest {
            return Err(LayerError::Digest { expected: expected.digest, found });
        }
        Ok(())
    }
}

impl Read for Source<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = loop {
            if !(self.watch)(self.taken) {
                return Err(io::Error::other(Fault::Stopped));
            }
            match self.inner.read(out) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io::Error::other(Fault::Source(error))),
                Ok(length) => break length,
            }
        };
        let bytes = out.get(..length).unwrap_or_default();
        if self.taken + length as u64 > self.size {
            return Err(io::Error::other(Fault::TooLong(self.size)));
        }
        self.hash.update(bytes);
        self.taken += length as u64;
        Ok(length)
    }
}

/// An error that is not the decompressor's, on its way through it.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the source failed")]
    Source(#[source] io::Error),
    #[error("more than {0} bytes came")]
    TooLong(u64),
    #[error("a limit is exceeded")]
    Limit(#[source] LimitExceeded),
    #[error("another layer failed")]
    Stopped,
}

fn fault_or(error: io::Error, otherwise: impl FnOnce(io::Error) -> LayerError) -> LayerError {
    match error.downcast::<Fault>() {
        Ok(Fault::Source(source)) => LayerError::Source(source),
        Ok(Fault::TooLong(size)) => LayerError::Size { expected: size, found: size, longer: true },
        Ok(Fault::Limit(limit)) => LayerError::Limit(limit),
        Ok(Fault::Stopped) => LayerError::Stopped,
        Err(error) => otherwise(error),
    }
}

/// The magic number of a zstd frame, or of a skippable one, with which some encoders begin.
fn is_zstd(head: &[u8]) -> bool {
    matches!(head, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// The name of a compression that Docker would read and the image specification does not know.
fn unsupported(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', b'&', b'S', b'Y'] => Some("bzip2"),
        _ => None,
    }
}

/// Bytes that tell one compression from another, bzip2's first block included.
const LONGEST_MAGIC: u64 = 10;

/// 128 MiB: what a decompressor may allocate for one layer, whatever the frame asks for.
const ZSTD_WINDOW_LOG: u32 = 27;
