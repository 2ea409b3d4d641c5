//! One pull from its claim to its end, and the conversion that several pulls may share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_api::Status;
use image_ref::{Digest, ImageRef};
use tokio::sync::watch;
use tracing::{info, warn};

use super::error::{PullError, chain};
use super::progress::Progress;
use super::queue::{Attempt, Conversion, Order, Shared, locked};
use super::{Found, blocking, make, prove, publish, resolve, sidecar};
use crate::store::record::{Grant, Image, Moment, Ticket};
use crate::store::{Claim, StoreError};
use crate::system::System;

/// Does one pull and says how it ended.
pub(super) async fn run(
    shared: Arc<Shared>,
    attempt: Arc<Attempt>,
    order: Order,
    ticket: Option<Ticket>,
) {
    let began = Instant::now();
    let reference = attempt.key.reference.clone();
    let uid = order.grant.by;
    let logins = order.source.kept_logins();
    let work = tokio::spawn(pull(Arc::clone(&shared), Arc::clone(&attempt), order, ticket));
    let result = match work.await {
        Ok(result) => result,
        Err(_) => Err(Ended { ticket: None, error: PullError::Panic }),
    };
    let duration_ms = began.elapsed().as_millis() as u64;
    match result {
        Ok(image) => {
            let (digest, size_bytes) = (image.digest, image.content.size);
            info!(image.ref = %reference, image.digest = %digest, caller.uid = uid, size_bytes, duration_ms, "pulled {reference}");
            attempt.progress.ready(digest, size_bytes);
        }
        Err(Ended { error, .. }) if error.is_interrupted() => {
            info!(image.ref = %reference, "interrupts the pull of {reference}");
        }
        Err(Ended { ticket, error }) => {
            warn!(image.ref = %reference, caller.uid = uid, duration_ms, "pull of {reference} failed: {}", chain(&error));
            let failure = error.body(&reference, &logins);
            if let Some(ticket) = ticket
                && let Err(error) = shared.store.fail(&ticket, &failure).await
            {
                warn!(image.ref = %reference, "cannot record that a pull failed: {}", chain(&error));
            }
            attempt.progress.failed(failure);
        }
    }
    attempt.end();
}

/// How a pull ended without an image, and the right to say so in the store.
struct Ended {
    ticket: Option<Ticket>,
    error: PullError,
}

async fn pull(
    shared: Arc<Shared>,
    attempt: Arc<Attempt>,
    order: Order,
    ticket: Option<Ticket>,
) -> Result<Image, Ended> {
    let without = |error| Ended { ticket: None, error };
    let ticket = match ticket {
        Some(ticket) => ticket,
        None => match claim(&shared, &attempt, &order.grant).await.map_err(without)? {
            Claimed::Won(ticket) => ticket,
            Claimed::Made(image) => return Ok(*image),
        },
    };
    let held = ticket.clone();
    // A task of its own: where it panics, the ticket is still there to say so.
    let work = tokio::spawn(async move { fetch(&shared, &attempt, order, &held).await });
    let result = work.await.unwrap_or(Err(PullError::Panic));
    result.map_err(|error| Ended { ticket: Some(ticket), error })
}

pub(super) enum Claimed {
    Won(Ticket),
    /// Somebody else made the image in the meantime.
    Made(Box<Image>),
}

/// Waits until the pull is ours or the image is there.
pub(super) async fn claim(
    shared: &Shared,
    attempt: &Attempt,
    grant: &Grant,
) -> Result<Claimed, PullError> {
    let began = Moment::now();
    let key = &attempt.key;
    loop {
        let running = match shared.store.claim(key, grant, LEASE).await? {
            Claim::Won(ticket) => return Ok(Claimed::Won(ticket)),
            Claim::Running(pull) => pull,
        };
        attempt.progress.status(running.status, "another gateway is pulling it");
        tokio::select! {
            () = shared.stop.cancelled() => return Err(PullError::Interrupted),
            () = tokio::time::sleep(BETWEEN_CLAIMS) => {}
        }
        if let Some(image) = shared.store.image(&key.system, &key.reference).await?
            && image.tag(&key.reference).is_some_and(|tag| tag.checked_at >= began)
        {
            return Ok(Claimed::Made(Box::new(image)));
        }
    }
}

/// Resolves the reference, has the image made where it is not there yet, and records it.
async fn fetch(
    shared: &Arc<Shared>,
    attempt: &Attempt,
    order: Order,
    ticket: &Ticket,
) -> Result<Image, PullError> {
    let Order { system, reference, source, login, grant } = order;
    let progress = &attempt.progress;
    progress.status(Status::Pending, format!("asking {} for {reference}", source.registry));
    let registry = source.registry.clone();
    let asked = answered(
        RESOLVE,
        registry,
        resolve(&shared.connections, &system, &reference, source, login),
    );
    let found = tokio::select! {
        () = shared.stop.cancelled() => return Err(PullError::Interrupted),
        found = with_heartbeat(shared, ticket, progress, asked) => Arc::new(found?),
    };
    let digest = found.manifest.digest;
    progress.digest(digest);
    for _ in 0..TRIES {
        let there = present(shared, &system, digest).await?;
        // An import says itself what it is; from a registry it is made anew.
        let (image, own) = match there.filter(|image| !image.content.is_imported()) {
            Some(image) => (image, false),
            None => {
                let made = converted(shared, &system, &found, &grant, &reference, progress);
                with_heartbeat(shared, ticket, progress, made).await?
            }
        };
        if image.is_private() && !own {
            with_heartbeat(shared, ticket, progress, prove(&found, &image)).await?;
        }
        let public = !image.is_private() || found.is_public();
        let grant = Grant { public, ..grant.clone() };
        if let Some(image) = record(shared, &system, ticket, &image, &grant).await? {
            return Ok(image);
        }
    }
    Err(PullError::Removed)
}

/// Gives up on a registry that does not answer, or by drops.
async fn answered<T>(
    deadline: Duration,
    registry: String,
    work: impl Future<Output = Result<T, PullError>>,
) -> Result<T, PullError> {
    let silent = |_| Err(PullError::Unanswered { registry, seconds: deadline.as_secs() });
    tokio::time::timeout(deadline, work).await.unwrap_or_else(silent)
}

/// Does some work and meanwhile keeps the store's picture of the pull, and the lease on it, up to date.
pub(super) async fn with_heartbeat<T>(
    shared: &Shared,
    ticket: &Ticket,
    progress: &Progress,
    work: impl Future<Output = Result<T, PullError>>,
) -> Result<T, PullError> {
    tokio::select! {
        result = work => result,
        error = beat(shared, ticket, progress) => Err(error.into()),
    }
}

/// Ends only where the pull is no longer ours.
async fn beat(shared: &Shared, ticket: &Ticket, progress: &Progress) -> StoreError {
    let mut watch = progress.watch();
    let mut shown = Status::Init;
    loop {
        let due = tokio::time::sleep(LEASE / 3);
        tokio::pin!(due);
        loop {
            tokio::select! {
                () = &mut due => break,
                // The sender lives as long as `progress`: this is never an error.
                _ = watch.changed() => {
                    let status = watch.borrow_and_update().status;
                    if status != shown && status.is_running() {
                        shown = status;
                        break;
                    }
                }
            }
        }
        match shared.store.advance(ticket, shown, LEASE).await {
            Ok(()) => {}
            Err(error @ StoreError::Lost(_)) => return error,
            // The lease outlasts a beat or two that failed; the pull itself needs the store only at its end.
            Err(error) => {
                warn!(image.ref = %ticket.key.reference, "cannot record how far a pull is: {}", chain(&error));
            }
        }
    }
}

/// The image of this digest, if it is both known and on disk.
pub(super) async fn present(
    shared: &Shared,
    system: &Arc<System>,
    digest: Digest,
) -> Result<Option<Image>, PullError> {
    let by_digest = ImageRef::from_digest(digest);
    let Some(image) = shared.store.image(&system.name, &by_digest).await? else { return Ok(None) };
    let dir = Arc::clone(&system.dir);
    let size = image.content.size;
    let there = blocking(move || Ok(dir.holds(&digest, size)?)).await?;
    Ok(there.then_some(image))
}

/// Joins the conversion of this digest, or begins one, and waits for its image; says too whether it was begun here.
async fn converted(
    shared: &Arc<Shared>,
    system: &Arc<System>,
    found: &Arc<Found>,
    grant: &Grant,
    reference: &ImageRef,
    progress: &Progress,
) -> Result<(Image, bool), PullError> {
    let (mut conversion, own) = join_conversion(shared, system, found, grant, reference);
    let mut events = conversion.progress.watch();
    loop {
        tokio::select! {
            changed = conversion.result.changed() => {
                let result = conversion.result.borrow_and_update().clone();
                match (result, changed) {
                    (Some(result), _) => {
                        return result.map(|image| (image, own)).map_err(PullError::Shared);
                    }
                    // Its task ended without a word.
                    (None, Err(_)) => return Err(PullError::Panic),
                    (None, Ok(())) => {}
                }
            }
            Ok(()) = events.changed() => progress.follow(&events.borrow_and_update()),
        }
    }
}

fn join_conversion(
    shared: &Arc<Shared>,
    system: &Arc<System>,
    found: &Arc<Found>,
    grant: &Grant,
    reference: &ImageRef,
) -> (Conversion, bool) {
    let key = (system.name.clone(), found.manifest.digest);
    let mut conversions = locked(&shared.conversions);
    if let Some(running) = conversions.get(&key) {
        return (running.clone(), false);
    }
    let (say, result) = watch::channel(None);
    let conversion = Conversion { progress: Arc::new(Progress::begin()), result };
    conversions.insert(key.clone(), conversion.clone());
    let work = convert(
        Arc::clone(shared),
        Arc::clone(system),
        Arc::clone(found),
        grant.clone(),
        Arc::clone(&conversion.progress),
    );
    let (shared, reference) = (Arc::clone(shared), reference.clone());
    shared.clone().tasks.spawn(async move {
        let result = tokio::spawn(work).await.unwrap_or(Err(PullError::Panic));
        if let Ok(image) = &result {
            let content = &image.content;
            let (layers, reused_layers) = (content.layers.len(), content.reused_layers);
            info!(image.ref = %reference, image.digest = %image.digest, size_bytes = content.size, layers, reused_layers, "published {}", image.digest);
        }
        locked(&shared.conversions).remove(&key);
        say.send_replace(Some(result.map_err(Arc::new)));
    });
    (conversion, true)
}

/// Waits for its turn and makes the image.
async fn convert(
    shared: Arc<Shared>,
    system: Arc<System>,
    found: Arc<Found>,
    grant: Grant,
    progress: Arc<Progress>,
) -> Result<Image, PullError> {
    progress.status(Status::Pending, "waiting for its turn");
    let turn = tokio::select! {
        () = shared.stop.cancelled() => return Err(PullError::Interrupted),
        turn = shared.workers.turn(grant.by) => turn,
    };
    let _turn = turn.ok_or(PullError::Interrupted)?;
    let limit = shared.limits.pull_seconds;
    let (image, out) = tokio::select! {
        // The conversion ends by itself once its downloads have; nobody waits for it.
        () = shared.stop.cancelled() => return Err(PullError::Interrupted),
        () = tokio::time::sleep(limit) => return Err(PullError::Deadline(limit.as_secs())),
        made = make(&shared, &system, &found, &grant, &progress) => made?,
    };
    // Neither ends it any more: half of it would be done, and a file would be there that no record speaks of.
    publish(&shared, &system, &image, out, &progress).await?;
    Ok(image)
}

/// Records that the reference stands for the image; `None` where the image was removed in the meantime, or replaced by
/// an import, which says itself what it is.
async fn record(
    shared: &Shared,
    system: &Arc<System>,
    ticket: &Ticket,
    image: &Image,
    grant: &Grant,
) -> Result<Option<Image>, PullError> {
    let _lock = system.lock(&image.digest).await;
    let by_digest = ImageRef::from_digest(image.digest);
    let known = shared.store.image(&system.name, &by_digest).await?;
    let is_import = |image: &Image| image.content.is_imported();
    if known.as_ref().is_some_and(|known| is_import(known) && !is_import(image)) {
        return Ok(None);
    }
    record_locked(shared, system, ticket, image, known, grant).await
}

/// Records that the reference stands for the image, which is `known` to the store, or not yet; `None` where its file is
/// not there. The caller holds the image's lock.
pub(super) async fn record_locked(
    shared: &Shared,
    system: &Arc<System>,
    ticket: &Ticket,
    image: &Image,
    known: Option<Image>,
    grant: &Grant,
) -> Result<Option<Image>, PullError> {
    let (dir, digest, size) = (Arc::clone(&system.dir), image.digest, image.content.size);
    if !blocking(move || Ok(dir.holds(&digest, size)?)).await? {
        return Ok(None);
    }
    let after = Image::after_pull(known, image, grant);
    let (dir, reference) = (Arc::clone(&system.dir), ticket.key.reference.clone());
    // Before the store: once an image is said to be there, its nodes know all that the gateway does.
    blocking(move || {
        dir.describe(&sidecar(&after))?;
        if after.is_private() {
            return Ok(dir.unlink(&reference)?);
        }
        // All of them: this pull may be the one that makes the image public.
        let known = after.tags.iter().map(|tag| &tag.reference);
        known.chain([&reference]).try_for_each(|reference| Ok(dir.link(reference, &digest)?))
    })
    .await?;
    Ok(Some(shared.store.complete(ticket, image, grant).await?))
}

/// How long a pull stays ours without a sign of life; its worker gives one thrice as often.
pub(super) const LEASE: Duration = Duration::from_secs(90);

/// How long a registry may take to say what a reference stands for: some kilobytes, with all tries and redirects.
const RESOLVE: Duration = Duration::from_secs(120);

const BETWEEN_CLAIMS: Duration = Duration::from_secs(1);

/// How often an image is made anew that somebody removes before it is recorded.
const TRIES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_api::Code;

    #[tokio::test]
    async fn a_registry_that_never_answers_is_given_up_and_named() {
        let silent = std::future::pending::<Result<(), PullError>>();
        let error = answered(Duration::from_millis(5), "lab".into(), silent).await.unwrap_err();
        let body = error.body(&"docker:lab/app:1".parse().unwrap(), &[]);
        assert_eq!(body.code, Code::RegistryUnreachable);
        assert!(body.error.starts_with("cannot pull docker:lab/app:1: lab did not"), "{body:?}");
        assert!(answered(RESOLVE, "lab".into(), async { Ok(()) }).await.is_ok());
    }
}
