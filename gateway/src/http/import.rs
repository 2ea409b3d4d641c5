//! The route that takes a file as an image: the only one whose body is not held in memory.
//!
//! Everything that can be refused is refused before the body is asked for. What comes is written aside and hashed, and
//! compared with the digest that the credential is bound to; only then does anybody look into it. The reply is the
//! event stream of the import, and who stops reading it ends the import.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{FromRequestParts, Query, RawPathParams, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use gateway_api::{Code, ErrorBody, ImportRequest};
use image_ref::Digest;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::auth::{Head, reference_of};
use super::error::{ApiError, bad_request, of_upload, unauthenticated};
use super::events::follow_attempt;
use crate::app::App;
use crate::service::error::ServiceError;
use crate::service::imports::Reception;

pub(super) async fn import(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let params = RawPathParams::from_request_parts(&mut parts, &app)
        .await
        .map_err(|_| bad_request("the address is not UTF-8"))?;
    let Query(wishes) = Query::<ImportRequest>::try_from_uri(&parts.uri)
        .map_err(|why| bad_request(format!("the query is none of an import: {why}")))?;
    let head = Head::read(&app, &parts, &params).await?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let expected = head
        .payload
        .check_head(parts.method.as_str(), path)
        .map_err(|why| unauthenticated(why.to_string()))?
        .ok_or_else(|| {
            unauthenticated("the MUNGE credential is not bound to this request")
                .with_hint("an import needs a credential as `imgctl import` makes it")
        })?;
    let caller = head.caller(true);
    let reference = reference_of(&params)?;
    let size =
        parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let size: u64 =
        size.ok_or_else(|| bad_request("the request does not say how long its body is"))?;
    let reception = app.imports.begin(&head.system, &caller, &reference, &wishes, size).await?;
    // However slowly it comes: what lies aside takes room from others.
    let patience = GRACE + Duration::from_secs(size / LEAST_RATE);
    let receiving = receive(reception, body, size, expected);
    let reception = tokio::time::timeout(patience, receiving).await.unwrap_or_else(|_| {
        let seconds = patience.as_secs();
        Err(bad_request(format!("the file did not come whole within {seconds} s")).into())
    })?;

    let given_up = CancellationToken::new();
    let attempt = app.imports.run(reception, given_up.clone())?;
    let given_up = given_up.drop_guard();
    let stop = app.imports.stopping().clone();
    // The guard goes with the stream, whether that came to its end or its reader went away.
    let events = follow_attempt(attempt, caller.uid, stop).map(move |event| {
        let _ = &given_up;
        event
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(events)).into_response())
}

/// Writes the body aside and sees that it is what was announced.
async fn receive(
    reception: Reception,
    body: Body,
    size: u64,
    expected: Digest,
) -> Result<Reception, ApiError> {
    let mut sink = Sink { reception, hash: Sha256::new(), taken: 0 };
    let mut body = body.into_data_stream();
    while let Some(chunk) = next_chunk(&mut body).await? {
        // The server holds the body to its length; this counts on nobody.
        if size - sink.taken < chunk.len() as u64 {
            return Err(bad_request("the file is longer than the request says").into());
        }
        let (back, written) = tokio::task::spawn_blocking(move || {
            let written = sink.write(&chunk);
            (sink, written)
        })
        .await
        .map_err(|error| ApiError::from(ServiceError::from(error)))?;
        sink = back;
        if let Err(error) = written {
            let answer = of_upload(&error);
            // A client that is still sending would not see the answer. It is not listened to for ever.
            let rest = async { while let Ok(Some(_)) = next_chunk(&mut body).await {} };
            let _ = tokio::time::timeout(DRAIN, rest).await;
            return Err(answer.into());
        }
    }
    let found = Digest::from_bytes(sink.hash.finalize().into());
    if sink.taken != size || found != expected {
        let why = "the file that came is not the one that was announced";
        return Err(ErrorBody::new(Code::DigestMismatch, why)
            .with_hint("it may have changed while it was sent; import it again")
            .into());
    }
    Ok(sink.reception)
}

async fn next_chunk(body: &mut BodyDataStream) -> Result<Option<Bytes>, ApiError> {
    match tokio::time::timeout(BODY_IDLE, body.next()).await {
        Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
        Ok(Some(Err(_))) => Err(bad_request("the file broke off").into()),
        Ok(None) => Ok(None),
        Err(_) => {
            let seconds = BODY_IDLE.as_secs();
            Err(bad_request(format!("nothing came of the file for {seconds} s")).into())
        }
    }
}

/// Where the body goes.
struct Sink {
    reception: Reception,
    hash: Sha256,
    taken: u64,
}

impl Sink {
    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.hash.update(chunk);
        self.taken += chunk.len() as u64;
        self.reception.upload().file().write_all(chunk)
    }
}

/// How long a client may be silent in the middle of its file.
const BODY_IDLE: Duration = Duration::from_secs(60);

/// How long a file may take beside what it takes at the least rate.
const GRACE: Duration = Duration::from_secs(300);

/// Bytes per second that a client has to send on the whole.
const LEAST_RATE: u64 = 256 << 10;

/// How long the rest of a file is taken that nobody has room for.
const DRAIN: Duration = Duration::from_secs(60);
