//! Pushing to a registry: blobs that it lacks, then the manifest (OCI distribution specification, "Push").

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs::File;

use super::{Image, layer::sha256};
use crate::registry::Registry;

/// What was pushed.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// `sha256:<hex>` of the manifest or index.
    pub digest: String,
    /// `docker:<registry>/<repository>:<tag>`.
    pub reference: String,
    /// Bytes of all layers as they lie in the registry.
    pub size: u64,
    media_type: &'static str,
    length: usize,
}

/// Pushes `image` under `name`, written `repository:tag`.
///
/// # Errors
/// Where the registry does not take it, with its answer.
pub fn push(registry: &Registry, name: &str, image: &Image) -> Result<Pushed> {
    let (repository, tag) = name.split_once(':').context("a name is written repository:tag")?;
    let client = Client::new(registry, repository);
    for layer in &image.layers {
        if !client.has_blob(&layer.digest)? {
            client.put_blob(&layer.digest, File::open(&layer.path)?)?;
        }
    }
    let config = image.config();
    let digest = sha256(&config);
    if !client.has_blob(&digest)? {
        client.put_blob(&digest, config.as_slice())?;
    }
    let manifest = image.manifest(&digest, config.len()).to_string();
    let size = image.layers.iter().map(|layer| layer.size).sum();
    client.put_manifest(tag, image.family.manifest(), &manifest, size)
}

/// Pushes an index of `images`, each for its own architecture, under `name`.
///
/// # Errors
/// As [`push`]; all images must be of one family.
pub fn push_index(registry: &Registry, name: &str, images: &[Image]) -> Result<Pushed> {
    let (repository, tag) = name.split_once(':').context("a name is written repository:tag")?;
    let family = images.first().context("an index needs an image")?.family;
    let mut manifests = Vec::new();
    for image in images {
        let pushed = push(registry, &format!("{repository}:{}", image.architecture), image)?;
        manifests.push(json!({
            "mediaType": pushed.media_type,
            "digest": pushed.digest,
            "size": pushed.length,
            "platform": { "architecture": image.architecture, "os": "linux" },
        }));
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": family.index(),
        "manifests": manifests,
    });
    let client = Client::new(registry, repository);
    client.put_manifest(tag, family.index(), &index.to_string(), 0)
}

struct Client<'a> {
    agent: ureq::Agent,
    registry: &'a Registry,
    repository: &'a str,
}

impl<'a> Client<'a> {
    fn new(registry: &'a Registry, repository: &'a str) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
        Self { agent: config.into(), registry, repository }
    }

    fn url(&self, rest: &str) -> String {
        format!("{}/v2/{}/{rest}", self.registry.url(), self.repository)
    }

    fn has_blob(&self, digest: &str) -> Result<bool> {
        let mut request = self.agent.head(self.url(&format!("blobs/{digest}")));
        if let Some(value) = self.registry.authorization() {
            request = request.header("Authorization", value);
        }
        Ok(request.call()?.status() == 200)
    }

    fn put_blob(&self, digest: &str, content: impl ureq::AsSendBody) -> Result<()> {
        let mut request = self.agent.post(self.url("blobs/uploads/"));
        if let Some(value) = self.registry.authorization() {
            request = request.header("Authorization", value);
        }
        let answer = request.send_empty()?;
        let place = answer.headers().get("Location").context("the upload has no Location")?;
        let place = place.to_str()?;
        let mark = if place.contains('?') { '&' } else { '?' };
        let mut request = self
            .agent
            .put(format!("{place}{mark}digest={digest}"))
            .header("Content-Type", "application/octet-stream");
        if let Some(value) = self.registry.authorization() {
            request = request.header("Authorization", value);
        }
        let mut answer = request.send(content).context("cannot upload a blob")?;
        let said = answer.body_mut().read_to_string().unwrap_or_default();
        ensure!(answer.status() == 201, "the registry refused a blob: {} {said}", answer.status());
        Ok(())
    }

    fn put_manifest(
        &self,
        tag: &str,
        media_type: &'static str,
        manifest: &str,
        size: u64,
    ) -> Result<Pushed> {
        let url = self.url(&format!("manifests/{tag}"));
        let mut request = self.agent.put(url).header("Content-Type", media_type);
        if let Some(value) = self.registry.authorization() {
            request = request.header("Authorization", value);
        }
        let mut answer = request.send(manifest)?;
        let said = answer.body_mut().read_to_string().unwrap_or_default();
        let status = answer.status();
        ensure!(status == 201, "the registry refused a manifest: {status} {said}");
        let reference = format!("docker:{}/{}:{tag}", self.registry.name(), self.repository);
        let digest = sha256(manifest.as_bytes());
        Ok(Pushed { digest, reference, size, media_type, length: manifest.len() })
    }
}
