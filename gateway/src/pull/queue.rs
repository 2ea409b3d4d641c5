//! Which pulls there are and who joins which.
//!
//! One pull for each system, reference and pair of eyes ([`Scope`]); one conversion for each system and digest,
//! whatever the number of references and callers. In memory; the store remembers across a restart what is running.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use gateway_api::{PullEvent, Status};
use image_ref::{Digest, ImageRef};
use oci_registry::Connections;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::child::Converter;
use super::error::{PullError, chain};
use super::progress::Progress;
use super::worker;
use super::workers::Workers;
use crate::config::{self, Limits, SystemName};
use crate::credentials::Login;
use crate::registries::{Registries, Source};
use crate::store::record::{Grant, Image, PullKey, Scope, Ticket};
use crate::store::{Store, StoreError};
use crate::system::{System, Systems};

/// Every pull of this gateway.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

/// What the workers need.
pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) limits: Limits,
    pub(super) conversion: config::Conversion,
    pub(super) converter: Converter,
    pub(super) connections: Connections,
    pub(super) workers: Workers,
    /// Cancelled when the gateway shuts down.
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) conversions: Mutex<HashMap<(SystemName, Digest), Conversion>>,
    attempts: Mutex<HashMap<PullKey, Arc<Attempt>>>,
}

/// An image in the making.
#[derive(Clone)]
pub(super) struct Conversion {
    pub(super) progress: Arc<Progress>,
    /// `None` while it is being made.
    pub(super) result: watch::Receiver<Option<Result<Image, Arc<PullError>>>>,
}

/// What one caller wants.
#[derive(Debug)]
pub struct Order {
    /// The system the image is for.
    pub system: Arc<System>,
    /// What the caller asked for.
    pub reference: ImageRef,
    /// Where that is.
    pub source: Source,
    /// The caller's login there, if any.
    pub login: Option<Login>,
    /// Who asked, and for whom.
    pub grant: Grant,
}

/// One pull, running or just ended.
#[derive(Debug)]
pub struct Attempt {
    /// What it is for.
    pub key: PullKey,
    pub(super) progress: Arc<Progress>,
    /// Who asked for it, and whether they have been told how it ended.
    askers: Mutex<BTreeMap<u32, bool>>,
    ended: OnceLock<Instant>,
}

impl Attempt {
    pub(super) fn new(key: PullKey) -> Self {
        Self {
            key,
            progress: Arc::new(Progress::begin()),
            askers: Mutex::default(),
            ended: OnceLock::new(),
        }
    }

    /// How far it is.
    pub fn latest(&self) -> PullEvent {
        self.progress.latest()
    }

    /// Watches it; the latest event counts as unseen.
    pub fn watch(&self) -> watch::Receiver<PullEvent> {
        self.progress.watch()
    }

    /// Remembers that this user knows how the pull ended.
    pub fn told(&self, uid: u32) {
        locked(&self.askers).insert(uid, true);
    }

    /// Tells whether it is over: with an image, a failure, or by the gateway's shutdown, which no event says.
    pub fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    pub(super) fn end(&self) {
        // Only the worker ends it, once.
        let _ = self.ended.set(Instant::now());
    }

    /// Tells whether a caller who asks now gets this pull and not a new one.
    ///
    /// A running pull is joined. A failure is shown for a moment to those who waited for it, because Shifter's
    /// client learns of it only by asking again, every half second; who has been told and can say so by a bound
    /// credential gets a new pull at once.
    fn serves(&self, uid: u32, bound: bool) -> bool {
        let Some(ended) = self.ended.get() else { return true };
        let told = locked(&self.askers).get(&uid).copied();
        self.latest().status == Status::Failure
            && ended.elapsed() < FAILURE_SHOWN
            && told.is_some_and(|told| !(bound && told))
    }
}

impl Queue {
    /// A queue that makes up to `workers` images at the same time.
    pub fn new(
        store: Arc<dyn Store>,
        limits: Limits,
        conversion: config::Conversion,
        converter: Converter,
        workers: usize,
    ) -> Self {
        let shared = Shared {
            store,
            limits,
            conversion,
            converter,
            connections: Connections::default(),
            workers: Workers::new(workers),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            conversions: Mutex::default(),
            attempts: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Makes ready what the first pull would have to wait for. Blocks for a tenth of a second.
    pub fn warm_up(&self) {
        self.shared.connections.warm_up();
    }

    /// Joins the pull that the order asks for, or begins one.
    ///
    /// # Errors
    /// [`PullError::Interrupted`] while the gateway shuts down.
    pub fn ask(&self, order: Order, bound: bool) -> Result<Arc<Attempt>, PullError> {
        if self.shared.stop.is_cancelled() {
            return Err(PullError::Interrupted);
        }
        let uid = order.grant.by;
        let scope = if order.login.is_some() { Scope::User(uid) } else { Scope::Anonymous };
        let key = PullKey {
            system: order.system.name.clone(),
            reference: order.reference.clone(),
            scope,
        };
        let mut attempts = locked(&self.shared.attempts);
        let kept = |attempt: &Attempt| attempt.ended.get().is_none_or(|e| e.elapsed() < ENDED_KEPT);
        attempts.retain(|_, attempt| kept(attempt));
        if let Some(attempt) = attempts.get(&key)
            && attempt.serves(uid, bound)
        {
            locked(&attempt.askers).entry(uid).or_insert(false);
            return Ok(Arc::clone(attempt));
        }
        Ok(self.begin(&mut attempts, key, order, None))
    }

    fn begin(
        &self,
        attempts: &mut HashMap<PullKey, Arc<Attempt>>,
        key: PullKey,
        order: Order,
        ticket: Option<Ticket>,
    ) -> Arc<Attempt> {
        let attempt = Arc::new(Attempt::new(key.clone()));
        locked(&attempt.askers).insert(order.grant.by, false);
        attempts.insert(key, Arc::clone(&attempt));
        let work = worker::run(Arc::clone(&self.shared), Arc::clone(&attempt), order, ticket);
        self.shared.tasks.spawn(work);
        attempt
    }

    /// The pull of a reference that a user may watch: one they asked for, or one that runs without credentials.
    pub fn find(
        &self,
        system: &SystemName,
        reference: &ImageRef,
        uid: u32,
    ) -> Option<Arc<Attempt>> {
        let attempts = locked(&self.shared.attempts);
        let find = |scope| {
            let key = PullKey { system: system.clone(), reference: reference.clone(), scope };
            attempts.get(&key).filter(|a| !a.has_ended() || locked(&a.askers).contains_key(&uid))
        };
        let (own, open) = (find(Scope::User(uid)), find(Scope::Anonymous));
        // With two, the one that still runs is meant.
        let running = own.into_iter().chain(open).find(|attempt| !attempt.has_ended());
        running.or(own).or(open).map(Arc::clone)
    }

    /// Begins again what an earlier gateway was doing when it ended. To be called once, at the start.
    ///
    /// Pulls that need a user's credentials cannot be: those were never written down. They are failed, so that the
    /// user's next request begins them anew.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot say which these are.
    pub async fn resume(
        &self,
        systems: &Systems,
        registries: &Registries,
    ) -> Result<usize, StoreError> {
        let mut count = 0;
        for (ticket, pull) in self.shared.store.take_over(worker::LEASE).await? {
            let reference = pull.key.reference.clone();
            let system = systems.get(&pull.key.system);
            let source = registries.source(&reference).ok();
            match (pull.key.scope, system, source) {
                (Scope::Anonymous, Some(system), Some(source)) => {
                    info!(image.ref = %reference, system = %system.name, "begins the pull of {reference} again");
                    let system = Arc::clone(system);
                    let order = Order { system, reference, source, login: None, grant: pull.grant };
                    self.begin(&mut locked(&self.shared.attempts), pull.key, order, Some(ticket));
                    count += 1;
                }
                _ => {
                    let failure = PullError::Interrupted.body(&reference, &[]);
                    if let Err(error) = self.shared.store.fail(&ticket, &failure).await {
                        warn!(image.ref = %reference, "cannot record that a pull was interrupted: {}", chain(&error));
                    }
                }
            }
        }
        Ok(count)
    }

    /// Ends every pull; what the store knows of them stays as it is, for [`Self::resume`].
    pub async fn drain(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(DRAIN, self.shared.tasks.wait()).await.is_err() {
            warn!("pulls did not end within {} s", DRAIN.as_secs());
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Cancelled when the gateway shuts down.
    pub fn stopping(&self) -> &CancellationToken {
        &self.shared.stop
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// A panic while a lock was held leaves these maps whole: each change is one call.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a failure is shown to those who asked for the pull: six polls of Shifter's client.
pub const FAILURE_SHOWN: Duration = Duration::from_secs(3);

/// How long an ended pull can be watched, for a client that asks for its events after its end.
const ENDED_KEPT: Duration = Duration::from_secs(60);

/// How long the shutdown waits for pulls; systemd waits longer.
const DRAIN: Duration = Duration::from_secs(15);
