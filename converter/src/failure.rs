//! From the errors of a conversion to what the gateway is told.

use std::error::Error;
use std::io;

use converter_api::{Failure, FailureKind};
use oci_layers::ConvertError;

/// Sorts the error of a conversion by whose fault it is.
pub(crate) fn convert_failure(error: &ConvertError) -> Failure {
    let kind = if is_full(error) {
        FailureKind::Full
    } else if error.is_limit() {
        FailureKind::Limit
    } else if error.is_digest_mismatch() {
        FailureKind::Mismatch
    } else if error.is_source() {
        FailureKind::Source
    } else if matches!(error, ConvertError::Image(_)) {
        FailureKind::Write
    } else {
        FailureKind::Invalid
    };
    Failure::new(kind, error)
}

/// A failure to write the image.
pub(crate) fn write_failure(error: &(dyn Error + 'static)) -> Failure {
    Failure::new(if is_full(error) { FailureKind::Full } else { FailureKind::Write }, error)
}

/// A failure in one sentence.
pub(crate) fn failure(kind: FailureKind, sentence: impl Into<String>) -> Failure {
    Failure { kind, chain: vec![sentence.into()] }
}

/// Tells whether at the bottom of it no room was left.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::FileTooLarge
            );
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write")]
    struct Outer(#[source] io::Error);

    #[test]
    fn no_room_is_told_apart_however_deep_it_lies() {
        for (kind, expected) in [
            (io::ErrorKind::StorageFull, FailureKind::Full),
            (io::ErrorKind::QuotaExceeded, FailureKind::Full),
            (io::ErrorKind::FileTooLarge, FailureKind::Full),
            (io::ErrorKind::PermissionDenied, FailureKind::Write),
        ] {
            assert_eq!(write_failure(&Outer(kind.into())).kind, expected);
        }
    }
}
