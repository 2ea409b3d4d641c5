//! `imgctl import`: sends a file to the gateway, which makes an image of it.
//!
//! The file is read twice: once for its digest, which goes into the credential, and once to send it. Whoever interrupts
//! it leaves nothing behind: the gateway gives an import up with its connection.

use super::args::ImportArgs;
use super::pull::list;
use super::{PROGRAM, print_json};
use crate::accounts;
use crate::client::{Client, Events};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::progress::Progress;
use crate::site::Site;
use crate::upload::{Upload, UploadError};
use gateway_api::{ALREADY_THERE, ImportRequest, PullEvent, Status};
use image_ref::{Digest, ImageRef, Kind, Version};
use serde_json::json;
use std::error::Error as _;
use std::path::Path;
use std::time::Instant;

/// Runs the command.
///
/// # Errors
/// What ended the import.
pub(super) fn run(site: &Site, args: &ImportArgs) -> Result<(), Failure> {
    let began = Instant::now();
    let reference = parse_name(&args.name)?;
    let what = format!("import {}", args.file.display());
    let request = ImportRequest {
        public: args.public,
        allowed_uids: args
            .allow_user
            .as_deref()
            .map(accounts::parse_users)
            .transpose()?
            .and_then(list),
        allowed_gids: args
            .allow_group
            .as_deref()
            .map(accounts::parse_groups)
            .transpose()?
            .and_then(list),
        image: args.from.clone(),
    };
    let upload = Upload::open(&args.file).map_err(|error| unreadable(&error))?;
    let client = Client::new(site).map_err(|error| error.while_trying_to(&what))?;
    let mut progress = Progress::new(args.output.mode(), PROGRAM);
    let imported = import(&client, &reference, &request, &args.file, &upload, &mut progress);
    progress.finish();
    let (digest, size, was_there) = imported?;
    let seconds = began.elapsed().as_secs_f64();
    if args.output.json {
        return print_json(&json!({
            "reference": reference.to_string(),
            "digest": digest,
            "size": size,
            "was_there": was_there,
            "seconds": seconds,
        }));
    }
    let ending = if was_there {
        "already there, nothing was converted".to_string()
    } else {
        format!("in {}", output::span(seconds))
    };
    let bytes = output::bytes(size);
    output::print(&match args.output.quiet {
        true => digest.to_string(),
        false => format!("{digest} {bytes} as {reference}, {ending}"),
    });
    Ok(())
}

fn import(
    client: &Client,
    reference: &ImageRef,
    request: &ImportRequest,
    file: &Path,
    upload: &Upload,
    progress: &mut Progress,
) -> Result<(Digest, u64, bool), Failure> {
    let size = upload.size();
    let digest =
        upload.digest(|done| progress.transfer("reading", done, size)).map_err(|error| {
            Failure::new(Exit::Other, format!("cannot read {}: {}", file.display(), plain(&error)))
        })?;
    let events = client
        .import(reference, request, upload, &digest, &mut |done| {
            progress.transfer("uploading", done, size)
        })
        .map_err(|error| error.while_trying_to(&format!("import {}", file.display())))?;
    follow(events, reference, progress)
}

/// Shows events until the import is over.
fn follow(
    events: Events,
    reference: &ImageRef,
    progress: &mut Progress,
) -> Result<(Digest, u64, bool), Failure> {
    for event in events.map_while(Result::ok) {
        progress.show(&event);
        let PullEvent { status, digest, written, message, failure, .. } = event;
        match (status, digest, failure) {
            (Status::Ready, Some(digest), _) => {
                return Ok((digest, written, message == ALREADY_THERE));
            }
            (Status::Failure, _, Some(failure)) => return Err(failure.into()),
            _ => {}
        }
    }
    let text = format!("the image gateway went away before {reference} was there");
    Err(Failure::new(Exit::Gateway, text).with_hint("import it again; nothing of it is left"))
}

/// `org/app:tag`, with or without `custom:` in front.
fn parse_name(name: &str) -> Result<ImageRef, Failure> {
    let bad = |why: String| {
        Failure::new(Exit::Usage, format!("`{name}` is no name for an import: {why}"))
            .with_hint("write --name NAME[:TAG], such as --name org/app:v1")
    };
    let text =
        if name.starts_with("custom:") { name.to_string() } else { format!("custom:{name}") };
    let reference: ImageRef = text.parse().map_err(|why| bad(format!("{why}")))?;
    match (reference.kind(), reference.version()) {
        (Kind::Custom, Version::Tag(_)) => Ok(reference),
        _ => Err(bad("it can have a tag, not a digest".to_string())),
    }
}

fn unreadable(error: &UploadError) -> Failure {
    let why = error.source().map(|source| format!(": {}", plain(source))).unwrap_or_default();
    let failure = Failure::new(Exit::Usage, format!("{error}{why}"));
    match error {
        UploadError::NoLayout(path) => failure.with_hint(format!(
            "a root file system is imported as a tar archive: `tar -C {0} -cf rootfs.tar .`",
            path.display()
        )),
        _ => failure,
    }
}

/// An error of the system without its number.
fn plain(error: &dyn std::error::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_of_an_import_with_or_without_its_kind() {
        for (name, expected) in [
            ("org/app:v1", "custom:org/app:v1"),
            ("custom:app", "custom:app:latest"),
            ("app", "custom:app:latest"),
        ] {
            assert_eq!(parse_name(name).unwrap().to_string(), expected);
        }
        for bad in ["docker:app:1", "Org/app", "", "app@sha256:00", "a b"] {
            let failure = parse_name(bad).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{bad}");
            assert!(failure.text.contains("no name for an import"), "{}", failure.text);
        }
    }
}
