//! Manifests as they are, and as somebody hostile would write them.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn digest(fill: char) -> String {
    format!("sha256:{}", fill.to_string().repeat(64))
}

fn layer() -> Value {
    json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest('b'), "size": 7})
}

fn manifest() -> Value {
    json!({
        "schemaVersion": 2, "mediaType": OCI,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest('a'), "size": 5},
        "layers": [layer(), {"mediaType": "application/vnd.docker.image.rootfs.diff.tar", "digest": digest('c'),
            "size": 9, "urls": []}],
        "annotations": {"a": "b"},
    })
}

fn parse(value: &Value) -> Result<Manifest, Flaw> {
    let platform = "linux/amd64".parse().unwrap();
    parse_manifest(value.to_string().as_bytes(), Digest::from_bytes([1; 32]), &platform)
}

fn kind(value: &Value, header: Option<&str>) -> Result<ManifestKind, Flaw> {
    parse_kind(value.to_string().as_bytes(), header)
}

fn invalid<T: std::fmt::Debug>(result: Result<T, Flaw>) -> String {
    match result {
        Err(Flaw::Invalid(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

fn limit<T: std::fmt::Debug>(result: Result<T, Flaw>) -> String {
    match result {
        Err(Flaw::Limit(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// The manifest with one place changed; `path` as in RFC 6901.
fn with(path: &str, value: Value) -> Value {
    let mut changed = manifest();
    *changed.pointer_mut(path).unwrap() = value;
    changed
}

#[test]
fn configuration_and_layers_are_read_in_their_order() {
    let manifest = parse(&manifest()).unwrap();
    assert_eq!(manifest.config.digest.to_string(), digest('a'));
    let layers: Vec<_> =
        manifest.layers.iter().map(|l| (l.digest.to_string(), l.size, l.compression)).collect();
    assert_eq!(
        layers,
        [(digest('b'), 7, LayerCompression::Gzip), (digest('c'), 9, LayerCompression::None)]
    );
    assert_eq!(manifest.layer_bytes(), 16);
}

#[test]
fn header_and_body_must_name_the_same_media_type() {
    assert_eq!(kind(&manifest(), Some(OCI)), Ok(ManifestKind::OciManifest));
    assert_eq!(kind(&manifest(), None), Ok(ManifestKind::OciManifest));
    let mut silent = manifest();
    silent.as_object_mut().unwrap().remove("mediaType");
    assert_eq!(kind(&silent, Some(DOCKER)), Ok(ManifestKind::DockerManifest));
    assert!(invalid(kind(&silent, None)).contains("nothing says"));
    assert!(invalid(kind(&manifest(), Some(DOCKER))).contains("calls itself"));
    assert!(invalid(kind(&manifest(), Some("text/html"))).contains("`text/html`"));
}

#[test]
fn a_document_that_is_manifest_and_index_at_once_is_refused() {
    let mut both = manifest();
    both["manifests"] = json!([]);
    assert!(invalid(kind(&both, Some(OCI))).contains("at once"));
    both["mediaType"] = json!(INDEX);
    assert!(invalid(kind(&both, Some(INDEX))).contains("at once"));
}

#[test]
fn schema_1_is_refused_by_name() {
    let old =
        json!({"schemaVersion": 1, "name": "a", "fsLayers": [], "history": [], "signatures": []});
    let header = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    assert!(invalid(kind(&old, Some(header))).contains("schema version 1"));
    assert!(invalid(kind(&old, Some(OCI))).contains("schema version 1"));
    assert!(invalid(kind(&json!({"schemaVersion": 3}), Some(OCI))).contains("schema version 3"));
}

#[test]
fn layers_from_elsewhere_are_refused() {
    let urls = json!(["https://example.org/x"]);
    let mut layer = layer();
    layer["urls"] = urls.clone();
    assert!(invalid(parse(&with("/layers/0", layer))).contains("elsewhere"));
    let mut config = manifest()["config"].clone();
    config["urls"] = urls;
    assert!(invalid(parse(&with("/config", config))).contains("elsewhere"));
    let foreign = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    assert!(invalid(parse(&with("/layers/0/mediaType", foreign))).contains("elsewhere"));
}

#[test]
fn what_is_no_container_image_is_refused() {
    let helm = json!("application/vnd.cncf.helm.config.v1+json");
    assert!(invalid(parse(&with("/config/mediaType", helm))).contains("no container image"));
    let odd = json!("application/x-tar");
    assert!(invalid(parse(&with("/layers/1/mediaType", odd))).contains("`application/x-tar`"));
}

#[test]
fn limits_hold() {
    let layers = |count: usize| with("/layers", Value::Array(vec![layer(); count]));
    assert_eq!(parse(&layers(LAYER_LIMIT)).unwrap().layers.len(), LAYER_LIMIT);
    assert!(limit(parse(&layers(LAYER_LIMIT + 1))).contains("513 layers"));
    assert!(limit(parse(&with("/config/size", json!(CONFIG_LIMIT + 1)))).contains("configuration"));
    assert!(limit(parse(&with("/layers/0/size", json!(u64::MAX)))).contains("bytes"));
}

#[test]
fn malformed_fields_are_refused() {
    for (path, value) in [
        ("/layers/0/digest", json!("sha512:abc")),
        ("/layers/0/digest", json!("sha256:../../etc/passwd")),
        ("/layers/0/size", json!(-1)),
        ("/layers/0/size", json!(1.5)),
        ("/layers/0/size", json!("7")),
        ("/layers/0", json!(null)),
        ("/layers", json!({})),
        ("/config", json!([])),
    ] {
        invalid(parse(&with(path, value)));
    }
    for text in ["", "null", "[]", "{", "{\"schemaVersion\":2}", "\u{feff}{}"] {
        let platform = "linux/amd64".parse().unwrap();
        invalid(parse_manifest(text.as_bytes(), Digest::from_bytes([1; 32]), &platform));
    }
    let twice =
        format!("{{\"config\":{0},\"layers\":[],\"layers\":[{1}]}}", manifest()["config"], layer());
    let platform = "linux/amd64".parse().unwrap();
    let error = invalid(parse_manifest(twice.as_bytes(), Digest::from_bytes([1; 32]), &platform));
    assert!(error.contains("duplicate"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2500))]

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let platform = "linux/amd64".parse().unwrap();
        let _ = parse_kind(&bytes, Some(OCI));
        let _ = parse_manifest(&bytes, Digest::from_bytes([1; 32]), &platform);
    }

    #[test]
    fn a_changed_byte_never_makes_an_image_of_another_digest(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let platform = "linux/amd64".parse().unwrap();
        let mut bytes = manifest().to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(parsed) = parse_manifest(&bytes, Digest::from_bytes([1; 32]), &platform) {
            prop_assert!(parsed.layers.len() <= 2);
        }
    }
}
