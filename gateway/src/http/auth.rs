//! Who is calling: the MUNGE credential of a request, decoded, and checked against the request it came with.
//!
//! Identity comes from here and from nowhere else: no header, no body, no address ever adds to it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use gateway_api::{AUTHENTICATION_HEADER, Code, ErrorBody, Payload};
use image_ref::{ImageRef, Kind};
use munge::{Context, Decoded, MungeError};

use super::error::{ApiError, bad_request, of_munge, unauthenticated};
use super::request_log::CallerSlot;
use crate::app::App;
use crate::config::SystemName;
use crate::credentials::Logins;
use crate::service::access::Caller;
use crate::service::error::ServiceError;
use crate::system::System;

/// A request of a known caller about a known system.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) system: Arc<System>,
    pub(super) caller: Caller,
    pub(super) body: Bytes,
    kind: Option<String>,
    tag: Option<String>,
}

impl Call {
    /// The reference that the path names.
    pub(super) fn reference(&self) -> Result<ImageRef, ApiError> {
        parse_reference(
            self.kind.as_deref().unwrap_or_default(),
            self.tag.as_deref().unwrap_or_default(),
        )
    }
}

/// The reference that a path names.
pub(super) fn reference_of(params: &RawPathParams) -> Result<ImageRef, ApiError> {
    parse_reference(
        &param(params, "kind").unwrap_or_default(),
        &param(params, "tag").unwrap_or_default(),
    )
}

fn parse_reference(kind: &str, tag: &str) -> Result<ImageRef, ApiError> {
    let tag = tag.strip_suffix('/').unwrap_or(tag);
    let known = [Kind::Docker, Kind::Custom, Kind::Id].iter().any(|k| k.as_str() == kind);
    if !known {
        let why = format!("there is no kind of image called `{}`", kind.escape_debug());
        return Err(bad_request(why).into());
    }
    let text = format!("{kind}:{tag}");
    text.parse().map_err(|why| ServiceError::Reference { text, why }.into())
}

fn param(params: &RawPathParams, wanted: &str) -> Option<String> {
    params.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_string())
}

/// What a request says before its body: who calls about which system. Not yet compared with the request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) system: Arc<System>,
    pub(super) payload: Payload,
    uid: u32,
    gid: u32,
}

impl Head {
    pub(super) async fn read(
        app: &App,
        parts: &Parts,
        params: &RawPathParams,
    ) -> Result<Self, ApiError> {
        let system = find_system(app, param(params, "system").unwrap_or_default())?;
        let credential = credential(&parts.headers)?;
        let decoded = decode(&system, credential).await.map_err(|error| of_munge(&error))?;
        if let Some(slot) = parts.extensions.get::<CallerSlot>() {
            slot.set(decoded.uid);
        }
        let payload = Payload::from_bytes(&decoded.payload)
            .map_err(|why| unauthenticated(why.to_string()))?;
        Ok(Self { system, payload, uid: decoded.uid, gid: decoded.gid })
    }

    /// The caller, once it was seen whether the credential is `bound` to the request.
    pub(super) fn caller(&self, bound: bool) -> Caller {
        let logins = Logins::new(self.payload.authorized_locations.clone());
        Caller { uid: self.uid, gid: self.gid, logins, bound }
    }
}

impl FromRequest<Arc<App>> for Call {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let params = RawPathParams::from_request_parts(&mut parts, app)
            .await
            .map_err(|_| bad_request("the address is not UTF-8"))?;
        let head = Head::read(app, &parts, &params).await?;
        let read = axum::body::to_bytes(body, BODY_LIMIT);
        let body = match tokio::time::timeout(BODY_TIMEOUT, read).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => {
                return Err(bad_request(format!(
                    "the body exceeds {BODY_LIMIT} bytes or breaks off"
                ))
                .into());
            }
            Err(_) => return Err(bad_request("the body does not come").into()),
        };
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let bound = check_binding(app, &head.payload, parts.method.as_str(), path, &body)?;
        let (kind, tag) = (param(&params, "kind"), param(&params, "tag"));
        Ok(Self { caller: head.caller(bound), system: head.system, body, kind, tag })
    }
}

fn find_system(app: &App, name: String) -> Result<Arc<System>, ApiError> {
    let unknown = |name: &str| {
        ErrorBody::new(
            Code::UnknownSystem,
            format!("this gateway does not serve the system `{}`", name.escape_debug()),
        )
    };
    let Ok(name) = SystemName::try_from(name.clone()) else { return Err(unknown(&name).into()) };
    app.systems.get(&name).cloned().ok_or_else(|| unknown(name.as_str()).into())
}

fn credential(headers: &HeaderMap) -> Result<String, ApiError> {
    let mut values = headers.get_all(AUTHENTICATION_HEADER).iter();
    let missing = || {
        unauthenticated("the request has no MUNGE credential")
            .with_hint("send one in the header `authentication`, as imgctl does")
    };
    let value = values.next().ok_or_else(missing)?;
    if values.next().is_some() {
        return Err(unauthenticated("the request has more than one MUNGE credential").into());
    }
    let text = value.to_str().map_err(|_| unauthenticated("this is not a MUNGE credential"))?;
    Ok(text.trim().to_string())
}

/// Asks the system's munged. That call blocks, so that it runs on a blocking thread, with a deadline.
async fn decode(system: &System, credential: String) -> Result<Decoded, MungeError> {
    let socket = system.munge_socket.clone();
    let work = tokio::task::spawn_blocking(move || {
        let context = Context::new()?;
        let context = match socket {
            Some(socket) => context.with_socket(&socket)?,
            None => context,
        };
        context.decode(&credential)
    });
    match tokio::time::timeout(DECODE_TIMEOUT, work).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(MungeError::Internal { text: "the thread that asked it failed".into() }),
        Err(_) => Err(MungeError::Internal {
            text: format!("it did not answer within {} s", DECODE_TIMEOUT.as_secs()),
        }),
    }
}

fn check_binding(
    app: &App,
    payload: &Payload,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<bool, ApiError> {
    let bound =
        payload.check(method, path, body).map_err(|why| unauthenticated(why.to_string()))?;
    if !bound && !app.accept_unbound {
        return Err(unauthenticated("the MUNGE credential is not bound to this request")
            .with_hint("this site takes only the credentials of Gantry's own clients")
            .into());
    }
    Ok(bound)
}

/// More than any request has; access lists are the longest.
const BODY_LIMIT: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const DECODE_TIMEOUT: Duration = Duration::from_secs(10);
