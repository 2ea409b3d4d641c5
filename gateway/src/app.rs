//! The gateway put together: the only place that picks a store and knows every part.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use image_ref::{Digest, image_file};
use nix::unistd::{AccessFlags, access};
use tracing::{info, warn};

use crate::config::{self, Config};
use crate::http::HealthCache;
use crate::image_dir::{ImageDir, ImageDirError};
use crate::pull::child::Converter;
use crate::pull::error::chain;
use crate::pull::queue::Queue;
use crate::registries::Registries;
use crate::service::access::Rights;
use crate::service::images::Images;
use crate::service::imports::Imports;
use crate::service::pulls::Pulls;
use crate::store::embedded::Embedded;
use crate::store::{Store, StoreError};
use crate::system::{System, Systems};

/// Everything that a request may need.
pub struct App {
    /// The systems by name.
    pub systems: Systems,
    /// What can be asked of images.
    pub images: Arc<Images>,
    /// What can be asked of pulls.
    pub pulls: Pulls,
    /// What can be asked of imports.
    pub imports: Imports,
    /// The store, for its health.
    pub store: Arc<dyn Store>,
    /// Whether credentials count that are bound to no request.
    pub accept_unbound: bool,
    /// The latest health check.
    pub(crate) health: HealthCache,
    registries: Arc<Registries>,
    converter: Converter,
}

impl App {
    /// Opens the store and the image directories.
    ///
    /// # Errors
    /// [`StartError`]; [`StoreError::InUse`] beside another gateway, of which nothing has been touched then.
    pub fn open(config: &Config) -> Result<Self, StartError> {
        // First of all: the store's lock keeps a second gateway out.
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&config.store_path)?);
        let mut systems = Systems::new();
        for (name, platform) in &config.platforms {
            let (system, complaints) = System::open(name, platform)?;
            complaints.iter().for_each(|complaint| warn!("{complaint}"));
            systems.insert(name.clone(), Arc::new(system));
        }
        let converter = Converter::new(&config.converter_path);
        let registries = Arc::new(Registries::new(config));
        let queue = Queue::new(
            Arc::clone(&store),
            config.limits.clone(),
            config.conversion.clone(),
            converter.clone(),
            config.worker_threads,
        );
        let images = Arc::new(Images::new(Arc::clone(&store), Arc::new(Rights::default())));
        let imports = Imports::new(
            Arc::clone(&store),
            queue.clone(),
            crate::system::find_importers(&config.import_users),
            config.limits.compressed_bytes,
        );
        let pulls = Pulls::new(
            Arc::clone(&store),
            queue,
            Arc::clone(&images),
            Arc::clone(&registries),
            config.pull_update_timeout,
        );
        let accept_unbound = config.accept_unbound_credentials;
        let health = HealthCache::default();
        Ok(Self {
            systems,
            images,
            imports,
            pulls,
            store,
            accept_unbound,
            health,
            registries,
            converter,
        })
    }

    /// Clears away what an earlier gateway left unfinished. To be called once, before anything is pulled, and only
    /// when nothing keeps this gateway from serving: what it removes may be what another one is writing.
    ///
    /// # Errors
    /// [`ImageDirError`].
    pub fn clean(&self) -> Result<(), ImageDirError> {
        for (name, system) in &self.systems {
            let count = system.dir.clean()?;
            if count > 0 {
                info!(system = %name, count, "removed unfinished files from {}", system.dir.path().display());
            }
        }
        Ok(())
    }

    /// Says which image files no record speaks of, and leaves them alone: in a directory that is shared they may be another
    /// gateway's, and after the loss of a store nothing but they is left. To be called once, before anything is pulled.
    ///
    /// # Errors
    /// [`StartError`] where store or directory cannot be asked.
    pub async fn report_unrecorded(&self) -> Result<(), StartError> {
        // Several systems may have the same directory.
        let mut recorded: BTreeMap<&Path, BTreeSet<Digest>> = BTreeMap::new();
        for (name, system) in &self.systems {
            let images = self.store.images(name).await?;
            let known = recorded.entry(system.dir.path()).or_default();
            known.extend(images.iter().map(|image| image.digest));
        }
        let directories: BTreeMap<&Path, &ImageDir> =
            self.systems.values().map(|system| (system.dir.path(), &*system.dir)).collect();
        for (path, dir) in directories {
            let known = recorded.remove(path).unwrap_or_default();
            let mut files = dir.images()?;
            files.retain(|digest| !known.contains(digest));
            if let Some(first) = files.iter().min() {
                warn!(
                    "{} has {} image files that no record of this gateway speaks of, the first of them {}; they are left alone",
                    path.display(),
                    files.len(),
                    image_file(first)
                );
            }
        }
        Ok(())
    }

    /// Says which sandbox the converter has on this host. Without one every pull fails; what is there is served still.
    pub fn report_sandbox(&self) {
        match self.converter.check() {
            Ok(sandbox) => info!("the converter's sandbox: {sandbox}"),
            Err(error) => warn!("no image can be made: {}", chain(&error)),
        }
    }

    /// Begins again the pulls that were running when the gateway ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn resume(&self) -> Result<(), StoreError> {
        let count = self.pulls.queue().resume(&self.systems, &self.registries).await?;
        if count > 0 {
            info!(count, "begins {count} pulls again");
        }
        Ok(())
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("systems", &self.systems).finish_non_exhaustive()
    }
}

/// Looks for what would keep the gateway from working with this configuration, without changing anything.
///
/// Returns one sentence for each finding that an administrator should know of.
pub fn check(config: &Config) -> Vec<String> {
    let mut findings = config::notices(config);
    let missing = |path: &Path| access(path, AccessFlags::F_OK).is_err();
    for (name, location) in &config.locations {
        if let Some(path) = location.sslcacert.as_deref()
            && access(path, AccessFlags::R_OK).is_err()
        {
            findings.push(format!("Locations.{name}.sslcacert: cannot read {}", path.display()));
        }
    }
    findings.extend(crate::system::unknown_importers(&config.import_users));
    for (name, platform) in &config.platforms {
        if let Ok(path) = platform.image_dir()
            && missing(path)
        {
            findings
                .push(format!("Platforms.{name}.local.imageDir: there is no {}", path.display()));
        }
        if let Some(path) = platform.munge_socket.as_deref()
            && missing(path)
        {
            findings
                .push(format!("Platforms.{name}.mungeSocketPath: there is no {}", path.display()));
        }
        findings.extend(crate::system::unknown_admins(name, platform));
    }
    if let Err(error) = Converter::new(&config.converter_path).check() {
        findings.push(format!("ConverterPath: no image can be made: {}", chain(&error)));
    }
    findings
}

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An image directory cannot be used.
    #[error(transparent)]
    ImageDir(#[from] ImageDirError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}
