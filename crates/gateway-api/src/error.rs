//! Errors as the gateway tells them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The body of every reply that is not a success, and the reason in a failed pull's record.
///
/// `status` and `message` are what Shifter's clients know; a user reads `error` and `hint`, a program `code`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The HTTP status.
    pub status: u16,
    /// One sentence: what was tried, on what, and why it failed. Lower case, no full stop.
    pub error: String,
    /// Shifter's line: reason phrase and URL.
    #[serde(default)]
    pub message: String,
    /// What kind of error it is; stable.
    pub code: Code,
    /// What the user can do, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The names under which a login for the registry would be used, the location's own name first; only where
    /// the registry refused for want of a login.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logins: Vec<String>,
}

impl ErrorBody {
    /// Makes a body from its essentials.
    pub fn new(code: Code, error: impl Into<String>) -> Self {
        Self {
            status: code.http_status(),
            error: error.into(),
            message: String::new(),
            code,
            hint: None,
            logins: Vec::new(),
        }
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the names under which a login for the registry would be used.
    #[must_use]
    pub fn with_logins(mut self, logins: Vec<String>) -> Self {
        self.logins = logins;
        self
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:literal;)*) => {
        /// Stable words for kinds of errors.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $word)] $name,)*
            /// A word that this client does not know.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl Code {
            /// Every code that a gateway sends.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                    Self::Unknown => "unknown",
                }
            }

            /// The HTTP status that goes with it.
            pub const fn http_status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                    Self::Unknown => 500,
                }
            }
        }
    };
}

codes! {
    /// The request is malformed.
    BadRequest = "bad-request", 400;
    /// The reference is malformed.
    BadReference = "bad-reference", 400;
    /// No valid MUNGE credential came with the request.
    Unauthenticated = "unauthenticated", 401;
    /// The caller may not do this.
    Forbidden = "forbidden", 403;
    /// Another import of the caller, or of that name, is not over.
    Busy = "busy", 409;
    /// There is no such image, or none that the caller may see.
    NotFound = "not-found", 404;
    /// There is no such route.
    NoRoute = "no-route", 404;
    /// The gateway does not serve this system.
    UnknownSystem = "unknown-system", 404;
    /// The route does not know this method.
    Method = "method", 405;
    /// The site does not allow this registry.
    RegistryNotAllowed = "registry-not-allowed", 403;
    /// The registry could not be reached.
    RegistryUnreachable = "registry-unreachable", 502;
    /// The registry refused the credentials, or asked for some.
    RegistryUnauthorized = "registry-unauthorized", 403;
    /// The registry has no such repository or tag.
    RegistryNotFound = "registry-not-found", 404;
    /// The registry asked to slow down.
    RegistryBusy = "registry-busy", 503;
    /// The registry answered with an error or with nonsense.
    RegistryError = "registry-error", 502;
    /// The image has no version for the platform.
    NoPlatform = "no-platform", 404;
    /// What came, from a registry or as an upload, is not what its digest says.
    DigestMismatch = "digest-mismatch", 502;
    /// The image's content is malformed or hostile.
    ImageInvalid = "image-invalid", 422;
    /// The image exceeds a limit of the site.
    LimitExceeded = "limit-exceeded", 422;
    /// The image directory or the store has no room left.
    StorageFull = "storage-full", 507;
    /// The image directory or the store failed.
    StorageError = "storage-error", 500;
    /// A part that the gateway needs is away, such as munged.
    Unavailable = "unavailable", 503;
    /// The pull was ended by the gateway's shutdown.
    Interrupted = "interrupted", 503;
    /// The gateway failed; its log says more.
    Internal = "internal", 500;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_travels_as_its_word_and_an_unknown_word_is_no_error() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{code}\""));
        }
        assert_eq!(serde_json::from_str::<Code>("\"from-the-future\"").unwrap(), Code::Unknown);
    }
    #[test]
    fn a_body_without_logins_looks_as_before_and_reads_as_before() {
        let body = ErrorBody::new(Code::RegistryUnauthorized, "no");
        let json = serde_json::to_string(&body).unwrap();
        assert!(!json.contains("logins"), "{json}");
        assert_eq!(serde_json::from_str::<ErrorBody>(&json).unwrap(), body);
        let body = body.with_logins(vec!["lab".into(), "registry.lab.example".into()]);
        let json = serde_json::to_string(&body).unwrap();
        assert_eq!(serde_json::from_str::<ErrorBody>(&json).unwrap(), body);
    }
}
