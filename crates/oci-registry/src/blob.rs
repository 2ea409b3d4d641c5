//! A layer as a stream of bytes that ends cleanly only if all of them came.
//!
//! A connection that breaks or falls silent is resumed where it ended. Whether what came are the right bytes is found by
//! their digest at the end, here or at the reader, so it does not matter who sends the rest.

use crate::asked::Wanted;
use crate::failure::Failure;
use crate::patience::Patience;
use crate::{Asked, Bytes, RegistryError, Session};
use futures_util::stream::{self, Stream, StreamExt as _};
use image_ref::Digest;
use oci_documents::Descriptor;
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Response, StatusCode};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The bytes of one layer as they are stored.
///
/// The stream ends cleanly if the size is that of the descriptor and, where it is the stream that checks it, the digest
/// as well, and with an error otherwise: what was read before must not be used until then. Dropping it ends the download.
pub struct BlobStream {
    descriptor: Descriptor,
    inner: Pin<Box<dyn Stream<Item = Result<Bytes, RegistryError>> + Send>>,
}

impl BlobStream {
    /// Sends the first request and makes a stream of the answer, which checks the digest if `verify` is set.
    pub(crate) async fn open(
        session: Session,
        descriptor: Descriptor,
        verify: bool,
    ) -> Result<Self, RegistryError> {
        let mut download = Download {
            asked: session.asked(Wanted::Layer(descriptor.digest)),
            session,
            descriptor,
            hash: verify.then(Sha256::new),
            taken: 0,
            taken_at_failure: 0,
            failures: 0,
            source: None,
        };
        download.connect().await?;
        let inner = stream::try_unfold(download, |mut download| async move {
            Ok(download.next().await?.map(|bytes| (bytes, download)))
        });
        Ok(Self { descriptor, inner: inner.boxed() })
    }

    /// What is being read.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes, RegistryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(context)
    }
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobStream").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

/// How far a download has come.
struct Download {
    session: Session,
    asked: Asked,
    descriptor: Descriptor,
    /// `None` where the reader checks the digest.
    hash: Option<Sha256>,
    /// How many bytes were handed on.
    taken: u64,
    /// What `taken` was when something failed last.
    taken_at_failure: u64,
    failures: u32,
    source: Option<Source>,
}

/// An answer that is being read.
struct Source {
    response: Response,
    /// How many of its bytes we have already.
    skip: u64,
}

impl Download {
    /// The next bytes, or `None` at an end that is right.
    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let idle = self.session.timeouts().idle;
        loop {
            let Some(source) = &mut self.source else {
                self.connect().await?;
                continue;
            };
            let failure = match tokio::time::timeout(idle, source.response.chunk()).await {
                Ok(Ok(Some(chunk))) => match self.take(chunk)? {
                    Some(bytes) => return Ok(Some(bytes)),
                    None => continue,
                },
                _ if self.taken == self.descriptor.size => return self.finish().map(|()| None),
                Ok(Ok(None)) => Failure::interrupted("the answer ends too early"),
                Ok(Err(error)) => Failure::from_reqwest(&error),
                Err(_) => Failure::silence(idle),
            };
            self.source = None;
            self.pause(failure).await?;
        }
    }

    /// Checks and counts what came; `None` where nothing of it is new.
    fn take(&mut self, mut chunk: Bytes) -> Result<Option<Bytes>, RegistryError> {
        if let Some(source) = &mut self.source {
            let known = source.skip.min(chunk.len() as u64);
            source.skip -= known;
            // No more than the length of the chunk, which is a usize.
            drop(chunk.split_to(known as usize));
        }
        if chunk.is_empty() {
            return Ok(None);
        }
        if self.descriptor.size - self.taken < chunk.len() as u64 {
            let reason = format!(
                "it is longer than the {} bytes that its manifest says",
                self.descriptor.size
            );
            return Err(Failure::BadAnswer(reason).about(&self.asked));
        }
        self.taken += chunk.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(&chunk);
        }
        Ok(Some(chunk))
    }

    fn finish(&self) -> Result<(), RegistryError> {
        let Some(hash) = &self.hash else { return Ok(()) };
        let found = Digest::from_bytes(hash.clone().finalize().into());
        if found == self.descriptor.digest {
            return Ok(());
        }
        Err(RegistryError::DigestMismatch { asked: Box::new(self.asked.clone()), found })
    }

    /// Asks for what is missing until there is an answer or patience ends.
    async fn connect(&mut self) -> Result<(), RegistryError> {
        loop {
            match self.connect_once().await {
                Ok(source) => {
                    self.source = Some(source);
                    return Ok(());
                }
                Err(failure) => self.pause(failure).await?,
            }
        }
    }

    async fn connect_once(&self) -> Result<Source, Failure> {
        let mut headers = HeaderMap::new();
        if self.taken > 0 {
            let range = HeaderValue::try_from(format!("bytes={}-", self.taken));
            headers.insert(RANGE, range.map_err(|error| Failure::BadAnswer(error.to_string()))?);
        }
        let path = format!("blobs/{}", self.descriptor.digest);
        let response = self.session.get_once(&path, &headers).await?;
        let skip = self.already_known(&response)?;
        let expected = self.descriptor.size - (self.taken - skip);
        match response.content_length() {
            Some(length) if length != expected => Err(Failure::BadAnswer(format!(
                "it has {length} bytes where its manifest says {expected}"
            ))),
            _ => Ok(Source { response, skip }),
        }
    }

    /// How many bytes of an answer we have already: all that were taken if the server does not do ranges.
    fn already_known(&self, response: &Response) -> Result<u64, Failure> {
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(self.taken);
        }
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let expected = format!("bytes {}-", self.taken);
        if self.taken > 0 && range.is_some_and(|range| range.starts_with(&expected)) {
            return Ok(0);
        }
        Err(Failure::BadAnswer("it sends another part than was asked for".to_owned()))
    }

    /// Waits before the next try; a try that got something worth its while does not count as failed.
    async fn pause(&mut self, failure: Failure) -> Result<(), RegistryError> {
        if self.taken - self.taken_at_failure >= PROGRESS {
            self.failures = 0;
        }
        self.taken_at_failure = self.taken;
        let mut patience = Patience::after(self.session.timeouts(), self.failures);
        let result = patience.wait(failure).await;
        self.failures = patience.failures();
        result.map_err(|failure| failure.about(&self.asked))
    }
}

/// How many bytes between two failures make the first forgotten: with 10 GB there are at most 10,000 connections.
const PROGRESS: u64 = 1 << 20;
