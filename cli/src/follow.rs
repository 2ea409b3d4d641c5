//! Asks for a pull and stays with it until the image is there or the pull has failed.
//!
//! Listens to the gateway's events; where the stream breaks, asks again. A gateway that restarts in the middle is
//! waited for: the pull goes on there, and the same request finds it again. A login travels only where the registry
//! has refused without one, or where the image is a private one of the caller's.

use crate::client::{Client, ClientError, Logins};
use crate::exit::{Exit, Failure};
use crate::logins;
use crate::progress::{Progress, Reused};
use gateway_api::{Code, ErrorBody, PullEvent, PullRequest, Record, Status};
use image_ref::{Digest, ImageRef, Version};
use nix::unistd::getuid;
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
    /// What of it did not have to be downloaded; nothing where the events did not tell.
    pub reused: Reused,
}

/// Why there is no image.
#[derive(Debug)]
pub enum PullError {
    /// The pull failed at the gateway, or the gateway refused it.
    Refused(Box<ErrorBody>),
    /// No gateway answers.
    Away {
        /// In a sentence.
        why: String,
        /// What to tell where nothing else helps.
        failure: Failure,
    },
    /// Anything else.
    Failed(Failure),
}

impl PullError {
    fn of(error: ClientError, what: &str) -> Self {
        match error {
            error if error.is_away() => {
                Self::Away { why: error.sentence(), failure: error.while_trying_to(what) }
            }
            ClientError::Refused(body) => Self::Refused(body),
            error => Self::Failed(error.while_trying_to(what)),
        }
    }

    /// Tells whether the registry could not be asked: an image that is there is as good as it gets.
    pub fn is_registry_away(&self) -> bool {
        matches!(self, Self::Refused(body)
            if matches!(body.code, Code::RegistryUnreachable | Code::RegistryBusy))
    }

    /// Tells whether the registry wants a login, and the gateway has said under which names it would be used.
    fn wants_login(&self) -> bool {
        matches!(self, Self::Refused(body)
            if body.code == Code::RegistryUnauthorized && !body.logins.is_empty())
    }
}

impl From<PullError> for Failure {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Refused(body) => (*body).into(),
            PullError::Away { failure, .. } | PullError::Failed(failure) => failure,
        }
    }
}

/// Pulls `reference`, showing `progress`.
///
/// # Errors
/// What the gateway says of the pull; that the gateway is away, once it has been so for [`PATIENCE`].
pub fn pull(
    client: &Client,
    reference: &ImageRef,
    request: &PullRequest,
    progress: &mut Progress,
) -> Result<Pulled, PullError> {
    let pulled = stay_with(client, reference, request, progress, Until::Made);
    progress.finish();
    pulled
}

/// Has `reference` pulled, and stays only until its digest is known: a second, however large the image is.
///
/// # Errors
/// As [`pull`], for what goes wrong until then.
pub fn begin(
    client: &Client,
    reference: &ImageRef,
    progress: &mut Progress,
) -> Result<Digest, PullError> {
    let request = PullRequest::default();
    let begun = stay_with(client, reference, &request, progress, Until::Resolved);
    progress.finish();
    begun.map(|pulled| pulled.digest)
}

/// How long to stay with a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Until its digest is known.
    Resolved,
    /// To its end.
    Made,
}

fn stay_with(
    client: &Client,
    reference: &ImageRef,
    request: &PullRequest,
    progress: &mut Progress,
    until: Until,
) -> Result<Pulled, PullError> {
    let what = format!("pull {reference}");
    let started = Instant::now();
    let mut was_there = true;
    let mut away_since: Option<Instant> = None;
    let mut logins: Option<Logins> = None;
    // A running pull that this one has joined knows nothing of its access lists.
    let mut lists_told = request == &PullRequest::default();
    loop {
        let end = match client.pull(reference, request, logins.as_ref().unwrap_or(&Logins::new())) {
            Ok(record) => {
                away_since = None;
                if logins.is_none() && is_own_secret(&record, reference) {
                    logins = Some(login_of_image(client, reference, progress));
                    if logins.as_ref().is_some_and(|found| !found.is_empty()) {
                        continue;
                    }
                }
                let end = end_of_record(&record, reference);
                lists_told |= matches!(end, Some(Ok(_)));
                end.or_else(|| {
                    was_there = false;
                    if let Some(event) = &record.progress {
                        progress.show(event);
                        if let Some(resolved) = resolved(event, until) {
                            return Some(Ok(resolved));
                        }
                    }
                    follow_events(client, reference, progress, until)
                })
            }
            // The first request decides whether there is a gateway at all.
            Err(error) if was_there || !error.is_away() => Some(Err(PullError::of(error, &what))),
            Err(error) => {
                let since = *away_since.get_or_insert_with(|| {
                    progress.note(&format!("{}; waiting for it", error.sentence()));
                    Instant::now()
                });
                if since.elapsed() >= PATIENCE {
                    return Err(went_away(error, &what));
                }
                None
            }
        };
        match end {
            Some(Ok(_)) if !lists_told => lists_told = true,
            Some(Ok(Finished { digest, size, reused })) => {
                let seconds = started.elapsed().as_secs_f64();
                return Ok(Pulled { digest, size, was_there, seconds, reused });
            }
            Some(Err(error)) if logins.is_none() && error.wants_login() => {
                logins = Some(find_login(client, reference, error, progress)?);
            }
            Some(Err(error)) => return Err(error),
            None => sleep(POLL_INTERVAL),
        }
    }
}

/// The user's login for the registry that has refused without one.
///
/// # Errors
/// The refusal, where there is no login, or none that could be kept from others on its way.
fn find_login(
    client: &Client,
    reference: &ImageRef,
    refusal: PullError,
    progress: &mut Progress,
) -> Result<Logins, PullError> {
    let PullError::Refused(mut body) = refusal else { return Err(refusal) };
    let found = logins::find(reference, &body.logins);
    found.notes.iter().for_each(|note| progress.note(note));
    if found.logins.is_empty() {
        return Err(PullError::Refused(body));
    }
    if !client.keeps_secrets() {
        let registry = body.logins.first().map_or("it", String::as_str);
        body.hint = Some(format!(
            "your login for {registry} was not sent, because this host does not know which account \
             runs the gateway; an administrator can set `imageOwner` in udiRoot.conf"
        ));
        return Err(PullError::Refused(body));
    }
    Ok(found.logins)
}

/// Tells whether this is a private image of the caller's whose tag may have moved: without a login the gateway
/// cannot ask its registry, and answers with the image that is there.
fn is_own_secret(record: &Record, reference: &ImageRef) -> bool {
    record.status == Status::Ready
        && record.private
        && record.owner == Some(getuid().as_raw())
        && matches!(reference.version(), Version::Tag(_))
}

/// The user's login for the registry that an image came from; none where there is none to be sent.
fn login_of_image(client: &Client, reference: &ImageRef, progress: &mut Progress) -> Logins {
    if !client.keeps_secrets() {
        return Logins::new();
    }
    let Ok(details) = client.inspect(reference) else { return Logins::new() };
    let registry = details.source.split('/').next().unwrap_or_default().to_string();
    let found = logins::find(reference, &[registry]);
    found.notes.iter().for_each(|note| progress.note(note));
    found.logins
}

/// A finished image.
struct Finished {
    digest: Digest,
    size: Option<u64>,
    reused: Reused,
}

/// How a pull ended, where a record says that it has.
fn end_of_record(record: &Record, reference: &ImageRef) -> Option<Result<Finished, PullError>> {
    match record.status {
        Status::Ready => {
            let digest = record.digest.or_else(|| Digest::from_hex(&record.id).ok());
            let (size, reused) = (record.size, Reused::default());
            digest.map(|digest| Ok(Finished { digest, size, reused }))
        }
        status if status.is_running() => None,
        Status::Failure => Some(Err(match record.failure.clone() {
            Some(failure) => PullError::Refused(Box::new(failure)),
            None => {
                let said =
                    record.status_message.value().map_or("the gateway does not say why", |s| s);
                let text = format!("cannot pull {reference}: {said}");
                PullError::Failed(Failure::new(Exit::Other, text))
            }
        })),
        status => {
            let text = format!("cannot pull {reference}: the gateway has it as {status}");
            let failure = Failure::new(Exit::Other, text).with_hint("try again in a moment");
            Some(Err(PullError::Failed(failure)))
        }
    }
}

/// Shows events until the pull is over; `None` where the stream ended before that.
fn follow_events(
    client: &Client,
    reference: &ImageRef,
    progress: &mut Progress,
    until: Until,
) -> Option<Result<Finished, PullError>> {
    let events = client.events(reference).ok()?;
    for event in events {
        let event = event.ok()?;
        progress.show(&event);
        if let Some(resolved) = resolved(&event, until) {
            return Some(Ok(resolved));
        }
        if let Some(end) = end_of_event(event) {
            return Some(end);
        }
    }
    None
}

/// What is known of an image that is being made, where that is enough.
fn resolved(event: &PullEvent, until: Until) -> Option<Finished> {
    let is_enough = until == Until::Resolved && event.status.is_running();
    let digest = event.digest.filter(|_| is_enough)?;
    Some(Finished { digest, size: None, reused: Reused::default() })
}

/// How a pull ended, where an event says that it has.
fn end_of_event(event: PullEvent) -> Option<Result<Finished, PullError>> {
    let reused = Reused::of(&event);
    match (event.status, event.digest, event.failure) {
        (Status::Ready, Some(digest), _) => {
            let size = Some(event.written).filter(|size| *size > 0);
            Some(Ok(Finished { digest, size, reused }))
        }
        (Status::Failure, _, Some(failure)) => Some(Err(PullError::Refused(Box::new(failure)))),
        // The record says the rest.
        _ => None,
    }
}

fn went_away(error: ClientError, what: &str) -> PullError {
    let why = error.sentence();
    let mut failure = error.while_trying_to(what);
    failure.text =
        format!("{} (waited {} s for it to come back)", failure.text, PATIENCE.as_secs());
    failure.hint =
        Some("the pull goes on where the gateway does; the same command joins it".to_string());
    PullError::Away { why, failure }
}

/// How long a gateway may be away in the middle of a pull. A restart takes seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two requests where there are no events to wait for; Shifter's client takes the same.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
