//! Layers that are wrong, break off, never end or never come.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod server;

use futures_util::TryStreamExt as _;
use oci_registry::{Bytes, Descriptor, LayerCompression, RegistryError};
use server::{Reply, Request, Server, Then, digest_of, ok, status};
use std::time::{Duration, Instant};

fn content() -> Vec<u8> {
    (0..100_000u32).flat_map(u32::to_le_bytes).collect()
}

fn descriptor() -> Descriptor {
    let bytes = content();
    Descriptor {
        digest: digest_of(&bytes),
        size: bytes.len() as u64,
        compression: LayerCompression::None,
    }
}

async fn read(server: &Server) -> Result<Vec<u8>, RegistryError> {
    let chunks: Vec<Bytes> = server.session().blob(&descriptor()).await?.try_collect().await?;
    Ok(chunks.concat())
}

/// Where the requested range starts.
fn start_of(request: &Request) -> Option<usize> {
    request.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// The content from `start` on, as a server with ranges gives it out.
fn rest(start: usize) -> Reply {
    let bytes = content();
    let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
    Reply { status: 206, ..ok(&bytes[start..]) }.with("content-range", range)
}

/// The first `length` bytes, and what happens then.
fn first(length: usize, then: fn(usize) -> Then) -> Reply {
    let bytes = content();
    ok(&bytes[..length]).then(then(bytes.len() - length))
}

#[tokio::test]
async fn a_broken_download_is_resumed_where_it_ended() {
    for breaks in [Then::CloseEarly as fn(usize) -> Then, Then::Stall] {
        let server = Server::start(move |request| match start_of(request) {
            None => first(150_000, breaks),
            Some(start) => rest(start),
        });
        assert!(read(&server).await.unwrap() == content());
        let ranges: Vec<_> = server.seen().iter().map(start_of).collect();
        assert_eq!(ranges, [None, Some(150_000)]);
    }
}

#[tokio::test]
async fn a_server_without_ranges_costs_the_bytes_again_but_not_the_layer() {
    let server = Server::start(|request| match request.earlier {
        0 => first(150_000, Then::CloseEarly),
        _ => ok(content()),
    });
    assert!(read(&server).await.unwrap() == content());
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_download_that_keeps_breaking_is_given_up() {
    let server = Server::start(|request| match start_of(request) {
        None => first(1_000, Then::CloseEarly),
        Some(start) => rest(start).then(Then::CloseEarly(0)),
    });
    assert!(read(&server).await.is_ok());
    let server = Server::start(|_| first(1_000, Then::CloseEarly));
    let error = read(&server).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn silence_ends_after_the_idle_time() {
    let server = Server::start(|_| first(0, Then::Stall));
    let start = Instant::now();
    let error = read(&server).await.unwrap_err();
    assert!(error.to_string().ends_with("nothing came for 0.4 s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn wrong_bytes_are_an_error_in_place_of_an_end() {
    let mut wrong = content();
    wrong[399_999] ^= 1;
    let found = digest_of(&wrong);
    let server = Server::start(move |_| ok(wrong.clone()));
    let error = read(&server).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { found: f, .. } if f == found),
        "{error}"
    );

    // The first half from the right layer, the second from another.
    let server = Server::start(|request| match start_of(request) {
        None => first(150_000, Then::CloseEarly),
        Some(start) => {
            let mut reply = rest(start);
            reply.body[7] ^= 1;
            reply
        }
    });
    assert!(matches!(read(&server).await.unwrap_err(), RegistryError::DigestMismatch { .. }));
}

#[tokio::test]
async fn a_reader_that_checks_the_digest_itself_is_told_of_a_wrong_size_alone() {
    let mut wrong = content();
    wrong[0] ^= 1;
    let body = wrong.clone();
    let server = Server::start(move |_| ok(body.clone()));
    let stream = server.session().unverified_blob(&descriptor()).await.unwrap();
    let chunks: Vec<Bytes> = stream.try_collect().await.unwrap();
    assert!(chunks.concat() == wrong);

    let server = Server::start(|_| ok(content()).then(Then::Endless));
    let stream = server.session().unverified_blob(&descriptor()).await.unwrap();
    let error = stream.try_collect::<Vec<Bytes>>().await.unwrap_err();
    assert!(error.to_string().contains("longer than the 400000 bytes"), "{error}");
}

#[tokio::test]
async fn a_layer_that_is_too_long_or_too_short_is_refused() {
    let server = Server::start(|_| ok(content()).then(Then::Endless));
    let error = read(&server).await.unwrap_err();
    assert!(error.to_string().contains("longer than the 400000 bytes"), "{error}");
    for bytes in [[content(), vec![0]].concat(), content()[1..].to_vec(), Vec::new()] {
        let server = Server::start(move |_| ok(bytes.clone()));
        let error = read(&server).await.unwrap_err();
        assert!(matches!(error, RegistryError::BadAnswer { .. }), "{error}");
        assert!(error.to_string().contains("where its manifest says 400000"), "{error}");
    }
}

#[tokio::test]
async fn another_range_than_was_asked_for_is_refused() {
    for odd in
        ["bytes 1-399999/400000", "bytes 15-399999/400000", "bytes 1500-1", "lines 150000-", ""]
    {
        let server = Server::start(move |request| match start_of(request) {
            None => first(150_000, Then::CloseEarly),
            Some(start) => {
                Reply { status: 206, ..ok(&content()[start..]) }.with("content-range", odd)
            }
        });
        let error = read(&server).await.unwrap_err();
        assert!(error.to_string().contains("another part"), "{odd}: {error}");
    }
}

#[tokio::test]
async fn a_busy_registry_is_asked_again_when_it_says() {
    for code in [429, 503] {
        let server = Server::start(move |request| match request.earlier {
            0 => status(code).with("retry-after", "1"),
            _ => ok(content()),
        });
        let start = Instant::now();
        assert!(read(&server).await.unwrap() == content());
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_registry_that_asks_for_too_much_patience_is_reported_busy_at_once() {
    let server = Server::start(|_| status(429).with("retry-after", "86400"));
    let error = read(&server).await.unwrap_err();
    let RegistryError::Busy { retry_after, .. } = &error else { panic!("{error}") };
    assert_eq!(*retry_after, Some(Duration::from_secs(86_400)));
    assert_eq!(error.hint().unwrap(), "try again in 86400 s");
    assert_eq!(server.seen().len(), 1);

    let server = Server::start(|_| status(429));
    assert!(matches!(
        read(&server).await.unwrap_err(),
        RegistryError::Busy { retry_after: None, .. }
    ));
    assert_eq!(server.seen().len(), 3);
}
