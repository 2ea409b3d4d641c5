//! Imports: who may make an image of a file, what it may be called, and one at a time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use gateway_api::ImportRequest;
use image_ref::{ImageRef, Kind, Version};
use tokio_util::sync::CancellationToken;

use super::access::Caller;
use super::error::{PullFailure, ServiceError};
use super::pulls::parse_list;
use crate::config::SystemName;
use crate::image_dir::Partial;
use crate::pull::import::ImportOrder;
use crate::pull::queue::{Attempt, Queue};
use crate::store::Store;
use crate::store::record::Grant;
use crate::system::{Importers, System};

/// What can be asked of imports.
pub struct Imports {
    store: Arc<dyn Store>,
    queue: Queue,
    importers: Importers,
    /// The most bytes that an upload may have.
    largest: u64,
    running: Running,
}

/// Which users import, and to which names.
type Running = Arc<Mutex<BTreeSet<(SystemName, Claim)>>>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    User(u32),
    Name(ImageRef),
}

/// An import that is granted, and its file on the way in. Gone without a trace if it is dropped.
#[derive(Debug)]
pub struct Reception {
    order: ImportOrder,
    place: Place,
}

impl Reception {
    /// The file to write the upload to.
    pub fn upload(&self) -> &Partial {
        &self.order.upload
    }
}

/// A user's place and a name, until it is dropped.
#[derive(Debug)]
struct Place {
    running: Running,
    claims: Vec<(SystemName, Claim)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for claim in &self.claims {
            running.remove(claim);
        }
    }
}

impl Imports {
    /// Imports by this queue, of files of up to `largest` bytes.
    pub fn new(store: Arc<dyn Store>, queue: Queue, importers: Importers, largest: u64) -> Self {
        Self { store, queue, importers, largest, running: Running::default() }
    }

    /// Grants an import of a file of `size` bytes, before any of them has come.
    ///
    /// # Errors
    /// [`ServiceError`], whatever is known to be in the way.
    pub async fn begin(
        &self,
        system: &Arc<System>,
        caller: &Caller,
        reference: &ImageRef,
        request: &ImportRequest,
        size: u64,
    ) -> Result<Reception, ServiceError> {
        let admin = system.is_admin(caller.uid);
        let may = match &self.importers {
            Importers::All => true,
            Importers::Nobody => return Err(ServiceError::NoImports),
            Importers::Listed(users) => admin || users.contains(&caller.uid),
        };
        if !may {
            return Err(ServiceError::NoImporter);
        }
        if reference.kind() != Kind::Custom || !matches!(reference.version(), Version::Tag(_)) {
            return Err(ServiceError::NotImportable(reference.clone()));
        }
        if size > self.largest {
            return Err(ServiceError::TooLarge { size, allowed: self.largest });
        }
        let grant = Grant {
            by: caller.uid,
            admin,
            public: request.public,
            uids: parse_list("allowed_uids", request.allowed_uids.as_deref())?,
            gids: parse_list("allowed_gids", request.allowed_gids.as_deref())?,
        };
        let place = self.take_place(system, caller.uid, reference)?;
        // Behind the place: from here on nobody else can give the name away.
        if let Some(image) = self.store.image(&system.name, reference).await? {
            let by = image.tag(reference).and_then(|tag| tag.by).unwrap_or(image.owner);
            if by != caller.uid && !admin {
                return Err(ServiceError::NameTaken(reference.clone()));
            }
        }
        let dir = Arc::clone(&system.dir);
        let upload = tokio::task::spawn_blocking(move || {
            // The image that is made of it needs room too; how much nobody knows yet.
            if dir.free_bytes()? < size { Err(ServiceError::NoRoom) } else { Ok(dir.partial()?) }
        })
        .await??;
        let image = request.image.clone();
        let (system, reference) = (Arc::clone(system), reference.clone());
        Ok(Reception { order: ImportOrder { system, reference, grant, image, upload }, place })
    }

    fn take_place(
        &self,
        system: &System,
        uid: u32,
        reference: &ImageRef,
    ) -> Result<Place, ServiceError> {
        let claims = [Claim::User(uid), Claim::Name(reference.clone())];
        let claims: Vec<_> = claims.map(|claim| (system.name.clone(), claim)).into();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, taken)) = claims.iter().find(|claim| running.contains(*claim)) {
            return Err(match taken {
                Claim::User(_) => ServiceError::Busy,
                Claim::Name(name) => ServiceError::NameBusy(name.clone()),
            });
        }
        running.extend(claims.iter().cloned());
        Ok(Place { running: Arc::clone(&self.running), claims })
    }

    /// Begins the import of a file that has come whole; it ends early once `given_up` is cancelled.
    ///
    /// # Errors
    /// [`ServiceError::Pull`] while the gateway shuts down.
    pub fn run(
        &self,
        reception: Reception,
        given_up: CancellationToken,
    ) -> Result<Arc<Attempt>, ServiceError> {
        let Reception { order, place } = reception;
        let reference = order.reference.clone();
        self.queue
            .import(order, given_up, place)
            .map_err(|error| ServiceError::Pull(Box::new(PullFailure { reference, error })))
    }

    /// Cancelled when the gateway shuts down.
    pub fn stopping(&self) -> &CancellationToken {
        self.queue.stopping()
    }
}

impl std::fmt::Debug for Imports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Imports").field("importers", &self.importers).finish_non_exhaustive()
    }
}
