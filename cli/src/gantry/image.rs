//! Which image is meant: the option's, the job's, or Shifter's variables', in this order.

use super::environment::{Environment, parse_digest};
use crate::exit::{Exit, Failure};
use image_ref::{Digest, ImageRef, Kind, Version};

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// `--image=none`.
    Host,
    /// An image whose digest is known.
    Digest {
        /// The digest.
        digest: Digest,
        /// What the user wrote for it.
        request: String,
    },
    /// An image whose digest must be asked for.
    Reference {
        /// The reference.
        reference: ImageRef,
        /// What the user wrote for it.
        request: String,
    },
}

/// Chooses the image for a command line.
///
/// # Errors
/// Where nothing names an image, or what names one is malformed.
pub(super) fn choose(option: Option<&str>, environment: &Environment) -> Result<Choice, Failure> {
    match option {
        Some("none") => Ok(Choice::Host),
        Some(text) => by_text(text, environment, "--image"),
        None => match of_job(environment)? {
            Some(choice) => Ok(choice),
            None => of_shifter(environment)?.ok_or_else(no_image),
        },
    }
}

/// The image of a task that the plugin describes: its own variables and no others.
///
/// # Errors
/// Where they name none.
pub(super) fn of_task(environment: &Environment) -> Result<Choice, Failure> {
    let [pair, _] = environment.image_pairs();
    by_pair(pair, environment)?.ok_or_else(no_image)
}

/// That nothing names an image.
pub(super) fn no_image() -> Failure {
    Failure::new(Exit::Usage, "no image is named, and there is no job with an image around")
        .with_hint("give one with --image=docker:NAME:TAG; `imgctl list` shows what is there")
}

/// The step's image or, where the step says nothing, the job's.
fn of_job(environment: &Environment) -> Result<Option<Choice>, Failure> {
    for pair in environment.image_pairs() {
        if let Some(choice) = by_pair(pair, environment)? {
            return Ok(Some(choice));
        }
    }
    Ok(None)
}

fn by_pair(
    pair: (Option<String>, Option<String>),
    environment: &Environment,
) -> Result<Option<Choice>, Failure> {
    match pair {
        (Some(image), request) => match parse_digest(&image) {
            Some(digest) => Ok(Some(Choice::Digest { digest, request: request.unwrap_or(image) })),
            // A person may have set it by hand.
            None => by_text(&image, environment, "GANTRY_IMAGE").map(Some),
        },
        (None, Some(request)) => by_text(&request, environment, "GANTRY_IMAGE_REQUEST").map(Some),
        (None, None) => Ok(None),
    }
}

/// Shifter's variables: type and image together, or else the request alone.
fn of_shifter(environment: &Environment) -> Result<Option<Choice>, Failure> {
    let value = |name| environment.value_or_jobs(name);
    let request = value("SHIFTER_IMAGEREQUEST");
    if let (Some(kind), Some(image)) = (value("SHIFTER_IMAGETYPE"), value("SHIFTER_IMAGE")) {
        let text = format!("{kind}:{image}");
        let choice = by_text(&text, environment, "SHIFTER_IMAGE")?;
        return Ok(Some(match (choice, request) {
            (Choice::Digest { digest, .. }, Some(request)) => Choice::Digest { digest, request },
            (choice, _) => choice,
        }));
    }
    request.map(|text| by_text(&text, environment, "SHIFTER_IMAGEREQUEST")).transpose()
}

/// A reference as someone wrote it; the job may have its digest already.
fn by_text(text: &str, environment: &Environment, from: &str) -> Result<Choice, Failure> {
    let reference: ImageRef = text.parse().map_err(|error| {
        Failure::new(Exit::Usage, format!("{from}: `{text}` is not an image reference: {error}"))
            .with_hint("write [docker:][registry/]name[:tag], such as docker:ubuntu:24.04")
    })?;
    let request = text.to_string();
    if let (Kind::Id, Version::Digest(digest)) = (reference.kind(), reference.version()) {
        return Ok(Choice::Digest { digest: *digest, request });
    }
    let known = environment.image_pairs().into_iter().find_map(|(image, asked)| {
        let same = asked?.parse() == Ok(reference.clone());
        same.then(|| parse_digest(&image?)).flatten()
    });
    Ok(match known {
        Some(digest) => Choice::Digest { digest, request },
        None => Choice::Reference { reference, request },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B_HEX: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    /// Host is `host`, a digest its first letter and the request, a reference `?` and its text.
    fn chosen(option: Option<&str>, variables: &[(&str, &str)]) -> String {
        show(choose(option, &Environment::fake(variables, false)))
    }

    fn show(choice: Result<Choice, Failure>) -> String {
        match choice {
            Ok(Choice::Host) => "host".to_string(),
            Ok(Choice::Digest { digest, request }) => {
                format!("{} {request}", &digest.hex().to_string()[..1])
            }
            Ok(Choice::Reference { reference, .. }) => format!("? {reference}"),
            Err(failure) => failure.text,
        }
    }

    #[test]
    fn the_option_decides_first() {
        let job = [("GANTRY_IMAGE", A), ("GANTRY_IMAGE_REQUEST", "docker:a:1")];
        assert_eq!(chosen(Some("none"), &job), "host");
        assert_eq!(chosen(Some("docker:b"), &job), "? docker:b:latest");
        assert_eq!(chosen(Some(&format!("id:{B_HEX}")), &[]), format!("b id:{B_HEX}"));
    }

    #[test]
    fn a_digest_that_the_job_has_is_not_asked_for_again() {
        let job = [("GANTRY_IMAGE", A), ("GANTRY_IMAGE_REQUEST", "a:1")];
        assert_eq!(chosen(Some("docker:a:1"), &job), "a docker:a:1");
        assert_eq!(chosen(Some("docker:a:2"), &job), "? docker:a:2");
        let spank =
            [("SLURM_SPANK_GANTRY_IMAGE", A), ("SLURM_SPANK_GANTRY_IMAGE_REQUEST", "docker:a:1")];
        assert_eq!(chosen(Some("a:1"), &spank), "a a:1");
    }

    #[test]
    fn without_the_option_the_step_goes_before_the_job_before_shifter() {
        let mut variables = vec![
            ("SHIFTER_IMAGETYPE", "docker"),
            ("SHIFTER_IMAGE", "s:1"),
            ("SLURM_SPANK_GANTRY_IMAGE", A),
            ("SLURM_SPANK_GANTRY_IMAGE_REQUEST", "docker:a:1"),
            ("GANTRY_IMAGE", B_HEX),
            ("GANTRY_IMAGE_REQUEST", "docker:b:1"),
        ];
        assert_eq!(chosen(None, &variables), "b docker:b:1");
        variables.truncate(4);
        assert_eq!(chosen(None, &variables), "a docker:a:1");
        variables.truncate(2);
        assert_eq!(chosen(None, &variables), "? docker:s:1");
    }

    #[test]
    fn a_steps_request_is_never_paired_with_the_jobs_digest() {
        let variables = [
            ("GANTRY_IMAGE_REQUEST", "docker:b:1"),
            ("SLURM_SPANK_GANTRY_IMAGE", A),
            ("SLURM_SPANK_GANTRY_IMAGE_REQUEST", "docker:a:1"),
        ];
        assert_eq!(chosen(None, &variables), "? docker:b:1");
    }

    #[test]
    fn shifters_variables_are_read_as_shifter_reads_them() {
        for (variables, expected) in [
            (
                vec![
                    ("SHIFTER_IMAGETYPE", "id"),
                    ("SLURM_SPANK_SHIFTER_IMAGE", B_HEX),
                    ("SHIFTER_IMAGEREQUEST", "b:1"),
                ],
                "b b:1",
            ),
            (vec![("SHIFTER_IMAGE", "s:1"), ("SHIFTER_IMAGEREQUEST", "r:2")], "? docker:r:2"),
            (vec![("SLURM_SPANK_SHIFTER_IMAGEREQUEST", "custom:r:2")], "? custom:r:2"),
            (
                vec![("SHIFTER", "s:1")],
                "no image is named, and there is no job with an image around",
            ),
            (
                vec![("SHIFTER_IMAGETYPE", "id"), ("SHIFTER_IMAGE", "")],
                "no image is named, and there is no job with an image around",
            ),
        ] {
            assert_eq!(chosen(None, &variables), expected, "{variables:?}");
        }
    }

    #[test]
    fn a_task_is_told_by_its_own_variables_alone() {
        let of = |variables: &[(&str, &str)]| show(of_task(&Environment::fake(variables, false)));
        let request = ("GANTRY_IMAGE_REQUEST", "docker:b:1");
        assert_eq!(of(&[("GANTRY_IMAGE", B_HEX), request]), "b docker:b:1");
        assert_eq!(of(&[request]), "? docker:b:1");
        let others = [("SLURM_SPANK_GANTRY_IMAGE", A), ("SHIFTER_IMAGEREQUEST", "s:1")];
        assert!(of(&others).starts_with("no image is named"));
    }

    #[test]
    fn what_is_malformed_is_named_with_where_it_stands() {
        assert_eq!(
            chosen(Some("Docker:A"), &[]),
            "--image: `Docker:A` is not an image reference: `Docker` has capital letters, which repository names cannot have"
        );
        let text = chosen(None, &[("GANTRY_IMAGE", "local:/")]);
        assert!(text.starts_with("GANTRY_IMAGE: `local:/` is not an image"), "{text}");
        assert!(chosen(Some(""), &[]).contains("the image has no name"));
    }
}
