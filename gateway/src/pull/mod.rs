//! One pull, as seven calls: resolve, choose the platform, configuration, ensure layers, apply changesets, pack,
//! publish.
//!
//! `queue` decides which pulls there are and who joins which; `worker` does one; `workers` says whose turn it is. Knows
//! nothing of HTTP or of callers' rights beyond the grant it is given.

pub mod child;
mod convert;
pub mod error;
pub mod import;
pub mod progress;
mod proof;
pub mod queue;
pub(crate) mod reuse;
mod worker;
mod workers;

use std::sync::Arc;
use std::time::Instant;

use converter_api::{Converted, Options};
use futures_util::StreamExt;
use gateway_api::Status;
use image_ref::{Digest, ImageRef, Sidecar};
use oci_registry::{
    AuthMethod, Connections, Credentials, Descriptor, Endpoint, ImageConfig, Manifest,
    RegistryError, Resolved, Session, Timeouts, Url,
};

use crate::config::{Conversion, Limits};
use crate::credentials::Login;
use crate::image_dir::Partial;
use crate::registries::Source;
use crate::store::record::{Content, Grant, Image, Layer, Moment};
use crate::system::System;
use error::PullError;
use progress::Progress;
use queue::Shared;

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

    /// Registry and repository, as they are recorded with images.
    fn origin(&self) -> String {
        format!("{}/{}", self.source.registry, self.source.repository)
    }

    /// Whether an image came from this registry, of whichever repository.
    fn is_registry_of(&self, image: &Image) -> bool {
        let rest = image.content.source.strip_prefix(&self.source.registry);
        rest.is_some_and(|rest| rest.starts_with('/'))
    }
}

/// Finds out what a reference stands for: the first two calls.
///
/// Small and quick: whoever wants an image makes these calls with their own credentials. That alone does not prove that
/// they may have it, see [`prove`].
pub(crate) async fn resolve(
    connections: &Connections,
    system: &System,
    reference: &ImageRef,
    source: Source,
    login: Option<Login>,
) -> Result<Found, PullError> {
    let session = open_session(connections, &source, login)?;
    let resolved = session.resolve(reference.version()).await?;
    let manifest = session.manifest_for(&resolved, &system.platform).await?;
    Ok(Found { session: Arc::new(session), resolved, manifest, source })
}

/// Sees that the caller can read the whole image from the registry, for who gets one that somebody else has read.
///
/// A registry may give everybody the manifest and want a login for the layers alone. Of one that the image did not come
/// from every byte is read: whoever has a manifest can set up a registry that only says to have its layers.
pub(crate) async fn prove(found: &Found, image: &Image) -> Result<(), PullError> {
    if found.is_registry_of(image) {
        for blob in std::iter::once(&found.manifest.config).chain(&found.manifest.layers) {
            found.session.may_read(blob).await?;
        }
        return Ok(());
    }
    found.session.config(&found.manifest).await?;
    for layer in &found.manifest.layers {
        let mut blob = found.session.blob(layer).await?;
        while let Some(bytes) = blob.next().await {
            bytes?;
        }
    }
    Ok(())
}

fn open_session(
    connections: &Connections,
    source: &Source,
    login: Option<Login>,
) -> Result<Session, RegistryError> {
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
    Session::new(connections, &endpoint, &repository, credentials, Timeouts::default())
}

/// Makes the image: the next four calls. Returns it as the store is to know it, without tags, and its file.
async fn make(
    shared: &Shared,
    system: &System,
    found: &Found,
    grant: &Grant,
    progress: &Arc<Progress>,
) -> Result<(Image, Partial), PullError> {
    let Shared { store, limits, conversion, converter, .. } = shared;
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
    let layers: Vec<_> = layers.iter().copied().zip(config.diff_ids.iter().copied()).collect();
    let known = known_layers(&layers);
    let sources = reuse::for_pull(&**store, system, found, grant, &known, conversion).await;
    let options = options(limits, conversion);
    let (session, dir) = (&found.session, &system.dir);
    let (out, made) =
        convert::convert(converter, session, &layers, sources, dir, &options, progress).await?;
    let out = convert::examine(converter, out, progress).await?;

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
        content: Content {
            layers: known,
            reused_layers: made.reused_layers,
            made_with: conversion.to_string(),
            ..content(found, &config, &made)
        },
    };
    Ok((image, out))
}

/// Publishes an image that was made: the last call. Not to be given up halfway.
async fn publish(
    shared: &Shared,
    system: &System,
    image: &Image,
    out: Partial,
    progress: &Progress,
) -> Result<(), PullError> {
    progress.status(Status::Transfer, "publishing");
    let _lock = system.lock(&image.digest).await;
    if proof::is_settled(&*shared.store, system, image, &out).await? {
        return Ok(());
    }
    let (dir, sidecar) = (Arc::clone(&system.dir), sidecar(image));
    blocking(move || Ok(dir.publish(&out, &sidecar)?)).await
}

/// The layers as the store is to know them.
fn known_layers(layers: &[(Descriptor, Digest)]) -> Vec<Layer> {
    let known = |(blob, diff_id): &(Descriptor, Digest)| Layer {
        digest: blob.digest,
        diff_id: Some(*diff_id),
        size: blob.size,
    };
    layers.iter().map(known).collect()
}

fn options(limits: &Limits, conversion: &Conversion) -> Options {
    Options {
        compressor: conversion.compressor.to_string(),
        block_size: conversion.block_size.bytes(),
        entries: limits.entries,
        expanded_bytes: limits.expanded_bytes,
        file_bytes: limits.file_bytes,
        ratio: limits.ratio,
        workers: conversion.workers,
    }
}

fn content(found: &Found, config: &ImageConfig, made: &Converted) -> Content {
    Content {
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        workdir: config.workdir.clone(),
        labels: config.labels.clone(),
        created: config.created.clone(),
        platform: config.platform.to_string(),
        source: found.origin(),
        resolved_digest: Some(found.resolved.digest),
        entries: made.entries,
        size: made.bytes,
        made_by: format!("{MAKER} {}", made.made_by),
        ..Content::default()
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
