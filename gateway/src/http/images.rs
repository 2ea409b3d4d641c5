//! Routes of images that are there.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use gateway_api::{Details, ListReply, Record, Removed, StatusReply, WhoAmI};

use super::auth::Call;
use super::error::ApiError;
use crate::app::App;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    call: Call,
) -> Result<Json<ListReply>, ApiError> {
    let list = app.images.list(&call.system, &call.caller).await?;
    Ok(Json(ListReply { list }))
}

pub(super) async fn lookup(
    State(app): State<Arc<App>>,
    call: Call,
) -> Result<Json<Record>, ApiError> {
    let reference = call.reference()?;
    Ok(Json(app.images.lookup(&call.system, &call.caller, &reference).await?))
}

pub(super) async fn inspect(
    State(app): State<Arc<App>>,
    call: Call,
) -> Result<Json<Details>, ApiError> {
    let reference = call.reference()?;
    Ok(Json(app.images.inspect(&call.system, &call.caller, &reference).await?))
}

pub(super) async fn remove(
    State(app): State<Arc<App>>,
    call: Call,
) -> Result<Json<Removed>, ApiError> {
    let reference = call.reference()?;
    Ok(Json(app.images.remove(&call.system, &call.caller, &reference).await?))
}

pub(super) async fn expire(
    State(app): State<Arc<App>>,
    call: Call,
) -> Result<Json<StatusReply>, ApiError> {
    let reference = call.reference()?;
    let status = app.images.expire(&call.system, &call.caller, &reference).await?;
    Ok(Json(StatusReply { status }))
}

pub(super) async fn whoami(call: Call) -> Json<WhoAmI> {
    let (uid, gid) = (call.caller.uid, call.caller.gid);
    Json(WhoAmI { uid, gid, admin: call.system.is_admin(uid) })
}
