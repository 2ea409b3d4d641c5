//! One pull from one repository, with one caller's credentials.

use crate::asked::{Asked, Wanted};
use crate::auth::{Authorizer, Level};
use crate::failure::Failure;
use crate::patience::Patience;
use crate::transport::{Transport, brief};
use crate::{
    BlobStream, CONFIG_LIMIT, Connections, Credentials, Endpoint, MANIFEST_LIMIT, RegistryError,
    Timeouts,
};
use image_ref::{Digest, Platform, Version};
use oci_documents::{
    Descriptor, Flaw, ImageConfig, Manifest, ManifestKind, Unchosen, choose, parse_config,
    parse_kind, parse_manifest,
};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Response, Url};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One pull: knows the registry, the repository and who pulls; forgets it all when the last clone goes.
#[derive(Clone, Debug)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: String,
    repository: String,
    /// What the registry is called by those who log in there.
    login: String,
    /// Ends with `/v2/<repository>/`.
    base: Url,
    transport: Transport,
    authorizer: Authorizer,
    timeouts: Timeouts,
    used_credentials: AtomicBool,
}

/// A manifest or an index, with the digest that its bytes have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The digest, computed from the bytes.
    pub digest: Digest,
    /// Manifest or index.
    pub kind: ManifestKind,
    /// The bytes as they came.
    pub bytes: Vec<u8>,
    /// What was asked for.
    wanted: Wanted,
}

impl Session {
    /// Prepares a pull; nothing is sent yet.
    ///
    /// `repository` is the name at the registry: see [`Endpoint::repository`].
    ///
    /// # Errors
    /// [`RegistryError::Setup`] where the endpoint or the repository's name cannot be used.
    pub fn new(
        connections: &Connections,
        endpoint: &Endpoint,
        repository: &str,
        credentials: Option<Credentials>,
        timeouts: Timeouts,
    ) -> Result<Self, RegistryError> {
        let endpoint = Endpoint { base: endpoint.request_base(), ..endpoint.clone() };
        let setup = |reason| RegistryError::Setup { registry: endpoint.name.clone(), reason };
        let base = repository_url(&endpoint.base, repository).map_err(setup)?;
        let client = connections.client(&endpoint, &timeouts)?;
        Ok(Self {
            inner: Arc::new(Inner {
                registry: endpoint.name.clone(),
                repository: repository.to_owned(),
                login: endpoint.login_name(),
                base,
                transport: Transport::new(client, &endpoint, &timeouts),
                authorizer: Authorizer::new(&endpoint, repository, credentials),
                timeouts,
                used_credentials: AtomicBool::new(false),
            }),
        })
    }

    /// Gets the manifest or index that a tag points at, or that has a digest.
    ///
    /// The digest is the one computed from what came; the header with the registry's opinion is not needed.
    ///
    /// # Errors
    /// Everything that [`RegistryError`] knows but the platform.
    pub async fn resolve(&self, version: &Version) -> Result<Resolved, RegistryError> {
        let asked = self.asked(version.into());
        let (reference, expected) = match version {
            Version::Tag(tag) => (tag.clone(), None),
            Version::Digest(digest) => (digest.to_string(), Some(*digest)),
        };
        match (self.manifest_document(asked, &reference, expected).await, version) {
            (Err(RegistryError::NotFound { asked, .. }), Version::Tag(tag)) => {
                Err(self.explain_missing_tag(&asked, tag).await)
            }
            (result, _) => result,
        }
    }

    /// Reads the manifest of the image for `platform`, by way of the index if it is one.
    ///
    /// # Errors
    /// [`RegistryError::NoPlatform`] where there is none, and what [`Session::resolve`] may say.
    pub async fn manifest_for(
        &self,
        resolved: &Resolved,
        platform: &Platform,
    ) -> Result<Manifest, RegistryError> {
        let asked = self.asked(resolved.wanted.clone());
        if !resolved.kind.is_index() {
            return parse_manifest(&resolved.bytes, resolved.digest, platform)
                .map_err(|flaw| about(flaw, &asked));
        }
        let entry = choose(&resolved.bytes, platform).map_err(|unchosen| match unchosen {
            Unchosen::Flaw(flaw) => about(flaw, &asked),
            Unchosen::NoPlatform(offered) => no_platform(&asked, platform, offered),
        })?;
        let inner = self.asked(Wanted::Manifest(entry.digest));
        let image = self
            .manifest_document(inner.clone(), &entry.digest.to_string(), Some(entry.digest))
            .await?;
        if image.kind != entry.kind || image.bytes.len() as u64 != entry.size {
            let text = "it is not of the kind or size that its index says";
            return Err(about(Flaw::Invalid(text.to_owned()), &inner));
        }
        parse_manifest(&image.bytes, image.digest, platform).map_err(|flaw| about(flaw, &inner))
    }

    /// Reads the configuration of an image.
    ///
    /// # Errors
    /// [`RegistryError::NoPlatform`] where it is for another platform than the manifest was chosen for.
    pub async fn config(&self, manifest: &Manifest) -> Result<ImageConfig, RegistryError> {
        let Descriptor { digest, size, .. } = manifest.config;
        let asked = self.asked(Wanted::Config(digest));
        let path = format!("blobs/{digest}");
        let (_, bytes) = self.document(&asked, &path, &HeaderMap::new(), CONFIG_LIMIT).await?;
        check_digest(&asked, &bytes, digest)?;
        if bytes.len() as u64 != size {
            let flaw = Flaw::Invalid("it is not as long as its manifest says".to_owned());
            return Err(about(flaw, &asked));
        }
        let config =
            parse_config(&bytes, manifest.layers.len()).map_err(|flaw| about(flaw, &asked))?;
        if !manifest.platform.accepts(&config.platform) {
            let asked = self.asked(Wanted::Manifest(manifest.digest));
            return Err(no_platform(&asked, &manifest.platform, vec![config.platform]));
        }
        Ok(config)
    }

    /// Opens a layer for reading.
    ///
    /// # Errors
    /// Whatever the first answer says; what comes later is the stream's to say.
    pub async fn blob(&self, layer: &Descriptor) -> Result<BlobStream, RegistryError> {
        BlobStream::open(self.clone(), *layer, true).await
    }

    /// As [`Session::blob`], but of a digest that is wrong the stream says nothing, only of a size: for a reader that
    /// checks the digest itself, as hashing twice would be half of what a download costs.
    ///
    /// # Errors
    /// As for [`Session::blob`].
    pub async fn unverified_blob(&self, layer: &Descriptor) -> Result<BlobStream, RegistryError> {
        BlobStream::open(self.clone(), *layer, false).await
    }

    /// Sees that the registry would give a layer or configuration, without reading more of it than a byte where it knows ranges.
    ///
    /// # Errors
    /// As for [`Session::blob`].
    pub async fn may_read(&self, blob: &Descriptor) -> Result<(), RegistryError> {
        let asked = self.asked(Wanted::Layer(blob.digest));
        let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-0"))]);
        let path = format!("blobs/{}", blob.digest);
        let mut patience = Patience::new(&self.inner.timeouts);
        loop {
            match self.get_once(&path, &headers).await {
                Ok(_) => return Ok(()),
                Err(failure) => {
                    patience.wait(failure).await.map_err(|failure| failure.about(&asked))?
                }
            }
        }
    }

    /// Whether anything was given out only for the caller's credentials: the image is private then.
    pub fn used_credentials(&self) -> bool {
        self.inner.used_credentials.load(Ordering::Relaxed)
    }

    pub(crate) fn asked(&self, wanted: Wanted) -> Asked {
        Asked {
            registry: self.inner.registry.clone(),
            repository: self.inner.repository.clone(),
            wanted,
            login: self.inner.login.clone(),
        }
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.inner.timeouts
    }

    async fn manifest_document(
        &self,
        asked: Asked,
        reference: &str,
        expected: Option<Digest>,
    ) -> Result<Resolved, RegistryError> {
        let mut headers = HeaderMap::new();
        if let Ok(accepted) = HeaderValue::try_from(ManifestKind::accepted()) {
            headers.insert(ACCEPT, accepted);
        }
        let path = format!("manifests/{reference}");
        let (answer, bytes) = self.document(&asked, &path, &headers, MANIFEST_LIMIT).await?;
        let digest = match expected {
            Some(digest) => check_digest(&asked, &bytes, digest).map(|()| digest)?,
            None => digest_of(&bytes),
        };
        let media_type = answer.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = parse_kind(&bytes, media_type).map_err(|flaw| about(flaw, &asked))?;
        Ok(Resolved { digest, kind, bytes, wanted: asked.wanted })
    }

    /// Gets something short whole, again from the start where it breaks off.
    async fn document(
        &self,
        asked: &Asked,
        path: &str,
        headers: &HeaderMap,
        limit: u64,
    ) -> Result<(HeaderMap, Vec<u8>), RegistryError> {
        let mut patience = Patience::new(&self.inner.timeouts);
        loop {
            match self.get_short(path, headers, limit).await {
                Ok(document) => return Ok(document),
                Err(failure) => {
                    patience.wait(failure).await.map_err(|failure| failure.about(asked))?
                }
            }
        }
    }

    /// Gets something short whole, in one try.
    pub(crate) async fn get_short(
        &self,
        path: &str,
        headers: &HeaderMap,
        limit: u64,
    ) -> Result<(HeaderMap, Vec<u8>), Failure> {
        let response = self.get_once(path, headers).await?;
        let answer = response.headers().clone();
        Ok((answer, self.inner.transport.read(response, limit).await?))
    }

    /// Sends one request, again with a better pass where the registry wants one; answers are successes.
    pub(crate) async fn get_once(
        &self,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Response, Failure> {
        let Inner { base, transport, authorizer, .. } = &*self.inner;
        let url = base
            .join(path)
            .ok()
            .filter(|url| url.as_str().starts_with(base.as_str()))
            .ok_or_else(|| Failure::NotAllowed(format!("`{path}` is no path")))?;
        let mut pass = authorizer.pass().await;
        let mut passes = 0;
        loop {
            let response = transport.get(&url, headers, pass.header.as_ref()).await?;
            let status = response.status();
            if status.is_success() {
                if pass.level == Level::Login {
                    self.inner.used_credentials.store(true, Ordering::Relaxed);
                }
                return Ok(response);
            }
            passes += 1;
            if response.url().origin() != url.origin() && matches!(status.as_u16(), 401 | 403) {
                // What another host says of the caller says nothing of what the registry wants.
                let there = brief(response.url());
                return Err(Failure::BadAnswer(format!(
                    "it sends us to {there}, which says {status}"
                )));
            }
            let better = match status.as_u16() {
                _ if passes == PASS_LIMIT => None,
                401 => authorizer.answer(transport, response.headers(), &pass).await?,
                403 => authorizer.raise(transport, &pass).await?,
                404 | 429 => match authorizer.raise(transport, &pass).await {
                    Err(Failure::NotAllowed(_)) => None, // then what nobody was told holds
                    raised => raised?,
                },
                _ => None,
            };
            match better {
                Some(better) => pass = better,
                None => {
                    let user = authorizer.user(&pass);
                    return Err(Failure::from_response(response, user, transport.idle()).await);
                }
            }
        }
    }
}

/// What is wrong with a document, said of what was asked.
fn about(flaw: Flaw, asked: &Asked) -> RegistryError {
    let asked = Box::new(asked.clone());
    match flaw {
        Flaw::Invalid(reason) => RegistryError::Invalid { asked, reason },
        Flaw::Limit(reason) => RegistryError::Limit { asked, reason },
    }
}

fn no_platform(asked: &Asked, platform: &Platform, offered: Vec<Platform>) -> RegistryError {
    RegistryError::NoPlatform {
        asked: Box::new(asked.clone()),
        platform: platform.clone(),
        offered,
    }
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

fn check_digest(asked: &Asked, bytes: &[u8], expected: Digest) -> Result<(), RegistryError> {
    let found = digest_of(bytes);
    if found == expected {
        return Ok(());
    }
    Err(RegistryError::DigestMismatch { asked: Box::new(asked.clone()), found })
}

/// The URL below which a repository's manifests and blobs are.
fn repository_url(base: &Url, repository: &str) -> Result<Url, String> {
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(format!("{base} is neither http nor https"));
    }
    if base.query().is_some() || base.fragment().is_some() || !base.username().is_empty() {
        return Err("its URL must be scheme, host, port and path alone".to_owned());
    }
    let is_part = |part: &str| {
        part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            && part.bytes().any(|b| b.is_ascii_alphanumeric())
    };
    if repository.len() > 255 || !repository.split('/').all(is_part) {
        return Err("the repository's name is malformed".to_owned());
    }
    let mut url = base.clone();
    url.set_path(&format!("{}/v2/{repository}/", base.path().trim_end_matches('/')));
    Ok(url)
}

/// How many passes one request is tried with: nobody's, anybody's, one renewed, and the caller's.
const PASS_LIMIT: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_stays_below_the_registrys_own_path() {
        let url = |base: &str, name| repository_url(&base.parse().unwrap(), name);
        assert_eq!(
            url("https://r.example", "org/app").unwrap().as_str(),
            "https://r.example/v2/org/app/"
        );
        assert_eq!(url("https://r.example/x/", "a").unwrap().as_str(), "https://r.example/x/v2/a/");
        for name in
            ["", "/", "a//b", "../a", "a/../b", ".", "A", "a?b", "a#b", "a%2fb", "a b", "a/"]
        {
            assert!(url("https://r.example", name).is_err(), "{name}");
        }
        for base in
            ["ftp://r.example", "https://u:p@r.example", "https://r.example/?q", "file:///x"]
        {
            assert!(url(base, "a").is_err(), "{base}");
        }
    }
}
