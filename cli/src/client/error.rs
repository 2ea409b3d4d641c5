//! What can stand between a command and the gateway's decision, in sentences for the person who typed.

use crate::exit::{Exit, Failure};
use gateway_api::{Code, ErrorBody};
use munge::MungeError;
use serde::Deserialize;
use std::time::Duration;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// udiRoot.conf lacks what is needed to find the gateway.
    #[error("`{key}` is not set in {conf}")]
    NotConfigured {
        /// The key.
        key: &'static str,
        /// The file.
        conf: String,
    },
    /// The configured URL is not one.
    #[error("`{url}` is not the URL of an image gateway")]
    BadUrl {
        /// As configured.
        url: String,
    },
    /// No credential could be made.
    #[error("no MUNGE credential could be made")]
    Munge(#[source] MungeError),
    /// Nobody listens there, or the host does not exist.
    #[error("the image gateway at {gateway} is down ({why})")]
    Down {
        /// Its URL.
        gateway: String,
        /// In words.
        why: String,
    },
    /// Somebody listens and says nothing.
    #[error("the image gateway at {gateway} does not answer (waited {} s)", waited.as_secs())]
    Silent {
        /// Its URL.
        gateway: String,
        /// How long it was given.
        waited: Duration,
    },
    /// The answer broke off.
    #[error("the image gateway at {gateway} broke off its answer ({why})")]
    Broken {
        /// Its URL.
        gateway: String,
        /// In words.
        why: String,
    },
    /// The answer is not one of a gateway.
    #[error(
        "what answers at {gateway} is no image gateway of this version (status {status}, {what})"
    )]
    Nonsense {
        /// Its URL.
        gateway: String,
        /// The HTTP status.
        status: u16,
        /// What is wrong with the body.
        what: String,
    },
    /// The gateway decided against it.
    #[error("{}", .0.error)]
    Refused(Box<ErrorBody>),
    /// Several gateways are configured and none answers.
    #[error("none of {} image gateways answers: {}", .0.len(), join(.0))]
    NoneAnswers(Vec<ClientError>),
}

impl ClientError {
    /// Sorts what the HTTP library says.
    pub(super) fn transport(gateway: &str, error: ureq::Error, timeout: Duration) -> Self {
        use ureq::Timeout;
        let gateway = gateway.to_string();
        match error {
            ureq::Error::Timeout(Timeout::Resolve) => {
                Self::Down { gateway, why: "its name cannot be resolved in time".into() }
            }
            ureq::Error::Timeout(Timeout::Connect) => {
                Self::Down { gateway, why: "connecting takes too long".into() }
            }
            ureq::Error::Timeout(_) => Self::Silent { gateway, waited: timeout },
            ureq::Error::HostNotFound => {
                Self::Down { gateway, why: "its name is not known".into() }
            }
            ureq::Error::ConnectionFailed => {
                Self::Down { gateway, why: "no connection can be made".into() }
            }
            ureq::Error::Io(error) => Self::io(gateway, &error, timeout),
            other => Self::Broken { gateway, why: reason(&other) },
        }
    }

    /// Sorts what the kernel says.
    pub(super) fn io(gateway: String, error: &std::io::Error, timeout: Duration) -> Self {
        use std::io::ErrorKind as Kind;
        match error.kind() {
            Kind::TimedOut | Kind::WouldBlock => Self::Silent { gateway, waited: timeout },
            Kind::ConnectionRefused | Kind::HostUnreachable | Kind::NetworkUnreachable => {
                Self::Down { gateway, why: reason(error) }
            }
            // getaddrinfo(3) says it in words only.
            _ if error.to_string().contains("address information") => {
                Self::Down { gateway, why: "its name is not known".into() }
            }
            _ => Self::Broken { gateway, why: reason(error) },
        }
    }

    /// A reply that is not a success: the gateway's own error, Shifter's, or neither.
    pub(super) fn refused(gateway: String, status: u16, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Loose {
            error: Option<String>,
            code: Option<Code>,
            hint: Option<String>,
            #[serde(default)]
            logins: Vec<String>,
        }
        if let Ok(Loose { error: Some(error), code, hint, logins }) = serde_json::from_slice(body) {
            let code = code.unwrap_or(match status {
                401 => Code::Unauthenticated,
                403 => Code::Forbidden,
                404 => Code::NotFound,
                503 => Code::Unavailable,
                _ => Code::Unknown,
            });
            let body = ErrorBody { status, error, message: String::new(), code, hint, logins };
            return Self::Refused(Box::new(body));
        }
        let text = String::from_utf8_lossy(body);
        let what = match text.lines().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => format!("\"{}\"", line.chars().take(80).collect::<String>()),
            None => "an empty page".to_string(),
        };
        Self::Nonsense { gateway, status, what }
    }

    /// One failure stands for itself, several for "none of them".
    pub(super) fn none_answers(mut failures: Vec<Self>) -> Self {
        match failures.pop() {
            Some(only) if failures.is_empty() => only,
            Some(last) => {
                failures.push(last);
                Self::NoneAnswers(failures)
            }
            None => Self::NoneAnswers(failures),
        }
    }

    /// Tells whether another gateway may do better: where this one is away, not where it has decided.
    pub(super) fn is_worth_another_gateway(&self) -> bool {
        self.is_away() && !matches!(self, Self::Munge(_))
    }

    /// Tells whether the gateway, or munged on the way to it, is away: others may still be asked.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Munge(_)
            | Self::Down { .. }
            | Self::Silent { .. }
            | Self::Broken { .. }
            | Self::Nonsense { .. }
            | Self::NoneAnswers(_) => true,
            Self::Refused(body) => matches!(body.code, Code::Unavailable | Code::Interrupted),
            Self::NotConfigured { .. } | Self::BadUrl { .. } => false,
        }
    }

    /// Tells whether the gateway says that there is no such image.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(body) if body.code == Code::NotFound)
    }

    /// The failure to tell, where `what` was to be done, such as ``pull docker:a:1``.
    ///
    /// The gateway's own sentences say that themselves and stand alone.
    pub fn while_trying_to(self, what: &str) -> Failure {
        let hint = self.hint();
        let text = format!("cannot {what}: {}", self.sentence());
        let exit = match self {
            Self::Refused(body) => return Failure::from(*body),
            Self::NotConfigured { .. } | Self::BadUrl { .. } => Exit::Other,
            _ => Exit::Gateway,
        };
        Failure { text, hint, exit }
    }

    /// The error and, where that is what the reader needs, its source.
    pub fn sentence(&self) -> String {
        match self {
            Self::Munge(source) => without_number(&source.to_string()),
            _ => self.to_string(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Munge(_) => "an administrator can start it (`systemctl start munge`)",
            Self::Down { .. }
            | Self::Silent { .. }
            | Self::Broken { .. }
            | Self::NoneAnswers(_) => {
                "`imgctl doctor` shows what is wrong; images that are already here still run"
            }
            Self::Nonsense { .. } => {
                "`imageGateway` in udiRoot.conf may name the wrong host or port"
            }
            Self::NotConfigured { key: "system", .. } => {
                "set it to the cluster's name, or give `--system NAME`"
            }
            Self::NotConfigured { .. } => {
                "set it to the gateway's URL, or give `--gateway http://host:port`"
            }
            Self::BadUrl { .. } => "it is written http://host:port",
            Self::Refused(_) => return None,
        };
        Some(hint.to_string())
    }
}

fn join(errors: &[ClientError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// An error and its sources in a few plain words: "Connection refused (os error 111)" is "connection refused".
pub(super) fn reason(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = without_number(&innermost.to_string());
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_ascii_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text,
    }
}

/// Rust's `io::Error` adds the number of the error, which tells a user nothing.
fn without_number(text: &str) -> String {
    text.split(" (os error").next().unwrap_or_default().to_string()
}
