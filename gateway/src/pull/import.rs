//! One import from its claim to its end: an uploaded file that becomes an image.
//!
//! What the file holds only the converter says, and that may be in the hands of whoever made the file. So what an import
//! says it is makes nobody read what they could not read before: an image that is there is given to the importer only
//! where they may use it anyway, or where the upload gave the same bytes; opened to others by the latter alone; and no pull
//! takes an import for what a registry has (see [`Content::is_imported`]).

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use converter_api::{Answer, Channel, Converted, Import, MAX_SOURCES, Plan, Reply, Request};
use gateway_api::Status;
use image_ref::ImageRef;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::child::{ChildError, LastWord, Listener};
use super::convert::{check_file, examine, out_of_order};
use super::error::{PullError, chain};
use super::progress::Progress;
use super::proof::{has_bytes_of, needs_proof};
use super::queue::{Attempt, Queue, Shared};
use super::worker::{Claimed, claim, present, record_locked, with_heartbeat};
use super::{MAKER, blocking, options, reuse, sidecar};
use crate::image_dir::Partial;
use crate::store::record::{Content, Grant, Image, Layer, Moment, PullKey, Scope, Ticket};
use crate::system::System;

/// A file that was received whole, and what it is to be.
#[derive(Debug)]
pub struct ImportOrder {
    /// The system the image is for.
    pub system: Arc<System>,
    /// What it is to be called.
    pub reference: ImageRef,
    /// Who asked, and for whom.
    pub grant: Grant,
    /// Which image of the file is meant, where there are several.
    pub image: Option<String>,
    /// The file.
    pub upload: Partial,
}

impl Queue {
    /// Begins an import, which ends early once `given_up` is cancelled. `place` is let go at its end.
    ///
    /// # Errors
    /// [`PullError::Interrupted`] while the gateway shuts down.
    pub fn import(
        &self,
        order: ImportOrder,
        given_up: CancellationToken,
        place: impl Send + 'static,
    ) -> Result<Arc<Attempt>, PullError> {
        let shared = self.shared();
        if shared.stop.is_cancelled() {
            return Err(PullError::Interrupted);
        }
        let key = PullKey {
            system: order.system.name.clone(),
            reference: order.reference.clone(),
            scope: Scope::User(order.grant.by),
        };
        let attempt = Arc::new(Attempt::new(key));
        let work = run(Arc::clone(shared), Arc::clone(&attempt), order, given_up);
        shared.tasks.spawn(async move {
            work.await;
            drop(place);
        });
        Ok(attempt)
    }
}

/// Does one import and says how it ended.
async fn run(
    shared: Arc<Shared>,
    attempt: Arc<Attempt>,
    order: ImportOrder,
    given_up: CancellationToken,
) {
    let began = Instant::now();
    let (reference, uid) = (order.reference.clone(), order.grant.by);
    let ticket = match claim(&shared, &attempt, &order.grant).await {
        Ok(Claimed::Won(ticket)) => Ok(ticket),
        // Only this gateway takes imports of this user.
        Ok(Claimed::Made(_)) => Err(PullError::Interrupted),
        Err(error) => Err(error),
    };
    let result = match &ticket {
        Err(_) => None,
        Ok(ticket) => {
            let (shared, attempt) = (Arc::clone(&shared), Arc::clone(&attempt));
            let work = tokio::spawn(work(shared, attempt, order, ticket.clone(), given_up));
            Some(work.await.unwrap_or(Err(PullError::Panic)))
        }
    };
    let (ticket, result) = match (ticket, result) {
        (Ok(ticket), Some(result)) => (Some(ticket), result),
        (Err(error), _) => (None, Err(error)),
        (Ok(ticket), None) => (Some(ticket), Err(PullError::Panic)),
    };
    let duration_ms = began.elapsed().as_millis() as u64;
    match result {
        Ok((image, made)) => {
            let (digest, size_bytes) = (image.digest, image.content.size);
            info!(image.ref = %reference, image.digest = %digest, caller.uid = uid, size_bytes, duration_ms, "imported {reference}");
            if made {
                attempt.progress.ready(digest, size_bytes);
            } else {
                attempt.progress.there(digest, size_bytes);
            }
        }
        Err(error) => {
            warn!(image.ref = %reference, caller.uid = uid, duration_ms, "import of {reference} failed: {}", chain(&error));
            let failure = error.body(&reference, &[]);
            if let Some(ticket) = ticket
                && let Err(error) = shared.store.fail(&ticket, &failure).await
            {
                warn!(image.ref = %reference, "cannot record that an import failed: {}", chain(&error));
            }
            attempt.progress.failed(failure);
        }
    }
    attempt.end();
}

/// Waits for its turn, and has the image made, published and recorded; says too whether it had to be made.
///
/// Nothing ends it any more once it publishes: a file that no store knows of would stay for ever.
async fn work(
    shared: Arc<Shared>,
    attempt: Arc<Attempt>,
    order: ImportOrder,
    ticket: Ticket,
    given_up: CancellationToken,
) -> Result<(Image, bool), PullError> {
    let progress = &attempt.progress;
    progress.status(Status::Pending, "waiting for its turn");
    let making = async {
        let turn = shared.workers.turn(order.grant.by).await.ok_or(PullError::Interrupted)?;
        progress.status(Status::Conversion, "looking at what the file holds");
        let (began, limit) = (Instant::now(), shared.limits.pull_seconds);
        let made = tokio::time::timeout(limit, make(&shared, &order, progress)).await;
        Ok((made.unwrap_or(Err(PullError::Deadline(limit.as_secs())))?, began, turn))
    };
    // The converter is killed with the future that waits for it.
    let making = async {
        tokio::select! {
            () = shared.stop.cancelled() => Err(PullError::Interrupted),
            () = given_up.cancelled() => Err(PullError::GivenUp),
            made = making => made,
        }
    };
    let (made, began, _turn) = with_heartbeat(&shared, &ticket, progress, making).await?;
    if matches!(made, Made::New { .. }) {
        progress.status(Status::Transfer, "publishing");
    }
    with_heartbeat(&shared, &ticket, progress, finish(&shared, &order, &ticket, made, began)).await
}

/// What an import comes to, before anybody sees it.
enum Made {
    /// The image is there, and the importer may use it anyway.
    There(Box<Image>),
    New {
        plan: Box<Plan>,
        converted: Converted,
        out: Partial,
    },
}

/// Has a child plan the import and write the image, unless that is there already.
async fn make(
    shared: &Arc<Shared>,
    order: &ImportOrder,
    progress: &Arc<Progress>,
) -> Result<Made, PullError> {
    let reusing = Arc::new(AtomicBool::new(false));
    let made = match make_once(shared, order, progress, Some(&reusing)).await {
        // The upload has everything.
        Err(error) if reusing.load(Ordering::Relaxed) && error.may_lie_in_sources() => {
            warn!(
                "images whose layers were to be reused are of no use, makes the image without them: {}",
                chain(&error)
            );
            make_once(shared, order, progress, None).await?
        }
        made => made?,
    };
    let Made::New { plan, converted, out } = made else { return Ok(made) };
    let out = examine(&shared.converter, out, progress).await?;
    Ok(Made::New { plan, converted, out })
}

/// One attempt, with a file of its own. Layers are taken from images that are there only with `reusing`, which is set as
/// soon as there are any.
async fn make_once(
    shared: &Arc<Shared>,
    order: &ImportOrder,
    progress: &Arc<Progress>,
    reusing: Option<&Arc<AtomicBool>>,
) -> Result<Made, PullError> {
    let system = &order.system;
    let dir = Arc::clone(&system.dir);
    let out = blocking(move || Ok(dir.partial()?)).await?;
    let request = Request::Import(Import {
        options: options(&shared.limits, &shared.conversion),
        platform: system.platform.to_string(),
        image: order.image.clone(),
    });
    let upload = order.upload.reader()?;
    let written = out.file().try_clone().map_err(ChildError::Pipe)?;
    let listener = Importing {
        shared: Arc::clone(shared),
        system: Arc::clone(system),
        grant: order.grant.clone(),
        reusing: reusing.map(Arc::clone),
        plan: None,
        done: Vec::new(),
        out,
        progress: Arc::clone(progress),
        runtime: Handle::current(),
    };
    let descriptors = vec![OwnedFd::from(written), OwnedFd::from(upload)];
    let said = shared.converter.ask(request, descriptors, listener).await;
    let (converted, listener) = match said {
        Ok((LastWord::Converted(converted), listener)) => (converted, listener),
        Ok((LastWord::Failed(failure), _)) => return Err(PullError::Convert(failure.into())),
        Ok((LastWord::Examined, _)) => return Err(out_of_order().into()),
        Err(End::There(image)) => return Ok(Made::There(image)),
        Err(End::Failed(error)) => return Err(error),
    };
    let (plan, out) = listener.finish(&converted)?;
    Ok(Made::New { plan: Box::new(plan), converted, out })
}

/// Publishes what was made, unless it is there, and records it, without letting anybody in between.
async fn finish(
    shared: &Arc<Shared>,
    order: &ImportOrder,
    ticket: &Ticket,
    made: Made,
    began: Instant,
) -> Result<(Image, bool), PullError> {
    let ImportOrder { system, grant, .. } = order;
    let digest = match &made {
        Made::There(image) => image.digest,
        Made::New { plan, .. } => plan.digest,
    };
    let _lock = system.lock(&digest).await;
    let there = present(shared, system, digest).await?;
    let (image, was_made) = match (there, made) {
        (Some(there), _) if !needs_proof(&there, grant) => (there, false),
        (Some(there), Made::New { out, .. }) => {
            // Who has the content of a private image has a file that gives the same bytes.
            if !has_bytes_of(system, &there, &shared.conversion.to_string(), &out).await? {
                return Err(PullError::Another);
            }
            (there, true)
        }
        (None, Made::New { plan, converted, out }) => {
            (publish(shared, order, *plan, &converted, out, began).await?, true)
        }
        // It was removed, or made anew for somebody else, since it was looked for.
        (_, Made::There(_)) => return Err(PullError::Removed),
    };
    let by_digest = ImageRef::from_digest(digest);
    let known = shared.store.image(&system.name, &by_digest).await?;
    let recorded = record_locked(shared, system, ticket, &image, known, grant).await?;
    Ok((recorded.ok_or(PullError::Removed)?, was_made))
}

/// Publishes what was made.
async fn publish(
    shared: &Arc<Shared>,
    order: &ImportOrder,
    plan: Plan,
    converted: &Converted,
    out: Partial,
    began: Instant,
) -> Result<Image, PullError> {
    let system = &order.system;
    let digest = plan.digest;
    let made_with = shared.conversion.to_string();
    let image = Image {
        system: system.name.clone(),
        digest,
        tags: Vec::new(),
        owner: order.grant.by,
        access: order.grant.first_access(),
        pulled_at: Moment::now(),
        pull_seconds: began.elapsed().as_secs_f64(),
        content: Content {
            layers: known_layers(&plan),
            env: plan.env,
            entrypoint: plan.entrypoint,
            cmd: plan.cmd,
            workdir: plan.workdir,
            labels: plan.labels,
            created: plan.created,
            platform: plan.platform,
            source: Content::imported_from(&plan.format),
            resolved_digest: None,
            reused_layers: converted.reused_layers,
            entries: converted.entries,
            size: converted.bytes,
            made_by: format!("{MAKER} {}", converted.made_by),
            made_with,
        },
    };
    let sidecar = sidecar(&image);
    let dir = Arc::clone(&system.dir);
    blocking(move || Ok(dir.publish(&out, &sidecar)?)).await?;
    info!(image.ref = %order.reference, image.digest = %digest, size_bytes = image.content.size, "published {digest}");
    Ok(image)
}

fn known_layers(plan: &Plan) -> Vec<Layer> {
    let known = |layer: &converter_api::PlannedLayer| Layer {
        digest: layer.digest,
        diff_id: Some(layer.diff_id),
        size: layer.size,
    };
    plan.layers.iter().map(known).collect()
}

/// Hears how an import goes, and decides on what the file holds.
struct Importing {
    shared: Arc<Shared>,
    system: Arc<System>,
    grant: Grant,
    /// Where layers may be taken from images that are there: whether there were any.
    reusing: Option<Arc<AtomicBool>>,
    plan: Option<Plan>,
    /// Which layers are.
    done: Vec<bool>,
    out: Partial,
    progress: Arc<Progress>,
    runtime: Handle,
}

/// Why an import is heard no further.
enum End {
    /// The image is there.
    There(Box<Image>),
    Failed(PullError),
}

impl From<PullError> for End {
    fn from(error: PullError) -> Self {
        Self::Failed(error)
    }
}

impl From<ChildError> for End {
    fn from(error: ChildError) -> Self {
        Self::Failed(error.into())
    }
}

impl Listener for Importing {
    type Error = End;

    fn hear(&mut self, reply: Reply, channel: &Channel) -> Result<(), End> {
        let planned = self.plan.is_some();
        match reply {
            Reply::Planned(plan) if !planned => self.decide(plan, channel)?,
            Reply::Taken { layer, bytes } if planned => self.progress.taken(layer, bytes),
            Reply::LayerDone { layer, reused } if planned => {
                match self.done.get_mut(layer) {
                    Some(done) if !*done => *done = true,
                    _ => return Err(ChildError::Protocol("it has a layer from nowhere").into()),
                }
                self.progress.layer_done(layer, reused);
            }
            Reply::Written { bytes } if planned => self.progress.written(bytes),
            _ => return Err(out_of_order().into()),
        }
        Ok(())
    }
}

impl Importing {
    /// This thread is one that may block.
    fn decide(&mut self, plan: Plan, channel: &Channel) -> Result<(), End> {
        check_plan(&plan)?;
        self.progress.digest(plan.digest);
        let (shared, system) = (&self.shared, &self.system);
        let there = self.runtime.block_on(present(shared, system, plan.digest))?;
        if let Some(image) = there.filter(|image| !needs_proof(image, &self.grant)) {
            return Err(End::There(Box::new(image)));
        }
        self.progress.layers(plan.layers.iter().map(|layer| (layer.digest, layer.size)));
        let bytes = plan.layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        self.progress.status(
            Status::Conversion,
            format!("converting {} layers, {} MB", plan.layers.len(), bytes.div_ceil(1_000_000)),
        );
        let sources = self.runtime.block_on(self.sources(&plan));
        if let Some(reusing) = &self.reusing {
            reusing.store(!sources.is_empty(), Ordering::Relaxed);
        }
        let borrowed: Vec<_> = sources.iter().map(AsFd::as_fd).collect();
        // Where it is gone, the next that is heard of it is its end.
        let _ = channel.send(&Answer::Go { sources: borrowed.len() }, &borrowed);
        self.done = vec![false; plan.layers.len()];
        self.plan = Some(plan);
        Ok(())
    }

    /// Images from which layers may be taken.
    async fn sources(&self, plan: &Plan) -> Vec<File> {
        if self.reusing.is_none() {
            return Vec::new();
        }
        let Shared { store, conversion, .. } = &*self.shared;
        let layers = known_layers(plan);
        let mut images = reuse::candidates(&**store, &self.system, &layers, conversion).await;
        images.retain(|image| {
            image.admits(self.grant.by, &[])
                && reuse::is_for_all_of(image, &self.grant)
                && (!image.content.is_imported() || image.owner == self.grant.by)
        });
        let mut sources = reuse::for_import(&self.system, images, &layers).await;
        sources.truncate(MAX_SOURCES);
        sources
    }

    fn finish(self, converted: &Converted) -> Result<(Plan, Partial), PullError> {
        let Some(plan) = self.plan else { return Err(out_of_order().into()) };
        if self.done.contains(&false) {
            return Err(ChildError::Protocol("it has an image before it has the layers").into());
        }
        check_file(&self.out, converted)?;
        Ok((plan, self.out))
    }
}

/// What is not a text of ours is bounded, and no name of a file can be made of it.
fn check_plan(plan: &Plan) -> Result<(), ChildError> {
    let word = |text: &str| {
        text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-./".contains(&b))
    };
    if plan.layers.is_empty() && plan.format != "oci-layout" && plan.format != "docker-archive" {
        return Err(ChildError::Protocol("it has an image without layers"));
    }
    if !word(&plan.format) || !word(&plan.platform) {
        return Err(ChildError::Protocol("its plan names no format or platform"));
    }
    let mut texts = plan.env.iter().chain(&plan.entrypoint).chain(&plan.cmd).chain([&plan.workdir]);
    if texts.any(|text| text.contains('\0')) {
        return Err(ChildError::Protocol("its plan has a text with a NUL byte"));
    }
    Ok(())
}
