//! From the domain's errors to replies: the only place that knows codes and status numbers.

use axum::response::{IntoResponse, Response};
use gateway_api::{Code, ErrorBody};
use image_ref::Kind;
use munge::MungeError;
use tracing::error;

use crate::image_dir::ImageDirError;
use crate::pull::error::chain;
use crate::registries::SourceError;
use crate::service::error::ServiceError;
use crate::store::StoreError;

/// A reply that is not a success. `request_log` adds the address and writes it out.
#[derive(Clone, Debug)]
pub(super) struct ApiError(pub(super) ErrorBody);

impl From<ErrorBody> for ApiError {
    fn from(body: ErrorBody) -> Self {
        Self(body)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(self);
        response
    }
}

pub(super) fn no_route() -> ErrorBody {
    ErrorBody::new(Code::NoRoute, "the gateway has no such address")
}

pub(super) fn wrong_method() -> ErrorBody {
    ErrorBody::new(Code::Method, "this address does not take that method")
}

pub(super) fn bad_request(why: impl Into<String>) -> ErrorBody {
    ErrorBody::new(Code::BadRequest, why)
}

pub(super) fn unauthenticated(why: impl Into<String>) -> ErrorBody {
    ErrorBody::new(Code::Unauthenticated, why)
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let text = error.to_string();
        let body = match &error {
            ServiceError::Reference { .. } => ErrorBody::new(Code::BadReference, text),
            ServiceError::NotFound(reference) if reference.kind() == Kind::Custom => {
                ErrorBody::new(Code::NotFound, text)
                    .with_hint("`imgctl import FILE --name NAME` makes one of a file")
            }
            ServiceError::FileGone(reference) if reference.kind() == Kind::Custom => {
                ErrorBody::new(Code::NotFound, text).with_hint("import it again")
            }
            ServiceError::NotFound(reference) => ErrorBody::new(Code::NotFound, text)
                .with_hint(format!("`imgctl pull {reference}` pulls it")),
            ServiceError::FileGone(reference) => ErrorBody::new(Code::NotFound, text)
                .with_hint(format!("`imgctl pull {reference}` brings it back")),
            ServiceError::NotOwner { .. } => ErrorBody::new(Code::Forbidden, text),
            ServiceError::NotPullable(_) => ErrorBody::new(Code::BadRequest, text),
            ServiceError::NoImports | ServiceError::NoImporter | ServiceError::NameTaken(_) => {
                ErrorBody::new(Code::Forbidden, text)
            }
            ServiceError::NotImportable(_) => ErrorBody::new(Code::BadRequest, text),
            ServiceError::Busy | ServiceError::NameBusy(_) => {
                ErrorBody::new(Code::Busy, text).with_hint("wait for its end, or interrupt it")
            }
            ServiceError::TooLarge { .. } => ErrorBody::new(Code::LimitExceeded, text),
            ServiceError::NoRoom => no_room(text),
            ServiceError::Source { why: SourceError::NotAllowed(_), .. } => {
                ErrorBody::new(Code::RegistryNotAllowed, text)
            }
            ServiceError::Source { why: SourceError::NoDefault(_), .. } => {
                ErrorBody::new(Code::RegistryNotAllowed, text)
                    .with_hint("name the registry too: docker:host/name:tag")
            }
            ServiceError::AccessList { .. } => bad_request(text),
            ServiceError::Pull(failure) => failure.error.body(&failure.reference, &[]),
            ServiceError::Store(error) => {
                storage("the gateway's store failed", store_code(error), error)
            }
            ServiceError::ImageDir(error) => {
                storage("the image directory failed", dir_code(error), error)
            }
            ServiceError::Silent { seconds } => {
                error!("{text} within {seconds} s");
                ErrorBody::new(Code::StorageError, text)
                    .with_hint("tell the administrators; the gateway's log says more")
            }
            ServiceError::Thread(error) => storage("the gateway failed", Code::Internal, error),
        };
        Self(body)
    }
}

fn store_code(error: &StoreError) -> Code {
    if matches!(error, StoreError::Full(_)) { Code::StorageFull } else { Code::StorageError }
}

fn dir_code(error: &ImageDirError) -> Code {
    if error.is_full() { Code::StorageFull } else { Code::StorageError }
}

fn no_room(why: impl Into<String>) -> ErrorBody {
    ErrorBody::new(Code::StorageFull, why)
        .with_hint("tell the administrators, or delete images that you no longer need")
}

/// What an upload cannot be written for.
pub(super) fn of_upload(error: &std::io::Error) -> ErrorBody {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
            no_room("the image directory has no room left for the file")
        }
        _ => storage("the image directory failed", Code::StorageError, error),
    }
}

/// What broke inside is for the log; the caller cannot do anything about it.
fn storage(what: &str, code: Code, why: &dyn std::error::Error) -> ErrorBody {
    error!("{what}: {}", chain(why));
    ErrorBody::new(code, what).with_hint("tell the administrators; the gateway's log says more")
}

/// Tells a bad credential from a munged that is away.
pub(super) fn of_munge(error: &MungeError) -> ErrorBody {
    if error.is_about_credential() {
        return unauthenticated(error.to_string());
    }
    error!("cannot check credentials: {}", chain(error));
    ErrorBody::new(Code::Unavailable, format!("the gateway cannot check who you are: {error}"))
        .with_hint("tell the administrators that munged is down on the gateway's host")
}
