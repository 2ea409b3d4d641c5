//! `imgctl resolve`: prints the digest that a reference stands for, one line, nothing else on standard output.
//!
//! The plugin runs this at submission: what it prints goes into the job, what it says goes to the user.

use super::args::ResolveArgs;
use super::{PROGRAM, parse_reference};
use crate::client::{Client, ClientError};
use crate::exit::Failure;
use crate::follow::{self, PullError};
use crate::lookup::{self, Resolution};
use crate::output;
use crate::progress::{Mode, Progress};
use crate::site::{Site, Wishes};
use gateway_api::{PullRequest, Status};
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
    if args.pull && reference.kind() == Kind::Docker {
        return pull(site, reference, args);
    }
    Ok(told(&lookup::find(site, reference)?))
}

/// Has the gateway decide: it knows the image, and asks the registry again where the tag may have moved since.
fn pull(site: &Site, reference: &ImageRef, args: &ResolveArgs) -> Result<Digest, Failure> {
    let published = |why: &str, failure: Failure| {
        let found = lookup::find_published(site, reference, why);
        found.map(|resolution| told(&resolution)).ok_or(failure)
    };
    let client = match Client::new(site) {
        Ok(client) => client,
        Err(error) => {
            let (why, is_missing) =
                (error.sentence(), matches!(error, ClientError::NotConfigured { .. }));
            let failure = error.while_trying_to(&format!("pull {reference}"));
            return if is_missing { published(&why, failure) } else { Err(failure) };
        }
    };
    // What is not waited for is not watched.
    let mode = if args.no_wait { Mode::None } else { args.progress };
    let mut progress = Progress::new(mode, PROGRAM);
    let asked = if args.no_wait {
        follow::begin(&client, reference, &mut progress)
    } else {
        let request = PullRequest::default();
        follow::pull(&client, reference, &request, &mut progress).map(|pulled| pulled.digest)
    };
    match asked {
        Ok(digest) => Ok(digest),
        Err(PullError::Away { why, failure }) => published(&why, failure),
        Err(error) if error.is_registry_away() => {
            let failure = Failure::from(error);
            let Ok(record) = client.lookup(reference) else { return Err(failure) };
            let digest = record.digest.filter(|_| record.status == Status::Ready);
            let digest = digest.ok_or_else(|| failure.clone())?;
            output::note(PROGRAM, &format!("{}; using the image that is there", failure.text));
            Ok(digest)
        }
        Err(error) => Err(error.into()),
    }
}

fn told(resolution: &Resolution) -> Digest {
    if let Some(note) = resolution.note() {
        output::note(PROGRAM, &note);
    }
    resolution.digest()
}
