//! Around every request: a number for the log, the log line, the body of an error, and a net under panics.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use gateway_api::{Code, ErrorBody};
use tracing::{debug, info, warn};

use super::error::ApiError;

/// Where authentication leaves the caller for the log.
#[derive(Clone, Debug, Default)]
pub(super) struct CallerSlot(Arc<OnceLock<u32>>);

impl CallerSlot {
    pub(super) fn set(&self, uid: u32) {
        // One request has one caller.
        let _ = self.0.set(uid);
    }
}

/// The middleware.
pub(super) async fn around(mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = format!("{:x}-{:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let caller = CallerSlot::default();
    request.extensions_mut().insert(caller.clone());
    let method = request.method().clone();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_string();
    let host =
        request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let url = format!("http://{host}{path}");

    let handled = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = handled.unwrap_or_else(|_| {
        let body = ErrorBody::new(Code::Internal, "the gateway failed")
            .with_hint("tell the administrators; the gateway's log says more");
        ApiError::from(body).into_response()
    });
    let failure = response.extensions_mut().remove::<ApiError>();
    if let Some(ApiError(body)) = &failure {
        response = write(body.clone(), &url);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }

    let status = response.status().as_u16();
    let uid = caller.0.get().copied();
    let duration_ms = began.elapsed().as_millis() as u64;
    match failure {
        Some(ApiError(body)) if status >= 500 => {
            warn!(request.id = %id, caller.uid = uid, status, duration_ms, "{method} {path:?}: {}", body.error.escape_debug());
        }
        Some(ApiError(body)) => {
            info!(request.id = %id, caller.uid = uid, status, duration_ms, "{method} {path:?}: {}", body.error.escape_debug());
        }
        None => {
            debug!(request.id = %id, caller.uid = uid, status, duration_ms, "{method} {path:?}")
        }
    }
    response
}

fn write(mut body: ErrorBody, url: &str) -> Response {
    let status = StatusCode::from_u16(body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let reason = status.canonical_reason().unwrap_or("Error");
    body.message = format!("{reason}: {url}");
    (status, Json(body)).into_response()
}

static NEXT: AtomicU64 = AtomicU64::new(1);
