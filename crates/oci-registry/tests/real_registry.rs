//! Pulls from Debian's docker-registry: open, and with a login.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod registry;

use futures_util::TryStreamExt as _;
use image_ref::{Platform, Version};
use oci_registry::{Bytes, ManifestKind, RegistryError, Session};
use registry::{Registry, digest_of};
use serde_json::json;
use tempfile::TempDir;

fn tag(tag: &str) -> Version {
    Version::Tag(tag.into())
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

async fn read_layer(session: &Session, tag: Version) -> Vec<u8> {
    let resolved = session.resolve(&tag).await.unwrap();
    let manifest = session.manifest_for(&resolved, &platform("linux/amd64")).await.unwrap();
    let config = session.config(&manifest).await.unwrap();
    assert_eq!(config.diff_ids, [manifest.layers[0].digest]);
    assert_eq!((config.workdir.as_str(), config.env.len()), ("/w", 1));
    let chunks: Vec<Bytes> =
        session.blob(&manifest.layers[0]).await.unwrap().try_collect().await.unwrap();
    chunks.concat()
}

#[tokio::test]
async fn an_image_comes_through_whole_by_tag_and_by_digest() {
    let directory = TempDir::new().unwrap();
    let registry = Registry::start(directory.path(), "", "");
    let layer: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    let pushed = registry.push_image("org/app", "1.0", "amd64", &layer).await;
    registry.push_image("org/app", "empty", "amd64", b"").await;

    let session = registry.session("org/app", None);
    let resolved = session.resolve(&tag("1.0")).await.unwrap();
    assert_eq!(resolved.digest.to_string(), pushed["digest"].as_str().unwrap());
    assert_eq!(resolved.kind, ManifestKind::OciManifest);
    assert_eq!(digest_of(&resolved.bytes), resolved.digest);
    assert!(read_layer(&session, tag("1.0")).await == layer);
    assert!(read_layer(&session, Version::Digest(resolved.digest)).await == layer);
    assert!(read_layer(&session, tag("empty")).await.is_empty());
    assert!(!session.used_credentials());
}

#[tokio::test]
async fn an_index_leads_to_the_image_of_the_platform() {
    let directory = TempDir::new().unwrap();
    let registry = Registry::start(directory.path(), "", "");
    let mut entries = Vec::new();
    for architecture in ["arm64", "amd64"] {
        let mut entry =
            registry.push_image("app", architecture, architecture, architecture.as_bytes()).await;
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entries.push(entry);
    }
    let index = json!({
        "schemaVersion": 2, "mediaType": ManifestKind::OciIndex.media_type(), "manifests": entries,
    });
    registry.push_manifest("app", "latest", &index).await;

    let session = registry.session("app", None);
    assert_eq!(read_layer(&session, tag("latest")).await, b"amd64");
    let resolved = session.resolve(&tag("latest")).await.unwrap();
    assert_eq!(resolved.kind, ManifestKind::OciIndex);
    let error = session.manifest_for(&resolved, &platform("linux/ppc64le")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "tag latest of repository app at registry.example.org is not made for linux/ppc64le; \
         it is made for linux/arm64, linux/amd64"
    );
    // An image without an index says only in its configuration what it is for.
    let resolved = session.resolve(&tag("arm64")).await.unwrap();
    let manifest = session.manifest_for(&resolved, &platform("linux/amd64")).await.unwrap();
    let error = session.config(&manifest).await.unwrap_err();
    assert!(matches!(error, RegistryError::NoPlatform { .. }), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let directory = TempDir::new().unwrap();
    let registry = Registry::start(directory.path(), "", "");
    registry.push_image("org/app", "1.0", "amd64", b"x").await;
    let error = registry.session("org/app", None).resolve(&tag("9.9")).await.unwrap_err();
    assert_eq!(error.to_string(), "registry.example.org has no tag 9.9 in repository org/app");
    assert_eq!(error.hint().unwrap(), "its tags include 1.0");
    let error = registry.session("org/none", None).resolve(&tag("1.0")).await.unwrap_err();
    assert_eq!(error.to_string(), "registry.example.org has no repository org/none");
    let missing = Version::Digest(digest_of(b"missing"));
    let error = registry.session("org/app", None).resolve(&missing).await.unwrap_err();
    let expected = format!("has no manifest {} in repository org/app", digest_of(b"missing"));
    assert!(error.to_string().ends_with(&expected), "{error}");
}

#[tokio::test]
async fn a_login_is_shown_only_where_it_is_asked_for() {
    let directory = TempDir::new().unwrap();
    let open = Registry::start(directory.path(), "", "");
    open.push_image("org/app", "1.0", "amd64", b"private").await;
    let closed = Registry::with_login(directory.path());

    let session = closed.session("org/app", Some(("bob", "secret")));
    assert_eq!(read_layer(&session, tag("1.0")).await, b"private");
    assert!(session.used_credentials());

    let session = open.session("org/app", Some(("bob", "secret")));
    assert_eq!(read_layer(&session, tag("1.0")).await, b"private");
    assert!(!session.used_credentials());

    let error = closed.session("org/app", None).resolve(&tag("1.0")).await.unwrap_err();
    assert_eq!(error.to_string(), "registry.example.org has no public repository org/app");
    // Not the name that the site gave it: `docker login` would not know that.
    let host = format!("127.0.0.1:{}", closed.port);
    assert_eq!(
        error.hint().unwrap(),
        format!("log in with `docker login {host}` or `podman login {host}`, which imgctl reads")
    );
    let session = closed.session("org/app", Some(("bob", "wrong")));
    let error = session.resolve(&tag("1.0")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "registry.example.org does not let user bob pull from repository org/app"
    );
    assert!(!session.used_credentials());
}

#[tokio::test]
async fn a_registry_that_is_down_is_unreachable() {
    let directory = TempDir::new().unwrap();
    let registry = Registry::start(directory.path(), "", "");
    let session = registry.session("org/app", None);
    drop(registry);
    let error = session.resolve(&tag("1.0")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }));
    assert_eq!(
        error.to_string(),
        "cannot get tag 1.0 of repository org/app from registry.example.org: Connection refused (os error 111)"
    );
}
