//! What goes wrong inside a request, before it is known what the request was for.

use crate::address::RefusedAddress;
use crate::{Asked, RegistryError, Wanted};
use reqwest::{Response, StatusCode, header};
use serde::Deserialize;
use std::error::Error;
use std::time::{Duration, SystemTime};

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The network or the other side gave up.
    Network {
        reason: String,
        /// Whether another try may end better.
        temporary: bool,
    },
    /// It would have led where requests must not go.
    NotAllowed(String),
    /// The other side answered with an error.
    Status(Refusal),
    /// The answer makes no sense.
    BadAnswer(String),
    /// The answer is longer than anything we want.
    TooLong { limit: u64 },
}

/// An answer with an error status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// The registry's own word for the error, such as `MANIFEST_UNKNOWN`.
    pub(crate) code: Option<String>,
    /// What the registry says in prose.
    pub(crate) message: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    /// The user whose credentials went with the request.
    pub(crate) user: Option<String>,
}

impl Failure {
    /// A broken connection or silence: another try may end better.
    pub(crate) fn interrupted(reason: impl Into<String>) -> Self {
        Self::Network { reason: reason.into(), temporary: true }
    }

    /// Nothing came for too long.
    pub(crate) fn silence(idle: Duration) -> Self {
        Self::interrupted(format!("nothing came for {} s", idle.as_secs_f32()))
    }

    /// What reqwest says, in the words of the error at the bottom of it.
    pub(crate) fn from_reqwest(error: &reqwest::Error) -> Self {
        let mut deepest: &dyn Error = error;
        while let Some(source) = deepest.source() {
            if let Some(refused) = source.downcast_ref::<RefusedAddress>() {
                return Self::NotAllowed(refused.to_string());
            }
            deepest = source;
        }
        let reason = if error.is_timeout() {
            "connecting takes too long".to_owned()
        } else if error.is_dns() {
            let host = error.url().and_then(|url| url.host_str()).unwrap_or_default();
            format!("host {host} is not known ({})", printable(&deepest.to_string()))
        } else {
            printable(&deepest.to_string())
        };
        Self::Network { reason, temporary: !error.is_dns() && !error.is_builder() }
    }

    /// Reads what an error answer says; `idle` bounds how long that may take.
    pub(crate) async fn from_response(
        mut response: Response,
        user: Option<&str>,
        idle: Duration,
    ) -> Self {
        let status = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| parse_retry_after(value.to_str().ok()?, SystemTime::now()));
        let mut body = Vec::new();
        while let Ok(Ok(Some(chunk))) = tokio::time::timeout(idle, response.chunk()).await {
            body.extend_from_slice(&chunk);
            if body.len() > ERROR_BODY_LIMIT {
                body.clear();
                break;
            }
        }
        let said = serde_json::from_slice::<ErrorBody>(&body).unwrap_or_default();
        let first = said.errors.into_iter().next().unwrap_or_default();
        let word = |text: Option<String>| text.map(|t| printable(&t)).filter(|t| !t.is_empty());
        Self::Status(Refusal {
            status,
            code: word(first.code),
            message: word(first.message),
            retry_after,
            user: user.map(str::to_owned),
        })
    }

    /// Whether another try may end better.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Network { temporary, .. } => *temporary,
            Self::Status(refusal) => {
                matches!(refusal.status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
            }
            Self::NotAllowed(_) | Self::BadAnswer(_) | Self::TooLong { .. } => false,
        }
    }

    /// When the other side wants to be asked again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// The error for whoever asked.
    pub(crate) fn about(self, asked: &Asked) -> RegistryError {
        let asked = Box::new(asked.clone());
        match self {
            Self::Network { reason, .. } => RegistryError::Unreachable { asked, reason },
            Self::NotAllowed(reason) => RegistryError::NotAllowed { asked, reason },
            Self::BadAnswer(reason) => RegistryError::BadAnswer { asked, reason },
            Self::TooLong { .. } => RegistryError::Limit { asked, reason: self.to_string() },
            Self::Status(refusal) => refusal.about(asked),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network { reason, .. } | Self::NotAllowed(reason) | Self::BadAnswer(reason) => {
                f.write_str(reason)
            }
            Self::TooLong { limit } => write!(f, "it is longer than {limit} bytes"),
            Self::Status(refusal) => match &refusal.message {
                Some(message) => write!(f, "it says {} ({message})", refusal.status),
                None => write!(f, "it says {}", refusal.status),
            },
        }
    }
}

impl Refusal {
    /// Whether it is the caller, or the lack of one, that is refused.
    pub(crate) fn is_about_caller(&self) -> bool {
        matches!(self.status.as_u16(), 401 | 403)
    }

    fn about(self, asked: Box<Asked>) -> RegistryError {
        match self.status.as_u16() {
            401 | 403 => RegistryError::Unauthorized { asked, user: self.user },
            404 if self.code.as_deref() == Some("NAME_UNKNOWN")
                && !matches!(asked.wanted, Wanted::Layer(_) | Wanted::Config(_)) =>
            {
                RegistryError::NoRepository { asked }
            }
            404 => RegistryError::NotFound { asked, similar: Vec::new() },
            429 | 503 => RegistryError::Busy { asked, retry_after: self.retry_after },
            _ => RegistryError::BadAnswer { asked, reason: Failure::Status(self).to_string() },
        }
    }
}

/// `Retry-After` as seconds or as a date (RFC 9110, section 10.2.3).
fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The first 200 characters of a stranger's text, without those that could play tricks on a terminal or a log.
pub(crate) fn printable(text: &str) -> String {
    let mut clean: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_LIMIT).collect();
    clean.truncate(clean.trim_end().len());
    clean
}

/// The body of an error answer (OCI distribution specification, "Error Codes").
#[derive(Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorItem>,
}

#[derive(Default, Deserialize)]
struct ErrorItem {
    code: Option<String>,
    message: Option<String>,
}

const ERROR_BODY_LIMIT: usize = 64 << 10;
const TEXT_LIMIT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_as_seconds_or_as_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:30 GMT").unwrap();
        let parse = |text| parse_retry_after(text, now);
        assert_eq!(parse("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:20 GMT"), Some(Duration::ZERO));
        assert_eq!(parse("-1"), None);
        assert_eq!(parse("soon"), None);
        assert_eq!(parse("99999999999999999999999"), None);
    }

    #[test]
    fn a_strangers_text_is_cut_and_cleaned() {
        assert_eq!(printable("a\x1b[31mb\r\nc\n"), "a [31mb  c");
        assert_eq!(printable(&"x".repeat(5_000)).len(), TEXT_LIMIT);
    }
}
