//! All routes.
//!
//! Shifter's and Gantry's alike answer with and without a slash at the end; a reference may have its slashes plain
//! or percent-encoded.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{MethodRouter, delete, get, post};

use super::error::{ApiError, no_route, wrong_method};
use super::{events, health, images, import, queue, request_log};
use crate::app::App;

/// The router over everything.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new().route("/", get(async || "{lookup,pull,expire,list}"));
    let open: [(&str, MethodRouter<Arc<App>>); 2] =
        [("health", get(health::health)), ("version", get(health::version))];
    let of_system: [(&str, MethodRouter<Arc<App>>); 3] =
        [("list", get(images::list)), ("queue", get(queue::list)), ("whoami", get(images::whoami))];
    let of_image: [(&str, MethodRouter<Arc<App>>); 7] = [
        ("lookup", get(images::lookup)),
        ("inspect", get(images::inspect)),
        ("expire", get(images::expire)),
        ("image", delete(images::remove)),
        ("pull", post(queue::pull)),
        ("import", post(import::import)),
        ("events", get(events::events)),
    ];
    for (verb, handler) in open {
        router = both(router, &format!("/api/{verb}"), handler);
    }
    for (verb, handler) in of_system {
        router = both(router, &format!("/api/{verb}/{{system}}"), handler);
    }
    for (verb, handler) in of_image {
        // The rest of the path takes a slash at its end along; `Call` takes it off.
        router = router.route(&format!("/api/{verb}/{{system}}/{{kind}}/{{*tag}}"), handler);
    }
    router
        .fallback(async || ApiError::from(no_route()))
        .method_not_allowed_fallback(async || ApiError::from(wrong_method()))
        .layer(from_fn(request_log::around))
        .with_state(app)
}

fn both(router: Router<Arc<App>>, path: &str, handler: MethodRouter<Arc<App>>) -> Router<Arc<App>> {
    router.route(path, handler.clone()).route(&format!("{path}/"), handler)
}
