//! Is the gateway well, and which one is it: the two routes that need no credential.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use munge::Context;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::app::App;
use crate::pull::error::chain;
use crate::system::System;

/// The state of everything that the gateway needs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Health {
    /// Whether everything is well.
    ok: bool,
    /// One entry for each part.
    parts: Vec<Part>,
}

#[derive(Clone, Debug, Serialize)]
struct Part {
    name: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Part {
    fn new(name: String, result: Result<(), String>) -> Self {
        Self { name, ok: result.is_ok(), why: result.err() }
    }
}

/// The latest check: anybody may ask, so that asking often must cost nothing.
#[derive(Debug, Default)]
pub(crate) struct HealthCache(Mutex<Option<(Instant, Health)>>);

pub(super) async fn health(State(app): State<Arc<App>>) -> (StatusCode, Json<Health>) {
    let mut cached = app.health.0.lock().await;
    let health = match &*cached {
        Some((since, health)) if since.elapsed() < CHECK_KEPT => health.clone(),
        _ => {
            let health = check(&app).await;
            *cached = Some((Instant::now(), health.clone()));
            health
        }
    };
    let status = if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health))
}

async fn check(app: &App) -> Health {
    let store = match tokio::time::timeout(CHECK_TIMEOUT, app.store.check()).await {
        Ok(result) => result.map_err(|error| chain(&error)),
        Err(_) => Err(no_answer()),
    };
    let mut parts = vec![Part::new("store".into(), store)];
    for system in app.systems.values() {
        let dir = Arc::clone(&system.dir);
        let dir = within_deadline(move || dir.check().map_err(|error| chain(&error))).await;
        parts.push(Part::new(format!("image directory of {}", system.name), dir));
        let munged = check_munged(system).await;
        parts.push(Part::new(format!("munged of {}", system.name), munged));
    }
    parts.sort_by(|a, b| a.name.cmp(&b.name));
    Health { ok: parts.iter().all(|part| part.ok), parts }
}

/// A munged that makes a credential is there.
async fn check_munged(system: &System) -> Result<(), String> {
    let socket = system.munge_socket.clone();
    within_deadline(move || {
        let encode = || {
            let context = Context::new()?;
            let context = match socket {
                Some(socket) => context.with_socket(&socket)?,
                None => context,
            };
            context.encode(b"").map(drop)
        };
        encode().map_err(|error: munge::MungeError| error.to_string())
    })
    .await
}

async fn within_deadline(
    work: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    match tokio::time::timeout(CHECK_TIMEOUT, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("the check failed".into()),
        Err(_) => Err(no_answer()),
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", CHECK_TIMEOUT.as_secs())
}

/// Which program answers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Version {
    name: &'static str,
    version: &'static str,
}

pub(super) async fn version() -> Json<Version> {
    Json(Version { name: "gantry", version: env!("CARGO_PKG_VERSION") })
}

const CHECK_KEPT: Duration = Duration::from_secs(5);
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
