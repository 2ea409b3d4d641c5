//! One request from its first message to the last word.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use converter_api::{Channel, ChannelError, Failure, FailureKind, NO_SANDBOX, Reply, Request};

use crate::conversation::Conversation;
use crate::failure::failure;
use crate::sandbox::{self, Sandbox, SandboxError};
use crate::{convert, examine, import};

/// Does what the first message on standard input asks for, as a child of `parent`.
///
/// Ends with a failure where it could not say how it went: without sandbox, or without the gateway.
pub fn run(parent: i32) -> ExitCode {
    match talk(parent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

/// Enters the sandbox and says which one it is.
pub fn check() -> ExitCode {
    match sandbox::enter(None) {
        // The sentence is the gateway's to log; where nobody reads it, nothing is lost.
        Ok(sandbox) => match writeln!(std::io::stdout(), "{sandbox}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => complain(&RunError::from(error)),
    }
}

fn talk(parent: i32) -> Result<(), RunError> {
    // How many processors there are is read from files that are out of reach later.
    let defaults = oci_layers::Options::default();
    let sandbox = sandbox::enter(Some(parent))?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(RunError::Socket)?;
    let conversation = Arc::new(Conversation::new(Channel::from(socket)));
    let Some((request, descriptors)) = conversation.first()? else { return Ok(()) };
    let reply = answer(&conversation, &sandbox, &defaults, request, descriptors)
        .unwrap_or_else(Reply::Failed);
    Ok(conversation.tell(&reply)?)
}

fn answer(
    conversation: &Arc<Conversation>,
    sandbox: &Sandbox,
    defaults: &oci_layers::Options,
    request: Request,
    descriptors: Vec<OwnedFd>,
) -> Result<Reply, Failure> {
    let mut files = descriptors.into_iter().map(std::fs::File::from);
    let mut file =
        || files.next().ok_or_else(|| failure(FailureKind::Internal, "a descriptor is missing"));
    match request {
        Request::Convert(request) => {
            let out = file()?;
            sandbox.limit_files(&request.options);
            convert::run(conversation, defaults, &request, &out, files.collect())
                .map(Reply::Converted)
        }
        Request::Import(request) => {
            let (out, upload) = (file()?, file()?);
            sandbox.limit_files(&request.options);
            import::run(conversation, defaults, &request, &out, upload).map(Reply::Converted)
        }
        Request::Examine => examine::run(&file()?).map(|()| Reply::Examined),
    }
}

#[expect(clippy::print_stderr, reason = "the gateway reads it and logs it")]
fn complain(error: &RunError) -> ExitCode {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    eprintln!("{text}");
    match error {
        RunError::Sandbox(SandboxError::Orphan) => ExitCode::FAILURE,
        RunError::Sandbox(_) => ExitCode::from(NO_SANDBOX),
        _ => ExitCode::FAILURE,
    }
}

/// Why there is no last word.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("standard input is no socket")]
    Socket(#[source] std::io::Error),
    #[error("cannot speak with the gateway")]
    Channel(#[from] ChannelError),
}
