//! Pulls: asking for one, watching it, listing them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gateway_api::{PullEvent, PullRequest, QueueEntry, Record};
use image_ref::{Access, ImageRef, Kind, Version};

use super::access::Caller;
use super::error::{PullFailure, ServiceError};
use super::images::Images;
use super::record;
use crate::credentials::Login;
use crate::pull::queue::{Attempt, Order, Queue};
use crate::registries::Registries;
use crate::store::Store;
use crate::store::record::{Grant, Image, Scope};
use crate::system::System;

/// What can be asked of pulls.
pub struct Pulls {
    store: Arc<dyn Store>,
    queue: Queue,
    images: Arc<Images>,
    registries: Arc<Registries>,
    /// How long a tag counts as looked up.
    update_timeout: Duration,
}

/// What there is to watch of a reference.
#[derive(Debug)]
pub enum Watch {
    /// A pull.
    Pull(Arc<Attempt>),
    /// An image that is there.
    Ready(PullEvent),
}

impl Pulls {
    /// Pulls by this queue.
    pub fn new(
        store: Arc<dyn Store>,
        queue: Queue,
        images: Arc<Images>,
        registries: Arc<Registries>,
        update_timeout: Duration,
    ) -> Self {
        Self { store, queue, images, registries, update_timeout }
    }

    /// Asks for an image; returns at once with the image, if it is there and fresh, or with the pull.
    ///
    /// # Errors
    /// [`ServiceError`] where the pull cannot even begin. That a pull fails is no error: its record says so.
    pub async fn request(
        &self,
        system: &Arc<System>,
        caller: &Caller,
        reference: &ImageRef,
        request: &PullRequest,
    ) -> Result<Record, ServiceError> {
        let grant = grant(system, caller, request)?;
        let present = match self.images.usable(system, caller, reference).await {
            Ok(image) => Some(image),
            Err(ServiceError::NotFound(_) | ServiceError::FileGone(_)) => None,
            Err(error) => return Err(error),
        };
        if reference.kind() != Kind::Docker {
            return match present {
                Some(image) => Ok(record::of_image(&image)),
                None if reference.kind() == Kind::Id => {
                    Err(ServiceError::NotFound(reference.clone()))
                }
                None => Err(ServiceError::NotPullable(reference.clone())),
            };
        }
        let source = self
            .registries
            .source(reference)
            .map_err(|why| ServiceError::Source { reference: reference.clone(), why })?;
        let login = caller.logins.find(&source.login_names);
        if let Some(image) = present
            && self.suffices(&image, reference, &grant, login.as_ref())
        {
            return Ok(record::of_image(&image));
        }
        let system = Arc::clone(system);
        let order = Order { system, reference: reference.clone(), source, login, grant };
        let attempt = self.queue.ask(order, caller.bound).map_err(|error| {
            let reference = reference.clone();
            ServiceError::Pull(Box::new(PullFailure { reference, error }))
        })?;
        let record = record::of_attempt(&attempt);
        if record.failure.is_some() {
            attempt.told(caller.uid);
        }
        Ok(record)
    }

    /// Tells whether the image that is there is what a pull would bring.
    fn suffices(
        &self,
        image: &Image,
        reference: &ImageRef,
        grant: &Grant,
        login: Option<&Login>,
    ) -> bool {
        if changes_access(image, grant) {
            return false;
        }
        let fresh = match reference.version() {
            // A digest never points at anything else.
            Version::Digest(_) => true,
            Version::Tag(_) => image
                .tag(reference)
                .is_some_and(|tag| tag.checked_at.age() < self.update_timeout.as_secs_f64()),
        };
        // Who may use a private image without a login of their own cannot ask the registry for a later one.
        fresh || (image.is_private() && login.is_none())
    }

    /// What there is to watch of a reference.
    ///
    /// # Errors
    /// [`ServiceError::NotFound`] where there is neither a pull nor an image for the caller.
    pub async fn watch(
        &self,
        system: &System,
        caller: &Caller,
        reference: &ImageRef,
    ) -> Result<Watch, ServiceError> {
        if let Some(attempt) = self.queue.find(&system.name, reference, caller.uid) {
            return Ok(Watch::Pull(attempt));
        }
        let image = self.images.usable(system, caller, reference).await?;
        Ok(Watch::Ready(record::ready_event(&image)))
    }

    /// The pulls that run or failed lately: the caller's and those made without credentials; for an admin all.
    ///
    /// # Errors
    /// [`ServiceError::Store`].
    pub async fn list(
        &self,
        system: &System,
        caller: &Caller,
    ) -> Result<Vec<QueueEntry>, ServiceError> {
        let visible = |scope| match scope {
            Scope::Anonymous => true,
            Scope::User(uid) => uid == caller.uid || system.is_admin(caller.uid),
        };
        let pulls = self.store.pulls(&system.name).await?;
        Ok(pulls
            .into_iter()
            .filter(|pull| visible(pull.key.scope))
            .map(|pull| QueueEntry {
                status: pull.status,
                image: record::queue_name(&pull.key.reference),
            })
            .collect())
    }

    /// The queue behind it.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }
}

/// Tells whether the owner, or an admin, asks for other lists than the image has.
fn changes_access(image: &Image, grant: &Grant) -> bool {
    let Access::Listed { uids, gids } = &image.access else { return false };
    let asked = !grant.uids.is_empty() || !grant.gids.is_empty();
    let differs = uids.iter().copied().collect::<BTreeSet<_>>() != grant.uids
        || gids.iter().copied().collect::<BTreeSet<_>>() != grant.gids;
    asked && differs && (grant.by == image.owner || grant.admin)
}

/// What the request says of who may use the image; as with Shifter, a list that names somebody names the caller too.
fn grant(system: &System, caller: &Caller, request: &PullRequest) -> Result<Grant, ServiceError> {
    let mut uids = parse_list("allowed_uids", request.allowed_uids.as_deref())?;
    let mut gids = parse_list("allowed_gids", request.allowed_gids.as_deref())?;
    if !uids.is_empty() {
        uids.insert(caller.uid);
    }
    if !gids.is_empty() {
        gids.insert(caller.gid);
    }
    let admin = system.is_admin(caller.uid);
    Ok(Grant { by: caller.uid, admin, public: false, uids, gids })
}

pub(super) fn parse_list(
    key: &'static str,
    text: Option<&str>,
) -> Result<BTreeSet<u32>, ServiceError> {
    let text = text.unwrap_or_default();
    let bad = || ServiceError::AccessList { key, text: text.chars().take(100).collect() };
    let ids = text.split(',').map(str::trim).filter(|id| !id.is_empty());
    let list = ids.map(|id| id.parse().map_err(|_| bad())).collect::<Result<BTreeSet<u32>, _>>()?;
    if list.len() > LIST_LIMIT { Err(bad()) } else { Ok(list) }
}

/// More people than this are a group.
const LIST_LIMIT: usize = 1024;

impl std::fmt::Debug for Pulls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pulls").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_shifters_client_writes_them() {
        let list = |text| parse_list("allowed_uids", Some(text)).ok();
        assert_eq!(list("1000,1001"), Some([1000, 1001].into()));
        assert_eq!(list(" 7 , "), Some([7].into()));
        assert_eq!(list(""), Some([].into()));
        for bad in ["a", "1;2", "-1", "4294967296", "1,2x"] {
            assert_eq!(list(bad), None, "{bad}");
        }
    }
}
