//! Routes of pulls.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use gateway_api::{PullRequest, QueueReply, Record};

use super::auth::Call;
use super::error::{ApiError, bad_request};
use crate::app::App;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    call: Call,
) -> Result<Json<QueueReply>, ApiError> {
    let list = app.pulls.list(&call.system, &call.caller).await?;
    Ok(Json(QueueReply { list }))
}

pub(super) async fn pull(
    State(app): State<Arc<App>>,
    call: Call,
) -> Result<Json<Record>, ApiError> {
    let reference = call.reference()?;
    let request = if call.body.is_empty() {
        PullRequest::default()
    } else {
        serde_json::from_slice(&call.body)
            .map_err(|why| bad_request(format!("the body is not a pull request: {why}")))?
    };
    Ok(Json(app.pulls.request(&call.system, &call.caller, &reference, &request).await?))
}
