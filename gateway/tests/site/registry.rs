//! A registry in memory that can be told to fail, to wait and to ask for a login.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde_json::json;
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<Content>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Content {
    /// By repository and tag or digest.
    manifests: HashMap<(String, String), Bytes>,
    blobs: HashMap<String, Bytes>,
    private: HashSet<String>,
    /// Repositories whose manifests and configurations anybody may read, and their layers `bob` alone.
    private_layers: HashSet<String>,
    layers: HashSet<String>,
    /// How often each blob was fetched.
    fetched: HashMap<String, usize>,
    /// Says that it has every blob, to who only looks whether it may be read.
    pretending: bool,
    resolved: usize,
    /// Layers stop in their middle while this is set.
    held: bool,
    /// Blobs have a wrong byte.
    broken: bool,
}

type Shared = Arc<Mutex<Content>>;

/// A layer: names and contents.
pub type Files<'a> = &'a [(&'a str, &'a [u8])];

impl Registry {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let state = Shared::default();
        let router = Router::new()
            .route("/v2/", get(async || StatusCode::OK))
            .route("/v2/{*rest}", get(serve).head(serve))
            .with_state(Arc::clone(&state));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { address, state, _runtime: runtime }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts an image with one layer of these files there; returns its manifest's hexadecimal digest.
    pub fn push(&self, repository: &str, tag: &str, files: Files<'_>) -> String {
        self.push_image(repository, tag, &[files])
    }

    /// Puts an image with a layer of each of these lists of files there; returns its manifest's hexadecimal digest.
    pub fn push_image(&self, repository: &str, tag: &str, layers: &[Files<'_>]) -> String {
        let tars: Vec<_> = layers.iter().map(|files| tar(files)).collect();
        let layers: Vec<_> = tars.iter().map(|tar| gzip(tar)).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
            "config": {
                "Env": ["PATH=/bin", "EVIL=1\nUSERACL: 0"], "Cmd": ["sh"], "WorkingDir": "/w", "Labels": { "l": "v" }
            },
            "rootfs": { "type": "layers", "diff_ids": tars.iter().map(|tar| digest(tar)).collect::<Vec<_>>() }
        })
        .to_string();
        self.put(repository, tag, layers, config)
    }

    fn put(&self, repository: &str, tag: &str, layers: Vec<Vec<u8>>, config: String) -> String {
        let described = layers.iter().map(|layer| {
            let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
            json!({ "mediaType": kind, "digest": digest(layer), "size": layer.len() })
        });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest(config.as_bytes()), "size": config.len()
            },
            "layers": described.collect::<Vec<_>>()
        })
        .to_string();
        let name = digest(manifest.as_bytes());
        let mut state = self.state.lock().unwrap();
        state.layers.extend(layers.iter().map(|layer| digest(layer)));
        for blob in layers.into_iter().chain([config.into_bytes()]) {
            state.blobs.insert(digest(&blob), blob.into());
        }
        for version in [tag, &name] {
            let key = (repository.to_string(), version.to_string());
            state.manifests.insert(key, manifest.clone().into());
        }
        name.trim_start_matches("sha256:").to_string()
    }

    /// Takes the manifests and configurations of another registry's repository, not its layers, which this one only
    /// says to have.
    pub fn pretend_to_have(&self, other: &Self, repository: &str) {
        let theirs = other.state.lock().unwrap();
        let mut state = self.state.lock().unwrap();
        state.pretending = true;
        let manifests = theirs.manifests.iter().filter(|((name, _), _)| name == repository);
        state.manifests.extend(manifests.map(|(key, bytes)| (key.clone(), bytes.clone())));
        let configs = theirs.blobs.iter().filter(|(name, _)| !theirs.layers.contains(*name));
        state.blobs.extend(configs.map(|(name, bytes)| (name.clone(), bytes.clone())));
    }

    /// Lets only `bob` with the password `secret` read a repository.
    pub fn make_private(&self, repository: &str) {
        self.state.lock().unwrap().private.insert(repository.to_string());
    }

    /// Lets anybody read a repository's manifests, and only `bob` its layers.
    pub fn make_layers_private(&self, repository: &str) {
        self.state.lock().unwrap().private_layers.insert(repository.to_string());
    }

    /// Stops layers in their middle, or lets them go on.
    pub fn hold(&self, held: bool) {
        self.state.lock().unwrap().held = held;
    }

    pub fn break_blobs(&self, broken: bool) {
        self.state.lock().unwrap().broken = broken;
    }

    /// The most often that a blob was fetched.
    pub fn most_fetched(&self) -> usize {
        self.state.lock().unwrap().fetched.values().copied().max().unwrap_or(0)
    }

    /// Takes the layer of these files away.
    pub fn forget(&self, files: Files<'_>) {
        self.state.lock().unwrap().blobs.remove(&digest(&gzip(&tar(files))));
    }

    /// How often the layer of these files was fetched, not counting who only looked whether it may be read.
    pub fn fetched(&self, files: Files<'_>) -> usize {
        let layer = digest(&gzip(&tar(files)));
        self.state.lock().unwrap().fetched.get(&layer).copied().unwrap_or(0)
    }

    pub fn resolved(&self) -> usize {
        self.state.lock().unwrap().resolved
    }
}

async fn serve(
    State(state): State<Shared>,
    Path(rest): Path<String>,
    headers: HeaderMap,
) -> Response {
    let (repository, kind, name) = if let Some((repository, name)) = rest.split_once("/manifests/")
    {
        (repository, "manifest", name)
    } else if let Some((repository, name)) = rest.split_once("/blobs/") {
        (repository, "blob", name)
    } else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut content = state.lock().unwrap();
    let login = headers.get("authorization").and_then(|value| value.to_str().ok());
    // "bob:secret" in base64.
    let private = content.private.contains(repository)
        || content.private_layers.contains(repository) && content.layers.contains(name);
    if private && login != Some("Basic Ym9iOnNlY3JldA==") {
        let challenge = [("www-authenticate", "Basic realm=\"test\"")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    }
    if kind == "manifest" {
        content.resolved += 1;
        let key = (repository.to_string(), name.to_string());
        return match content.manifests.get(&key) {
            Some(bytes) => ([("content-type", MANIFEST)], bytes.clone()).into_response(),
            None => {
                let error =
                    json!({ "errors": [{ "code": "MANIFEST_UNKNOWN", "message": "unknown" }] });
                (StatusCode::NOT_FOUND, error.to_string()).into_response()
            }
        };
    }
    // Who only looks whether it may be read does not download it.
    if headers.get("range").is_none_or(|range| range != "bytes=0-0") {
        *content.fetched.entry(name.to_string()).or_default() += 1;
    } else if content.pretending {
        return (StatusCode::PARTIAL_CONTENT, "x").into_response();
    }
    let Some(blob) = content.blobs.get(name).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut bytes = blob.to_vec();
    if content.broken {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    }
    let layer = content.layers.contains(name);
    drop(content);
    slowly(state, layer, bytes.into())
}

/// The first half at once, the second when nothing holds it.
fn slowly(state: Shared, layer: bool, bytes: Bytes) -> Response {
    let half = bytes.len() / 2;
    let length = bytes.len();
    let parts = stream::unfold(0, move |part| {
        let (state, bytes) = (Arc::clone(&state), bytes.clone());
        async move {
            match part {
                0 => Some((Ok::<_, std::io::Error>(bytes.slice(..half)), 1)),
                1 => {
                    while layer && state.lock().unwrap().held {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Some((Ok(bytes.slice(half..)), 2))
                }
                _ => None,
            }
        }
    });
    let headers = [
        ("content-type", "application/octet-stream".to_string()),
        ("content-length", length.to_string()),
    ];
    (headers, Body::from_stream(parts)).into_response()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn tar(files: Files<'_>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
