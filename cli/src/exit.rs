//! How `imgctl` ends: its exit codes, and the one form in which a failure reaches the person who typed.
//!
//! Nothing is printed here. `gantry` ends with 125 whatever the failure: the other codes are its command's.

use gateway_api::{Code, ErrorBody};
use std::process::ExitCode;

/// The exit codes of `imgctl`, a promise to scripts; `imgctl --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything that was asked for is done.
    Success = 0,
    /// Any failure without a code of its own.
    Other = 1,
    /// The command line is wrong.
    Usage = 2,
    /// There is no such image.
    NotFound = 3,
    /// The caller may not do this, or could not say who they are.
    Forbidden = 4,
    /// The registry refused, has no such image, or could not be reached.
    Registry = 5,
    /// The gateway or munged is away.
    Gateway = 6,
    /// The image itself is no good: malformed, too large, for another platform.
    Image = 7,
}

impl Exit {
    /// What `main` returns.
    pub fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }

    /// The exit code for an error that the gateway told.
    pub fn for_code(code: Code) -> Self {
        match code {
            Code::BadRequest | Code::BadReference => Self::Usage,
            Code::Unauthenticated | Code::Forbidden | Code::RegistryNotAllowed => Self::Forbidden,
            Code::NotFound => Self::NotFound,
            Code::RegistryUnreachable
            | Code::RegistryUnauthorized
            | Code::RegistryNotFound
            | Code::RegistryBusy
            | Code::RegistryError => Self::Registry,
            Code::NoPlatform | Code::DigestMismatch | Code::ImageInvalid | Code::LimitExceeded => {
                Self::Image
            }
            Code::Unavailable | Code::Interrupted => Self::Gateway,
            Code::NoRoute
            | Code::UnknownSystem
            | Code::Method
            | Code::Busy
            | Code::StorageFull
            | Code::StorageError
            | Code::Internal
            | Code::Unknown => Self::Other,
        }
    }
}

/// A failure, ready to be told: one sentence, what can be done, and how the program ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was tried, on what, and why it failed. Lower case, no full stop, no program name in front.
    pub text: String,
    /// What the user can do.
    pub hint: Option<String>,
    /// How `imgctl` ends.
    pub exit: Exit,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None, exit }
    }

    /// Adds what the user can do, unless something is said already.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }
}

/// The gateway's own words are shown as they are: it knows more than its client.
impl From<ErrorBody> for Failure {
    fn from(body: ErrorBody) -> Self {
        Self { text: body.error, hint: body.hint, exit: Exit::for_code(body.code) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_gateway_ends_with_the_documented_exit_code() {
        for (exit, codes) in [
            (2, "bad-request bad-reference"),
            (3, "not-found"),
            (4, "unauthenticated forbidden registry-not-allowed"),
            (
                5,
                "registry-unreachable registry-unauthorized registry-not-found registry-busy registry-error",
            ),
            (6, "unavailable interrupted"),
            (7, "no-platform digest-mismatch image-invalid limit-exceeded"),
            (1, "busy no-route unknown-system method storage-full storage-error internal unknown"),
        ] {
            for word in codes.split(' ') {
                let code: Code = serde_json::from_value(word.into()).unwrap();
                assert_eq!(code.as_str(), word);
                assert_eq!(Exit::for_code(code) as u8, exit, "{word}");
            }
        }
    }

    #[test]
    fn the_gateways_sentence_and_hint_are_kept() {
        let body = ErrorBody::new(Code::RegistryNotFound, "no tag 9.9").with_hint("try 1.0");
        let failure = Failure::from(body).with_hint("another");
        assert_eq!(failure.text, "no tag 9.9");
        assert_eq!(failure.hint.as_deref(), Some("try 1.0"));
        assert_eq!(failure.exit, Exit::Registry);
    }
}
