//! `--image`, `--volume`, `--device` and `--module`, and what Pyxis calls them: what a user wrote, checked.
//!
//! Slurm may call more than once for one option, first with a default from the environment and then with what
//! stands on the command line, so every call replaces what an earlier one said.

use crate::devices::Devices;
use crate::pyxis::{self, PyxisError};
use crate::resolve::Wait;
use crate::spank::{Handle, OptionText, SpankError};
use image_ref::{ImageRef, RefError};
use std::fmt;
use udiroot_conf::volume::{self, Origin, Volume, VolumeError};

/// What the options of this job or step say.
#[derive(Debug)]
pub(crate) struct Options {
    /// `--image`.
    pub(crate) image: Image,
    /// `--image-wait`: whether submission waits until the image is made.
    pub(crate) wait: Wait,
    /// What the inside is like.
    pub(crate) inside: Inside,
}

/// How the inside of an image is to differ from what it is anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inside {
    /// `--volume`, in the user's order.
    pub(crate) volumes: Vec<Volume>,
    /// `--device`: GPUs and the like, by their CDI names; the site's default where it was not given.
    pub(crate) devices: Option<Devices>,
    /// `--module`: a selection of the site's modules in place of its default.
    pub(crate) modules: Option<String>,
    /// `--container-workdir`: where tasks start.
    pub(crate) workdir: Option<String>,
    /// `--container-env`: variables of the job's that the image does not override.
    pub(crate) host_env: Vec<String>,
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

/// Offers the options to Slurm, and Pyxis' where the site wants them.
///
/// # Errors
/// Whatever Slurm has against it, such as another plugin's option of that name.
pub(crate) fn register(spank: &mut Handle<'_>, with_pyxis: bool) -> Result<(), SpankError> {
    let pyxis = if with_pyxis { pyxis::OPTIONS.as_slice() } else { &[] };
    OWN.iter().chain(pyxis).try_for_each(|option| spank.register(option))
}

impl Options {
    /// Before any option was seen.
    pub(crate) fn new() -> Self {
        Self { image: Image::Unsaid, wait: Wait::Yes, inside: Inside::default() }
    }

    /// Takes the option `number` with its argument.
    ///
    /// # Errors
    /// What is wrong with `text`; then nothing is changed.
    pub(crate) fn take(&mut self, number: i32, text: &str) -> Result<(), OptionError> {
        let inside = &mut self.inside;
        match number {
            IMAGE => self.image = parse_image(text)?,
            VOLUME => inside.volumes = parse_volumes(text)?,
            WAIT => self.wait = parse_wait(text)?,
            MODULE => inside.modules = Some(parse_modules(text)?),
            DEVICE => {
                let devices = Devices::parse(text);
                inside.devices =
                    Some(devices.ok_or_else(|| OptionError::Devices(shortened(text)))?);
            }
            pyxis::IMAGE => {
                self.image = Request::parse(&pyxis::image(text)?).map(Image::Wanted)?;
            }
            pyxis::MOUNTS => inside.volumes = parse_volumes(&pyxis::mounts(text)?)?,
            pyxis::WORKDIR if text.starts_with('/') => inside.workdir = Some(text.to_owned()),
            pyxis::WORKDIR => return Err(PyxisError::Directory(shortened(text)).into()),
            pyxis::ENV => inside.host_env = pyxis::names(text)?,
            pyxis::WRITABLE => return Err(PyxisError::Writable.into()),
            pyxis::READONLY => {}
            _ => return Err(OptionError::Unknown(number)),
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

fn parse_wait(text: &str) -> Result<Wait, OptionError> {
    match text {
        "yes" => Ok(Wait::Yes),
        "no" => Ok(Wait::No),
        _ => Err(OptionError::Wait(shortened(text))),
    }
}

fn parse_modules(text: &str) -> Result<String, OptionError> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.,".contains(&byte);
    if !text.is_empty() && text.len() <= MODULES_LIMIT && text.bytes().all(is_fit) {
        Ok(text.to_owned())
    } else {
        Err(OptionError::Modules(shortened(text)))
    }
}

/// Enough of a text to see which one is meant.
fn shortened(text: &str) -> String {
    text.chars().take(120).collect()
}

const IMAGE: i32 = 1;
const VOLUME: i32 = 2;
const MODULE: i32 = 3;
const WAIT: i32 = 4;
const DEVICE: i32 = 5;

const OWN: [OptionText; 5] = [
    OptionText {
        name: c"image",
        argument: Some(c"REFERENCE|none"),
        usage: c"run inside this image, such as docker:ubuntu:22.04 (Gantry); none: on the host",
        number: IMAGE,
    },
    OptionText {
        name: c"volume",
        argument: Some(c"FROM:TO[:ro][;...]"),
        usage: c"show a host directory inside the image (Gantry)",
        number: VOLUME,
    },
    OptionText {
        name: c"module",
        argument: Some(c"NAME[,...]|none"),
        usage: c"modules of the site for the inside of the image (Gantry)",
        number: MODULE,
    },
    OptionText {
        name: c"image-wait",
        argument: Some(c"yes|no"),
        usage: c"no: submit while the image is still being pulled (Gantry)",
        number: WAIT,
    },
    OptionText {
        name: c"device",
        argument: Some(c"NAME[,...]|none"),
        usage: c"GPUs and other devices by CDI, such as nvidia.com/gpu=0 (Gantry)",
        number: DEVICE,
    },
];

/// The most that `--module` may have, in bytes.
const MODULES_LIMIT: usize = 1024;

/// The most that `--volume` may have, in bytes. It travels as one environment variable and as arguments of every
/// task, where the kernel takes 128 KiB for one string.
const VOLUME_LIMIT: usize = 16 << 10;

/// Of the 256 that the runtime takes; the rest is for devices.
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
    /// Neither `yes` nor `no`.
    Wait(String),
    /// Not a list of modules.
    Modules(String),
    /// Not a list of devices.
    Devices(String),
    /// What Pyxis would have had.
    Pyxis(PyxisError),
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
            Self::Wait(text) => {
                write!(f, "--image-wait={}: neither yes nor no", text.escape_debug())
            }
            Self::Modules(text) => {
                write!(f, "--module={}: not a list of names, or none", text.escape_debug())
            }
            Self::Devices(text) => {
                write!(f, "--device={}: not a list of devices, or none", text.escape_debug())?;
                f.write_str(
                    "\nhint: a device is written VENDOR/CLASS=NAME, such as nvidia.com/gpu=0",
                )
            }
            Self::Pyxis(error) => write!(f, "{error}"),
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

impl From<PyxisError> for OptionError {
    fn from(error: PyxisError) -> Self {
        Self::Pyxis(error)
    }
}

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
        assert_eq!(volume::canonical(&options.inside.volumes), "/scratch:/data:ro;/x:/y");
        options.take(1, "none").unwrap();
        assert_eq!(options.image, Image::Off);
    }

    #[test]
    fn every_option_has_a_help_that_fits_slurms_column() {
        for option in OWN.iter().chain(&pyxis::OPTIONS) {
            let argument = option.argument.unwrap_or_default();
            assert!(argument.to_bytes().len() < 24, "{argument:?}");
            assert!((20..80).contains(&option.usage.to_bytes().len()), "{:?}", option.usage);
        }
    }

    #[test]
    fn every_option_has_a_number_of_its_own() {
        let numbers: Vec<i32> =
            OWN.iter().chain(&pyxis::OPTIONS).map(|option| option.number).collect();
        let distinct: std::collections::BTreeSet<i32> = numbers.iter().copied().collect();
        assert_eq!(distinct.len(), numbers.len());
    }

    #[test]
    fn a_bad_option_leaves_what_was_there() {
        let mut options = Options::new();
        options.take(1, "docker:a:1").unwrap();
        for (number, text) in
            [(1, "docker:A"), (1, ""), (1, "a b"), (2, "/x:/etc"), (2, "x"), (9, "a")]
        {
            options.take(number, text).unwrap_err();
        }
        assert_eq!(options.image, Image::Wanted(Request::parse("docker:a:1").unwrap()));
        assert_eq!(options.inside, Inside::default());
    }

    #[test]
    fn modules_are_a_list_of_names() {
        let mut options = Options::new();
        options.take(3, "mpich,cvmfs").unwrap();
        options.take(3, "none").unwrap();
        assert_eq!(options.inside.modules.as_deref(), Some("none"));
        for bad in ["", "a b", "a;b", "../x", &"a".repeat(1025)] {
            assert!(matches!(options.take(3, bad), Err(OptionError::Modules(_))), "{bad}");
        }
    }

    #[test]
    fn waiting_for_an_image_is_yes_or_no() {
        let mut options = Options::new();
        assert_eq!(options.wait, Wait::Yes);
        options.take(4, "no").unwrap();
        assert_eq!(options.wait, Wait::No);
        assert_eq!(options.take(4, "0"), Err(OptionError::Wait("0".into())));
    }

    #[test]
    fn pyxis_options_say_the_same_as_ours() {
        let mut options = Options::new();
        options.take(11, "quay.io#org/app:1").unwrap();
        options.take(12, "/data:/mnt:ro").unwrap();
        options.take(13, "/work").unwrap();
        options.take(14, "PATH,HOME").unwrap();
        options.take(16, "").unwrap();
        let wanted = Request::parse("docker:quay.io/org/app:1").unwrap();
        assert_eq!(options.image, Image::Wanted(wanted));
        assert_eq!(volume::canonical(&options.inside.volumes), "/data:/mnt:ro");
        assert_eq!(options.inside.workdir.as_deref(), Some("/work"));
        assert_eq!(options.inside.host_env, ["PATH", "HOME"]);
        assert_eq!(options.take(15, ""), Err(PyxisError::Writable.into()));
        assert!(options.take(13, "work").is_err());
    }

    #[test]
    fn p11_a_volume_list_beyond_any_use_is_refused() {
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
