//! One pull, as seven calls: resolve, choose the platform, configuration, ensure layers, apply changesets, pack,
//! publish.
//!
//! `queue` decides which pulls there are and who joins which; `worker` does one; `workers` says whose turn it is. Knows nothing of HTTP or of callers'
//! rights beyond the grant it is given.

mod convert;
pub mod error;
pub mod progress;
pub mod queue;
mod worker;
mod workers;

use std::sync::Arc;
use std::time::Instant;

use gateway_api::{LayerDetail, Status};
use image_ref::{ImageRef, Sidecar};
use oci_layers::Options;
use oci_registry::{
    AuthMethod, Credentials, Endpoint, ImageConfig, Manifest, RegistryError, Resolved, Session,
    Timeouts, Url,
};
use tokio_util::sync::CancellationToken;

use crate::config::Limits;
use crate::credentials::Login;
use crate::registries::Source;
use crate::store::record::{Content, Grant, Image, Moment};
use crate::system::System;
use error::PullError;
use progress::Progress;

/// An image at its registry, as one caller sees it.
#[derive(Debug)]
pub(crate) struct Found {
    session: Arc<Session>,
    resolved: Resolved,
    manifest: Manifest,
    source: Source,
}

impl Found {
    /// Whether nothing of what was read so far needed the caller's login.
    pub(crate) fn is_public(&self) -> bool {
        !self.session.used_credentials()
    }
}

/// Finds out what a reference stands for: the first two calls.
///
/// Small and quick: whoever wants an image makes these calls with their own credentials. That alone does not prove that
/// they may have it, see [`prove`].
pub(crate) async fn resolve(
    system: &System,
    reference: &ImageRef,
    source: Source,
    login: Option<Login>,
) -> Result<Found, PullError> {
    let session = open_session(&source, login)?;
    let resolved = session.resolve(reference.version()).await?;
    let manifest = session.manifest_for(&resolved, &system.platform).await?;
    Ok(Found { session: Arc::new(session), resolved, manifest, source })
}

/// Sees that the caller can read the whole image from the registry, for who gets one that somebody else has read.
///
/// A registry may give everybody the manifest and want a login for the layers alone.
pub(crate) async fn prove(found: &Found) -> Result<(), PullError> {
    for blob in std::iter::once(&found.manifest.config).chain(&found.manifest.layers) {
        found.session.may_read(blob).await?;
    }
    Ok(())
}

fn open_session(source: &Source, login: Option<Login>) -> Result<Session, RegistryError> {
    let base = Url::parse(&source.url).map_err(|error| RegistryError::Setup {
        registry: source.registry.clone(),
        reason: format!("its address {} is malformed: {error}", source.url),
    })?;
    let endpoint = Endpoint {
        name: source.registry.clone(),
        base,
        ca: source.ca.clone(),
        internal: source.listed,
        token_realms: source.token_realms.clone(),
        auth: if source.basic { AuthMethod::Basic } else { AuthMethod::Offered },
    };
    let credentials = login.map(|login| Credentials { user: login.user, password: login.password });
    let repository = endpoint.repository(&source.repository);
    Session::new(&endpoint, &repository, credentials, Timeouts::default())
}

/// Makes and publishes the image: the other five calls. Returns it as the store is to know it, without tags.
pub(crate) async fn make(
    system: &System,
    found: &Found,
    grant: &Grant,
    limits: &Limits,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> Result<Image, PullError> {
    let began = Instant::now();
    let layers = &found.manifest.layers;
    let bytes = found.manifest.layer_bytes();
    if bytes > limits.compressed_bytes {
        let allowed = limits.compressed_bytes;
        return Err(PullError::Limit(format!(
            "its layers have {bytes} bytes, {allowed} are allowed"
        )));
    }
    progress.layers(layers.iter().map(|layer| (layer.digest, layer.size)));
    progress.status(
        Status::Pulling,
        format!("pulling {} layers, {} MB", layers.len(), bytes.div_ceil(1_000_000)),
    );

    let config = found.session.config(&found.manifest).await?;
    // Layer and content belong together by their place (OCI image specification, config, `rootfs.diff_ids`); that
    // there are as many of the one as of the other was checked with the configuration.
    let layers = layers.iter().copied().zip(config.diff_ids.iter().copied()).collect();
    let options = options(limits);
    let made_by = format!("{MAKER} {}", options.describe());
    let dir = Arc::clone(&system.dir);
    let out = blocking(move || dir.partial().map_err(PullError::from)).await?;
    let (out, summary) = convert::convert(
        Arc::clone(&found.session),
        layers,
        out,
        options,
        Arc::clone(progress),
        stop.clone(),
    )
    .await?;

    progress.status(Status::Transfer, "publishing");
    // Only now is it known: everything has been read.
    let grant = Grant { public: found.is_public(), ..grant.clone() };
    let image = Image {
        system: system.name.clone(),
        digest: found.manifest.digest,
        tags: Vec::new(),
        owner: grant.by,
        access: grant.first_access(),
        pulled_at: Moment::now(),
        pull_seconds: began.elapsed().as_secs_f64(),
        content: content(found, &config, summary.entries, summary.bytes, made_by),
    };
    let sidecar = sidecar(&image);
    let dir = Arc::clone(&system.dir);
    let _lock = system.lock(&image.digest).await;
    blocking(move || dir.publish(&out, &sidecar).map_err(PullError::from)).await?;
    Ok(image)
}

fn options(limits: &Limits) -> Options {
    let mut options = Options::default();
    options.limits.expanded_bytes = limits.expanded_bytes;
    options.limits.entries = limits.entries;
    options
}

fn content(
    found: &Found,
    config: &ImageConfig,
    entries: u64,
    size: u64,
    made_by: String,
) -> Content {
    Content {
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        workdir: config.workdir.clone(),
        labels: config.labels.clone(),
        created: config.created.clone(),
        platform: config.platform.to_string(),
        source: format!("{}/{}", found.source.registry, found.source.repository),
        resolved_digest: Some(found.resolved.digest),
        layers: found
            .manifest
            .layers
            .iter()
            .map(|layer| LayerDetail { digest: layer.digest, size: layer.size })
            .collect(),
        entries,
        size,
        made_by,
    }
}

/// What is published beside an image.
pub(crate) fn sidecar(image: &Image) -> Sidecar {
    let bytes = |list: &[String]| list.iter().map(|text| text.clone().into_bytes()).collect();
    let content = &image.content;
    Sidecar {
        digest: image.digest,
        owner: image.owner,
        access: image.access.clone(),
        env: bytes(&content.env),
        entrypoint: bytes(&content.entrypoint),
        cmd: bytes(&content.cmd),
        workdir: content.workdir.clone().into_bytes(),
        platform: content.platform.clone(),
        made_by: content.made_by.clone(),
    }
}

/// Runs something that blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PullError> + Send + 'static,
) -> Result<T, PullError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(PullError::Panic))
}

/// The program and its version, as recorded with every image.
const MAKER: &str = concat!("gantry ", env!("CARGO_PKG_VERSION"));
