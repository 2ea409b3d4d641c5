//! The event stream of a pull: one JSON object a line, until the pull is over or the connection breaks.

use super::ClientError;
use super::error::reason;
use gateway_api::PullEvent;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use ureq::{Body, BodyReader};

/// Reads events as they come. Ends where the gateway ends the stream; an error is the last item.
pub struct Events {
    gateway: String,
    reader: BufReader<BodyReader<'static>>,
    over: bool,
}

impl Events {
    pub(super) fn new(gateway: String, body: Body) -> Self {
        // A pull may take hours: not the stream is limited, each line is.
        let reader = body.into_with_config().limit(u64::MAX).reader();
        Self { gateway, reader: BufReader::new(reader), over: false }
    }

    fn read_event(&mut self) -> Result<Option<PullEvent>, ClientError> {
        let broken = |why: String| ClientError::Broken { gateway: self.gateway.clone(), why };
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = (&mut self.reader).take(LINE_LIMIT);
            bounded.read_until(b'\n', &mut line).map_err(|error| broken(reason(&error)))?;
            if line.is_empty() {
                return Ok(None);
            }
            if line.last() != Some(&b'\n') {
                return Err(broken("an event is cut short".to_string()));
            }
            // Empty lines keep the connection alive.
            if !line.trim_ascii().is_empty() {
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| broken(reason(&error)));
            }
        }
    }
}

impl Iterator for Events {
    type Item = Result<PullEvent, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let event = self.read_event().transpose();
        self.over = !matches!(event, Some(Ok(_)));
        event
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// An event with the most layers that the gateway takes (512) has about 80 kB.
const LINE_LIMIT: u64 = 1 << 20;
