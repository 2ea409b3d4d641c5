//! Asks for a pull and stays with it until the image is there or the pull has failed.
//!
//! Listens to the gateway's events; where the stream breaks, asks again. A gateway that restarts in the middle is
//! waited for: the pull goes on there, and the same request finds it again.

use crate::client::{Client, ClientError, Logins};
use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use gateway_api::{PullEvent, PullRequest, Record, Status};
use image_ref::{Digest, ImageRef};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// An image that is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pulled {
    /// What to call it from here on.
    pub digest: Digest,
    /// The size of its file, where the gateway tells it.
    pub size: Option<u64>,
    /// Whether it was there before anything was asked.
    pub was_there: bool,
    /// How long the caller waited, in seconds.
    pub seconds: f64,
}

/// Pulls `reference`, showing `progress`.
///
/// # Errors
/// What the gateway says of the pull; that the gateway is away, once it has been so for [`PATIENCE`].
pub fn pull(
    client: &Client,
    reference: &ImageRef,
    request: &PullRequest,
    logins: &Logins,
    progress: &mut Progress,
) -> Result<Pulled, Failure> {
    let pulled = stay_with(client, reference, request, logins, progress);
    progress.finish();
    pulled
}

fn stay_with(
    client: &Client,
    reference: &ImageRef,
    request: &PullRequest,
    logins: &Logins,
    progress: &mut Progress,
) -> Result<Pulled, Failure> {
    let what = format!("pull {reference}");
    let started = Instant::now();
    let mut was_there = true;
    let mut away_since: Option<Instant> = None;
    loop {
        match client.pull(reference, request, logins) {
            Ok(record) => {
                away_since = None;
                if let Some(end) = end_of_record(&record, reference) {
                    let (digest, size) = end?;
                    let seconds = started.elapsed().as_secs_f64();
                    return Ok(Pulled { digest, size, was_there, seconds });
                }
                was_there = false;
                if let Some(event) = &record.progress {
                    progress.show(event);
                }
                if let Some(end) = follow_events(client, reference, progress) {
                    let (digest, size) = end?;
                    let seconds = started.elapsed().as_secs_f64();
                    return Ok(Pulled { digest, size, was_there, seconds });
                }
            }
            // The first request decides whether there is a gateway at all.
            Err(error) if was_there || !error.is_away() => {
                return Err(error.while_trying_to(&what));
            }
            Err(error) => {
                let since = *away_since.get_or_insert_with(|| {
                    progress.note(&format!("{}; waiting for it", error.sentence()));
                    Instant::now()
                });
                if since.elapsed() >= PATIENCE {
                    return Err(went_away(error, &what));
                }
            }
        }
        sleep(POLL_INTERVAL);
    }
}

/// Digest and size of a finished image.
type Finished = (Digest, Option<u64>);

/// How a pull ended, where a record says that it has.
fn end_of_record(record: &Record, reference: &ImageRef) -> Option<Result<Finished, Failure>> {
    match record.status {
        Status::Ready => {
            let digest = record.digest.or_else(|| Digest::from_hex(&record.id).ok());
            digest.map(|digest| Ok((digest, record.size)))
        }
        status if status.is_running() => None,
        Status::Failure => Some(Err(match record.failure.clone() {
            Some(failure) => failure.into(),
            None => {
                let said =
                    record.status_message.value().map_or("the gateway does not say why", |s| s);
                Failure::new(Exit::Other, format!("cannot pull {reference}: {said}"))
            }
        })),
        status => Some(Err(Failure::new(
            Exit::Other,
            format!("cannot pull {reference}: the gateway has it as {status}"),
        )
        .with_hint("try again in a moment"))),
    }
}

/// Shows events until the pull is over; `None` where the stream ended before that.
fn follow_events(
    client: &Client,
    reference: &ImageRef,
    progress: &mut Progress,
) -> Option<Result<Finished, Failure>> {
    let events = client.events(reference).ok()?;
    for event in events {
        let event = event.ok()?;
        progress.show(&event);
        if let Some(end) = end_of_event(event) {
            return Some(end);
        }
    }
    None
}

/// How a pull ended, where an event says that it has.
fn end_of_event(event: PullEvent) -> Option<Result<Finished, Failure>> {
    match (event.status, event.digest, event.failure) {
        (Status::Ready, Some(digest), _) => {
            Some(Ok((digest, Some(event.written).filter(|size| *size > 0))))
        }
        (Status::Failure, _, Some(failure)) => Some(Err(failure.into())),
        // The record says the rest.
        _ => None,
    }
}

fn went_away(error: ClientError, what: &str) -> Failure {
    let failure = error.while_trying_to(what);
    Failure {
        text: format!("{} (waited {} s for it to come back)", failure.text, PATIENCE.as_secs()),
        hint: Some(
            "the pull goes on where the gateway does; the same command joins it".to_string(),
        ),
        exit: failure.exit,
    }
}

/// How long a gateway may be away in the middle of a pull. A restart takes seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two requests where there are no events to wait for; Shifter's client takes the same.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
