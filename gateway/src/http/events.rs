//! The event stream of a pull: a line of JSON for each event, an empty one now and then while nothing happens.
//!
//! The only reply without a length. It ends with the pull; when the gateway goes down it ends without a last word,
//! and the client asks again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use gateway_api::{PullEvent, Status};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::auth::Call;
use super::error::ApiError;
use crate::app::App;
use crate::pull::queue::Attempt;
use crate::service::pulls::Watch;

pub(super) async fn events(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let reference = call.reference()?;
    let body = match app.pulls.watch(&call.system, &call.caller, &reference).await? {
        Watch::Ready(event) => Body::from(line(&event)),
        Watch::Pull(attempt) => {
            let stop = app.pulls.queue().stopping().clone();
            Body::from_stream(follow_attempt(attempt, call.caller.uid, stop))
        }
    };
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// The lines about one pull or import, for this user.
pub(super) fn follow_attempt(
    attempt: Arc<Attempt>,
    uid: u32,
    stop: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    follow(Follow { events: attempt.watch(), attempt, uid, stop, over: false })
}

struct Follow {
    events: watch::Receiver<PullEvent>,
    attempt: Arc<Attempt>,
    uid: u32,
    stop: CancellationToken,
    over: bool,
}

fn follow(follow: Follow) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(follow, async |mut follow| {
        if follow.over {
            return None;
        }
        tokio::select! {
            biased;
            changed = follow.events.changed() => {
                changed.ok()?;
                let event = follow.events.borrow_and_update().clone();
                follow.over = matches!(event.status, Status::Ready | Status::Failure);
                if follow.over {
                    follow.attempt.told(follow.uid);
                }
                Some((Ok(Bytes::from(line(&event))), follow))
            }
            () = follow.stop.cancelled() => None,
            () = tokio::time::sleep(KEEP_ALIVE) => Some((Ok(Bytes::from_static(b"\n")), follow)),
        }
    })
}

fn line(event: &PullEvent) -> String {
    // Numbers, strings and enums always have a JSON form.
    let mut line = serde_json::to_string(event).unwrap_or_default();
    line.push('\n');
    line
}

/// Shorter than what proxies and clients wait for.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
