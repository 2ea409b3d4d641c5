//! `imgctl resolve`: prints the digest that a reference stands for, one line, nothing else on standard output.
//!
//! The plugin runs this at submission: what it prints goes into the job, what it says goes to the user.

use super::args::ResolveArgs;
use super::{PROGRAM, parse_reference};
use crate::client::Client;
use crate::exit::Failure;
use crate::follow;
use crate::logins;
use crate::lookup::{self, LookupError};
use crate::output;
use crate::progress::{Mode, Progress};
use crate::site::{Site, Wishes};
use gateway_api::PullRequest;
use image_ref::{Digest, ImageRef, Kind, Version};

/// Runs the command.
///
/// # Errors
/// Where the reference stands for nothing that the caller may use.
pub(super) fn run(wishes: &Wishes, args: &ResolveArgs) -> Result<(), Failure> {
    let reference = parse_reference(&args.reference)?;
    let digest = match (reference.kind(), reference.version()) {
        // A digest stands for itself: no configuration, no gateway.
        (Kind::Id, Version::Digest(digest)) => *digest,
        _ => find(&Site::load(wishes)?, &reference, args)?,
    };
    output::print(&digest.to_string());
    Ok(())
}

fn find(site: &Site, reference: &ImageRef, args: &ResolveArgs) -> Result<Digest, Failure> {
    match lookup::find(site, reference) {
        Ok(resolution) => {
            if let Some(note) = resolution.note() {
                output::note(PROGRAM, &note);
            }
            Ok(resolution.digest())
        }
        Err(LookupError::NotPulled(_)) if args.pull && reference.kind() == Kind::Docker => {
            pull(site, reference, args.progress)
        }
        Err(error) => Err(error.into()),
    }
}

fn pull(site: &Site, reference: &ImageRef, mode: Mode) -> Result<Digest, Failure> {
    let client =
        Client::new(site).map_err(|error| error.while_trying_to(&format!("pull {reference}")))?;
    let found = logins::find(reference);
    if mode != Mode::None {
        found.notes.iter().for_each(|note| output::note(PROGRAM, note));
    }
    let mut progress = Progress::new(mode, PROGRAM);
    let request = PullRequest::default();
    follow::pull(&client, reference, &request, &found.logins, &mut progress)
        .map(|pulled| pulled.digest)
}
