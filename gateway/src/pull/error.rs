//! Why a pull failed, and what the user is told of it.

use std::fmt;
use std::sync::Arc;

use converter_api::{Failure, FailureKind};
use gateway_api::{Code, ErrorBody};
use image_ref::{ImageRef, Kind};
use oci_registry::RegistryError;

use super::child::ChildError;
use crate::image_dir::ImageDirError;
use crate::store::StoreError;

/// Why a pull failed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry did not give the image.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The layers could not be turned into an image.
    #[error(transparent)]
    Convert(Refusal),
    /// The image that was made is not one to be given to a kernel.
    #[error("the image that was made is not fit to be published: {0}")]
    Unfit(Refusal),
    /// The converter ended without saying how it went.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The image directory failed.
    #[error(transparent)]
    ImageDir(#[from] ImageDirError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The image exceeds a limit of the site.
    #[error("the image exceeds a limit of this site: {0}")]
    Limit(String),
    /// The pull took longer than it may.
    #[error("it took longer than the {0} s that this site allows")]
    Deadline(u64),
    /// The registry did not say in time what the reference stands for.
    #[error("{registry} did not say within {seconds} s what it has under this name")]
    Unanswered {
        /// The registry, as the user knows it.
        registry: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    Interrupted,
    /// The image was removed again and again while it was being made.
    #[error("the image was removed while it was being made")]
    Removed,
    /// Who imports went away.
    #[error("its client went away")]
    GivenUp,
    /// A private image of the same digest is there, and nothing shows that the importer has it.
    #[error("a private image of this digest is there, and the file does not give the same")]
    Another,
    /// The conversion broke off.
    #[error("the conversion broke off")]
    Panic,
    /// The pull that makes the image for several references failed.
    #[error(transparent)]
    Shared(Arc<PullError>),
}

impl PullError {
    /// Tells whether the gateway's shutdown ended the pull.
    pub fn is_interrupted(&self) -> bool {
        match self {
            Self::Interrupted => true,
            Self::Shared(error) => error.is_interrupted(),
            _ => false,
        }
    }

    /// Tells whether a conversion that took layers from images may work without them: it could not read what it was given,
    /// or its process died and said nothing of why.
    pub fn may_lie_in_sources(&self) -> bool {
        match self {
            Self::Convert(refusal) => refusal.kind == FailureKind::Source,
            Self::Child(error) => error.is_death(),
            _ => false,
        }
    }

    /// What the user is told; `logins` are the names under which a login for the registry would be used.
    pub fn body(&self, reference: &ImageRef, logins: &[String]) -> ErrorBody {
        let body = |code, why: String| {
            ErrorBody::new(code, format!("cannot {} {reference}: {why}", verb(reference)))
        };
        let again = format!("{} it again", verb(reference));
        match self {
            Self::Registry(error) => {
                let mut body = body(registry_code(error), chain(error));
                body.hint = error.hint().map(|hint| printable(&hint));
                if body.code == Code::RegistryUnauthorized {
                    body.logins = logins.to_vec();
                }
                body
            }
            Self::Convert(refusal) if refusal.kind == FailureKind::Full => no_room(reference),
            // What an import is made of lies in the image directory.
            Self::Convert(refusal)
                if refusal.kind == FailureKind::Source && reference.kind() == Kind::Custom =>
            {
                body(Code::StorageError, chain(refusal))
            }
            Self::Convert(refusal) => body(refusal.code(), chain(refusal)),
            Self::Child(ChildError::Signal(_) | ChildError::Silent) => {
                body(Code::Internal, chain(self))
                    .with_hint(format!("{again}; if that fails too, tell the administrators"))
            }
            Self::Unfit(_) | Self::Child(_) => body(Code::Internal, chain(self))
                .with_hint("tell the administrators; the gateway's log says more"),
            Self::ImageDir(error) if error.is_full() => no_room(reference),
            Self::ImageDir(error @ ImageDirError::Sidecar(_)) => {
                body(Code::ImageInvalid, error.to_string())
            }
            Self::ImageDir(error) => body(Code::StorageError, chain(error)),
            Self::Store(StoreError::Full(_)) => {
                body(Code::StorageFull, "the gateway's store has no room left".into())
                    .with_hint("tell the administrators")
            }
            Self::Store(_) => body(Code::StorageError, "the gateway's store failed".into())
                .with_hint("tell the administrators; the gateway's log says more"),
            Self::Limit(_) | Self::Deadline(_) => body(Code::LimitExceeded, self.to_string()),
            Self::Unanswered { .. } => {
                body(Code::RegistryUnreachable, self.to_string()).with_hint("try again later")
            }
            Self::Interrupted if reference.kind() == Kind::Custom => {
                body(Code::Interrupted, self.to_string()).with_hint(again)
            }
            Self::GivenUp => body(Code::Interrupted, self.to_string()),
            Self::Another => body(Code::Forbidden, self.to_string()).with_hint(
                "its owner can let you use it, or delete it; an admin can delete it too",
            ),
            Self::Interrupted => body(Code::Interrupted, self.to_string())
                .with_hint("the pull goes on when the gateway is back; ask again then"),
            Self::Removed => body(Code::NotFound, self.to_string()).with_hint(again),
            Self::Panic => body(Code::Internal, self.to_string())
                .with_hint("tell the administrators; the gateway's log says more"),
            Self::Shared(error) => error.body(reference, logins),
        }
    }
}

/// How something of this name comes to be an image.
fn verb(reference: &ImageRef) -> &'static str {
    match reference.kind() {
        Kind::Custom => "import",
        Kind::Docker | Kind::Id => "pull",
    }
}

fn no_room(reference: &ImageRef) -> ErrorBody {
    let why =
        format!("cannot {} {reference}: the image directory has no room left", verb(reference));
    ErrorBody::new(Code::StorageFull, why)
        .with_hint("tell the administrators, or delete images that you no longer need")
}

fn registry_code(error: &RegistryError) -> Code {
    match error {
        RegistryError::Setup { .. } => Code::Internal,
        RegistryError::Unreachable { .. } => Code::RegistryUnreachable,
        RegistryError::NotAllowed { .. } => Code::RegistryNotAllowed,
        RegistryError::Unauthorized { .. } => Code::RegistryUnauthorized,
        RegistryError::NoRepository { .. } | RegistryError::NotFound { .. } => {
            Code::RegistryNotFound
        }
        RegistryError::Busy { .. } => Code::RegistryBusy,
        RegistryError::BadAnswer { .. } => Code::RegistryError,
        RegistryError::DigestMismatch { .. } => Code::DigestMismatch,
        RegistryError::NoPlatform { .. } => Code::NoPlatform,
        RegistryError::Invalid { .. } => Code::ImageInvalid,
        RegistryError::Limit { .. } => Code::LimitExceeded,
    }
}

/// What a converter said of its failure, in one line.
#[derive(Debug)]
pub struct Refusal {
    kind: FailureKind,
    text: String,
}

impl Refusal {
    fn code(&self) -> Code {
        match self.kind {
            FailureKind::Limit => Code::LimitExceeded,
            FailureKind::Mismatch => Code::DigestMismatch,
            FailureKind::Source => Code::RegistryError,
            FailureKind::Platform => Code::NoPlatform,
            FailureKind::Invalid => Code::ImageInvalid,
            FailureKind::Full => Code::StorageFull,
            FailureKind::Write => Code::StorageError,
            FailureKind::Internal => Code::Internal,
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let text = failure.chain.join(": ").chars().take(REFUSAL_CHARS).collect();
        Self { kind: failure.kind, text }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

/// Enough for every sentence of ours; the store keeps it for as long as the failure is shown.
const REFUSAL_CHARS: usize = 16 << 10;

/// An error and everything that caused it, in one line that whoever caused it cannot break.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    printable(&text)
}

/// Escapes what would start a new line, steer a terminal or turn the direction of a text.
pub(super) fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        if steers(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_stays_on_its_line() {
        let error = PullError::Limit("a\nINFO forged\r\u{1b}[2J\u{202e}\u{9b}ü`".into());
        let line = chain(&error);
        assert!(line.ends_with(r"a\nINFO forged\r\u{1b}[2J\u{202e}\u{9b}ü`"), "{line}");
    }
}
