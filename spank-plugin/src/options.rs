//! `--image` and `--volume`: what a user wrote, checked.
//!
//! Slurm may call more than once for one option, first with a default from the environment and then with what
//! stands on the command line, so every call replaces what an earlier one said.

use crate::spank::{Handle, OptionText, SpankError};
use image_ref::{ImageRef, RefError};
use std::fmt;
use udiroot_conf::volume::{self, Origin, Volume, VolumeError};

/// What the options of this job or step say.
#[derive(Debug)]
pub(crate) struct Options {
    /// `--image`.
    pub(crate) image: Image,
    /// `--volume`, in the user's order.
    pub(crate) volumes: Vec<Volume>,
}

/// What `--image` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// The option was not given.
    Unsaid,
    /// `--image=none`: on the host, whatever the job has.
    Off,
    /// This one.
    Wanted(Request),
}

/// An image that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// What the user wrote: the name under which its digest is remembered.
    pub(crate) text: String,
    /// What that means.
    pub(crate) reference: ImageRef,
}

/// Offers both options to Slurm.
///
/// # Errors
/// Whatever Slurm has against it, such as another plugin's option of that name.
pub(crate) fn register(spank: &mut Handle<'_>) -> Result<(), SpankError> {
    [IMAGE, VOLUME].iter().try_for_each(|option| spank.register(option))
}

impl Options {
    /// Before any option was seen.
    pub(crate) const fn new() -> Self {
        Self { image: Image::Unsaid, volumes: Vec::new() }
    }

    /// Takes the option `number` with its argument.
    ///
    /// # Errors
    /// What is wrong with `text`; then nothing is changed.
    pub(crate) fn take(&mut self, number: i32, text: &str) -> Result<(), OptionError> {
        if number == IMAGE.number {
            self.image = parse_image(text)?;
        } else if number == VOLUME.number {
            self.volumes = parse_volumes(text)?;
        } else {
            return Err(OptionError::Unknown(number));
        }
        Ok(())
    }
}

impl Request {
    /// Parses what stands behind `--image=`.
    ///
    /// # Errors
    /// Where it is no reference.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionError> {
        match text.parse() {
            Ok(reference) => Ok(Self { text: text.to_owned(), reference }),
            Err(error) => Err(OptionError::Image { text: shortened(text), error }),
        }
    }
}

fn parse_image(text: &str) -> Result<Image, OptionError> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Image::Off);
    }
    Request::parse(text).map(Image::Wanted)
}

fn parse_volumes(text: &str) -> Result<Vec<Volume>, OptionError> {
    if text.len() > VOLUME_LIMIT {
        return Err(OptionError::VolumesTooLong(text.len()));
    }
    let volumes = volume::parse_list(text, Origin::User).map_err(OptionError::Volume)?;
    if volumes.len() > VOLUMES_MOST {
        return Err(OptionError::TooManyVolumes(volumes.len()));
    }
    Ok(volumes)
}

/// Enough of a text to see which one is meant.
fn shortened(text: &str) -> String {
    text.chars().take(120).collect()
}

const IMAGE: OptionText = OptionText {
    name: c"image",
    argument: c"REFERENCE|none",
    usage: c"run inside this image, such as docker:ubuntu:22.04 (Gantry); none: on the host",
    number: 1,
};

const VOLUME: OptionText = OptionText {
    name: c"volume",
    argument: c"FROM:TO[:ro][;...]",
    usage: c"show a host directory inside the image (Gantry)",
    number: 2,
};

/// The most that `--volume` may have, in bytes. It travels as one environment variable and as arguments of every
/// task, where the kernel takes 128 KiB for one string.
const VOLUME_LIMIT: usize = 16 << 10;

/// As many volumes as the runtime takes: better told at submission than by every task.
const VOLUMES_MOST: usize = 64;

/// An option that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OptionError {
    /// Not a reference.
    Image {
        /// Its beginning.
        text: String,
        /// Why not.
        error: RefError,
    },
    /// Not a volume that a user can have.
    Volume(VolumeError),
    /// More than [`VOLUME_LIMIT`].
    VolumesTooLong(usize),
    /// More than [`VOLUMES_MOST`].
    TooManyVolumes(usize),
    /// Slurm called with a number that was never registered.
    Unknown(i32),
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image { text, error } => {
                write!(f, "--image={}: {error}", text.escape_debug())?;
                f.write_str("\nhint: the form is [docker:][REGISTRY/]NAME[:TAG], or none")
            }
            Self::Volume(error) => write!(f, "--volume: {error}"),
            Self::VolumesTooLong(length) => {
                write!(f, "--volume has {length} bytes, more than the {VOLUME_LIMIT} allowed")
            }
            Self::TooManyVolumes(count) => {
                write!(f, "--volume names {count} volumes, more than the {VOLUMES_MOST} allowed")
            }
            Self::Unknown(number) => {
                write!(f, "Slurm passed an option {number} that was not registered")
            }
        }
    }
}

impl std::error::Error for OptionError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_repeating_it_changes_nothing() {
        let mut options = Options::new();
        options.take(1, "docker:a:1").unwrap();
        for _ in 0..2 {
            options.take(1, "docker:b:2").unwrap();
            options.take(2, "/scratch:/data:ro;/x:/y").unwrap();
        }
        assert_eq!(options.image, Image::Wanted(Request::parse("docker:b:2").unwrap()));
        assert_eq!(udiroot_conf::canonical(&options.volumes), "/scratch:/data:ro;/x:/y");
        options.take(1, "none").unwrap();
        assert_eq!(options.image, Image::Off);
    }

    #[test]
    fn every_option_has_a_help_that_fits_slurms_column() {
        for option in [IMAGE, VOLUME] {
            assert!(option.argument.to_bytes().len() < 24, "{:?}", option.argument);
            assert!((20..80).contains(&option.usage.to_bytes().len()), "{:?}", option.usage);
        }
    }

    #[test]
    fn a_bad_option_leaves_what_was_there() {
        let mut options = Options::new();
        options.take(1, "docker:a:1").unwrap();
        for (number, text) in
            [(1, "docker:A"), (1, ""), (1, "a b"), (2, "/x:/etc"), (2, "x"), (3, "a")]
        {
            options.take(number, text).unwrap_err();
        }
        assert_eq!(options.image, Image::Wanted(Request::parse("docker:a:1").unwrap()));
        assert_eq!(options.volumes, []);
    }

    #[test]
    fn a_volume_list_beyond_any_use_is_refused() {
        let long = "/a:/b;".repeat(20_000);
        assert_eq!(Options::new().take(2, &long), Err(OptionError::VolumesTooLong(120_000)));
        let many = "/a:/b;".repeat(65);
        assert_eq!(Options::new().take(2, &many), Err(OptionError::TooManyVolumes(65)));
    }

    #[test]
    fn a_refusal_names_option_text_and_reason() {
        let error = Request::parse("docker:Org/app").unwrap_err().to_string();
        assert!(error.starts_with("--image=docker:Org/app: `Org` has capital letters"), "{error}");
    }
}
