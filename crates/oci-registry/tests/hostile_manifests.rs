//! Registries whose manifests lie, sprawl, or are not what they seem.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod server;

use image_ref::Version;
use oci_registry::{MANIFEST_LIMIT, Manifest, RegistryError};
use serde_json::{Value, json};
use server::{Reply, Server, Then, amd64, digest_of, manifest, manifest_reply, ok, status, tag};

/// What becomes of a pull whose every answer is this one.
async fn pull(reply: Reply) -> Result<Manifest, RegistryError> {
    let server = Server::start(move |_| reply.clone());
    let session = server.session();
    let resolved = session.resolve(&tag()).await?;
    session.manifest_for(&resolved, &amd64()).await
}

async fn pull_json(value: &Value) -> Result<Manifest, RegistryError> {
    pull(manifest_reply(value)).await
}

fn invalid(result: Result<Manifest, RegistryError>) -> String {
    match result {
        Err(RegistryError::Invalid { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

fn limit(result: Result<Manifest, RegistryError>) -> String {
    match result {
        Err(RegistryError::Limit { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_digest_is_computed_and_the_header_with_another_is_not_believed() {
    let image = manifest(1);
    let lie = digest_of(b"lie").to_string();
    let pulled = pull(manifest_reply(&image).with("docker-content-digest", lie)).await.unwrap();
    assert_eq!(pulled.digest, digest_of(image.to_string().as_bytes()));
}

#[tokio::test]
async fn another_manifest_than_the_digest_says_is_refused() {
    let image = manifest(1);
    let found = digest_of(image.to_string().as_bytes());
    let server = Server::start(move |_| manifest_reply(&image));
    let wanted = Version::Digest(digest_of(b"other"));
    let error = server.session().resolve(&wanted).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { found: f, .. } if f == found),
        "{error}"
    );

    // The same by way of an index.
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": server::OCI_MANIFEST, "digest": digest_of(b"other").to_string(), "size": 5,
        "platform": {"os": "linux", "architecture": "amd64"},
    }]});
    let server = Server::start(move |request| {
        if request.path.ends_with("/1.0") {
            ok(index.to_string()).with("content-type", "application/vnd.oci.image.index.v1+json")
        } else {
            manifest_reply(&manifest(1))
        }
    });
    let session = server.session();
    let resolved = session.resolve(&tag()).await.unwrap();
    let error = session.manifest_for(&resolved, &amd64()).await.unwrap_err();
    assert!(matches!(error, RegistryError::DigestMismatch { .. }), "{error}");
}

#[tokio::test]
async fn sizes_and_counts_are_bounded() {
    let huge = vec![b' '; 5 << 20];
    assert!(limit(pull(ok(huge.clone())).await).contains("longer than 4194304 bytes"));
    assert!(limit(pull(ok(huge).then(Then::Endless)).await).contains("longer"));
    assert!(limit(pull_json(&manifest(600)).await).contains("600 layers"));
    let mut padded = manifest(1).to_string();
    padded.push_str(&" ".repeat(MANIFEST_LIMIT as usize - padded.len()));
    assert!(pull(ok(padded).with("content-type", server::OCI_MANIFEST)).await.is_ok());
}

#[tokio::test]
async fn deep_json_is_refused() {
    let mut deep = manifest(1);
    deep["annotations"] = (0..100).fold(json!(1), |inner, _| json!([inner]));
    assert!(invalid(pull_json(&deep).await).contains("nested deeper"));
    let bomb = "[".repeat(4_000_000);
    assert!(invalid(pull(ok(bomb)).await).contains("nested deeper"));
}

#[tokio::test]
async fn layers_from_elsewhere_and_schema_1_are_refused() {
    let mut foreign = manifest(1);
    foreign["layers"][0]["urls"] = json!(["http://169.254.169.254/"]);
    assert!(invalid(pull_json(&foreign).await).contains("elsewhere"));
    let old = json!({"schemaVersion": 1, "fsLayers": []}).to_string();
    let header = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    assert!(invalid(pull(ok(old).with("content-type", header)).await).contains("schema version 1"));
}

#[tokio::test]
async fn a_login_page_is_not_taken_for_a_manifest() {
    let page = ok("<html>welcome</html>").with("content-type", "text/html");
    assert!(invalid(pull(page).await).contains("`text/html`"));
}

#[tokio::test]
async fn errors_of_the_registry_are_told_in_its_words_without_its_control_characters() {
    let body = json!({"errors": [{"code": "UNKNOWN", "message": "disk\u{1b}[31m full\n"}]});
    let error = pull(Reply { body: body.to_string().into(), ..status(500) }).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "registry.example.org gives no usable answer for tag 1.0 of repository org/app: \
         it says 500 Internal Server Error (disk [31m full)"
    );
    let unknown = json!({"errors": [{"code": "NAME_UNKNOWN"}]});
    let error = pull(Reply { body: unknown.to_string().into(), ..status(404) }).await.unwrap_err();
    assert_eq!(error.to_string(), "registry.example.org has no repository org/app");
}
