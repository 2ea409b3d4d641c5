//! The environment variables by which a job remembers its image: what submission writes and steps read.
//!
//! Whoever runs a job can write any of them. They spare a question to the gateway and nothing else: a digest is a
//! name, and whether the caller may use the image is for the runtime to decide.

use crate::devices::Devices;
use crate::options::{Inside, Request};
use crate::spank::{self, Handle, SpankError};
use image_ref::{Digest, Version};
use std::ffi::{CStr, CString};
use udiroot_conf::volume;

/// The digest, `sha256:` in front.
pub(crate) const IMAGE: &CStr = c"GANTRY_IMAGE";
/// What the user wrote for it.
pub(crate) const REQUEST: &CStr = c"GANTRY_IMAGE_REQUEST";
/// The digest of an image that may still be in the making: each task waits for it.
pub(crate) const AWAITED: &CStr = c"GANTRY_IMAGE_AWAITED";
/// The volumes, canonical.
pub(crate) const VOLUME: &CStr = c"GANTRY_VOLUME";
/// The selection of modules.
pub(crate) const MODULE: &CStr = c"GANTRY_MODULE";
/// The devices.
pub(crate) const DEVICE: &CStr = c"GANTRY_DEVICE";
/// Where a task whose `argv[0]` is the front end starts inside.
pub(crate) const TASK_WORKDIR: &CStr = c"GANTRY_TASK_WORKDIR";
/// The variables, with commas between, that its image does not override.
pub(crate) const TASK_ENV: &CStr = c"GANTRY_TASK_ENV";
/// The program of a task whose `argv[0]` is the front end.
pub(crate) const TASK_PROGRAM: &CStr = c"GANTRY_TASK_PROGRAM";
/// The udiRoot.conf for the commands that run as the user.
pub(crate) const CONF: &CStr = c"GANTRY_CONF";
/// Set by the runtime in every image: the front end takes it as part of the proof that it is inside one.
pub(crate) const INSIDE: &CStr = c"GANTRY_RUNTIME";

/// An image that a job is submitted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It was there at submission.
    There(Digest),
    /// It is being made.
    Awaited(Digest),
}

/// Puts what was resolved into the environment of the job or step that a client is about to submit, under our
/// names and under those that Shifter's plugin sets.
///
/// # Errors
/// Where Slurm refuses a variable.
pub(crate) fn export(
    spank: &mut Handle<'_>,
    request: &Request,
    found: &Found,
    inside: &Inside,
) -> Result<(), SpankError> {
    let (name, other, digest) = match found {
        Found::There(digest) => (IMAGE, AWAITED, digest),
        Found::Awaited(digest) => (AWAITED, IMAGE, digest),
    };
    set(spank, name, &digest.to_string())?;
    spank::unset_variable(other);
    spank::unset_variable(&of_job(other));
    set(spank, REQUEST, &request.text)?;
    set(spank, c"SHIFTER_IMAGE", &digest.hex().to_string())?;
    set(spank, c"SHIFTER_IMAGETYPE", "id")?;
    set(spank, c"SHIFTER_IMAGEREQUEST", &request.reference.tag_text())?;
    let volumes = volume::canonical(&inside.volumes);
    let modules = inside.modules.as_deref().unwrap_or_default();
    let devices = inside.devices.as_ref().map_or("", Devices::as_str);
    for (name, value) in [
        (DEVICE, devices),
        (VOLUME, &volumes),
        (c"SHIFTER_VOLUME", &volumes),
        (MODULE, modules),
        (c"SHIFTER_MODULE", modules),
    ] {
        if value.is_empty() {
            // What a job around this one has is not this one's.
            spank::unset_variable(name);
            spank::unset_variable(&of_job(name));
        } else {
            set(spank, name, value)?;
        }
    }
    Ok(())
}

/// Sets a variable in all three environments: the job's; the one that survives `--export=NONE`, which Slurm itself
/// fills at an allocation only; and, under `SPANK_<name>`, that of Prolog and Epilog.
fn set(spank: &mut Handle<'_>, name: &CStr, value: &str) -> Result<(), SpankError> {
    spank::set_variable(name, value);
    spank::set_variable(&of_job(name), value);
    spank.set_control_variable(name, value)
}

/// The digest that the environment behind `read` has for `request`, or that `request` itself is.
///
/// The pair without prefix is lost under `--export=NONE`; the one with it survives.
pub(crate) fn known_digest(
    request: &Request,
    read: impl Fn(&CStr) -> Option<String>,
) -> Option<Digest> {
    if request.reference.kind() == image_ref::Kind::Id {
        return match request.reference.version() {
            Version::Digest(digest) => Some(*digest),
            Version::Tag(_) => None,
        };
    }
    let pairs = [(REQUEST.to_owned(), IMAGE.to_owned()), (of_job(REQUEST), of_job(IMAGE))];
    pairs.iter().find_map(|(asked, got)| {
        let is_same = read(asked)? == request.text;
        is_same.then(|| read(got)?.parse().ok()).flatten()
    })
}

/// The name under which Slurm keeps a job control variable in the job.
fn of_job(name: &CStr) -> CString {
    let bytes = [b"SLURM_SPANK_", name.to_bytes()].concat();
    // Two texts without a zero byte make one without.
    CString::new(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn known(text: &str, environment: &[(&str, &str)]) -> Option<String> {
        let request = Request::parse(text).unwrap();
        let read = |name: &CStr| {
            let found = environment.iter().find(|(key, _)| key.as_bytes() == name.to_bytes());
            found.map(|(_, value)| (*value).to_owned())
        };
        known_digest(&request, read).map(|digest| digest.to_string())
    }

    #[test]
    fn a_digest_counts_only_for_the_text_it_was_resolved_from() {
        let job = [("GANTRY_IMAGE", A), ("GANTRY_IMAGE_REQUEST", "docker:a:1")];
        assert_eq!(known("docker:a:1", &job).as_deref(), Some(A));
        assert_eq!(known("docker:a:2", &job), None);
        assert_eq!(known("docker:a:1", &job[..1]), None);
    }

    #[test]
    fn the_job_answers_where_the_step_has_another_image_or_none() {
        let both = [
            ("GANTRY_IMAGE", A),
            ("GANTRY_IMAGE_REQUEST", "docker:a:1"),
            ("SLURM_SPANK_GANTRY_IMAGE", B),
            ("SLURM_SPANK_GANTRY_IMAGE_REQUEST", "docker:b:1"),
        ];
        assert_eq!(known("docker:b:1", &both).as_deref(), Some(B));
        assert_eq!(known("docker:b:1", &both[2..]).as_deref(), Some(B));
        assert_eq!(known("docker:a:1", &both).as_deref(), Some(A));
    }

    #[test]
    fn p02_what_is_no_digest_is_unknown() {
        for bad in ["", "a", "sha256:", "sha256:../../etc/passwd", &A.to_uppercase()] {
            let job = [("GANTRY_IMAGE", bad), ("GANTRY_IMAGE_REQUEST", "docker:a:1")];
            assert_eq!(known("docker:a:1", &job), None, "{bad}");
        }
    }

    #[test]
    fn a_reference_that_is_a_digest_needs_no_environment() {
        let text = A.replace("sha256:", "id:");
        assert_eq!(known(&text, &[]).as_deref(), Some(A));
    }
}
