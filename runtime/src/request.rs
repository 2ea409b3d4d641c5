//! The argument list: a tiny grammar without abbreviations, escapes or defaults from anywhere else.
//!
//! ```text
//! run --digest=HEX [options] [-- command arguments...]     prepare --digest=HEX --job=ID
//! hold --digest=HEX --fd=N                                 release --job=ID
//! ```
//! Pure: nothing is opened. A word that is not known is an error, not something to skip.
#![forbid(unsafe_code)]

use crate::error::Shown;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use image_ref::Digest;
use udiroot_conf::volume::parse_list;
use udiroot_conf::{Origin, Volume, VolumeError};

/// What the program is asked to do.
#[derive(Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "there is one request per process")]
pub enum Request {
    /// Runs a command in an image, for an ordinary user.
    Run(Run),
    /// Mounts an image for a job, for a Prolog.
    Prepare(Digest, Job),
    /// Lets go of a job's images, for an Epilog.
    Release(Job),
    /// Mounts an image and sends the mount over the socket with this number, for slurmstepd.
    Hold(Digest, i32),
}

/// The number of a Slurm job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job(pub u32);

/// A command to be run in an image.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// Which image.
    pub digest: Digest,
    /// What the user wrote for it.
    pub request: Option<String>,
    /// What shall be bound.
    pub volumes: Vec<Volume>,
    /// The selection of the site's modules; its default where there is none.
    pub modules: Option<String>,
    /// Where the command starts.
    pub workdir: Workdir,
    /// `NAME=value` settings.
    pub env: Vec<Vec<u8>>,
    /// Whether the caller's environment is left behind.
    pub clear_environment: bool,
    /// What runs in front of the command.
    pub entrypoint: Entrypoint,
    /// Descriptors of the caller's that the command inherits.
    pub keep_fds: Vec<i32>,
    /// The caller's line for /etc/passwd.
    pub passwd: Option<Vec<u8>>,
    /// The caller's groups' lines for /etc/group.
    pub groups: Vec<Vec<u8>>,
    /// Whether the plan is only printed.
    pub explain: bool,
    /// Whether all is done but for the command, and the time of each step printed.
    pub time: bool,
    /// The command and its arguments; may be empty.
    pub command: Vec<Vec<u8>>,
}

/// Where a command starts.
#[derive(Debug, PartialEq, Eq)]
pub enum Workdir {
    /// The caller's working directory if the image has it, else `/`.
    Caller,
    /// The image's own.
    Image,
    /// This one.
    Path(Vec<u8>),
}

/// What runs in front of a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Entrypoint {
    /// Nothing.
    None,
    /// The image's entrypoint.
    Image,
    /// This program.
    Program(Vec<u8>),
}

/// Parses the argument list, its first element (the program's name) included.
///
/// # Errors
/// The first word that does not fit: see [`UsageError`].
pub fn parse(arguments: &[&[u8]]) -> Result<Request, UsageError> {
    let [_, verb, words @ ..] = arguments else { return Err(UsageError::NoVerb) };
    let end = words.iter().position(|word| *word == b"--").unwrap_or(words.len());
    let (words, rest) = words.split_at(end);
    let command: Vec<_> = rest.iter().skip(1).map(|word| word.to_vec()).collect();
    let given = Given::read(verb, words)?;
    match *verb {
        b"run" => given.run(command).map(Request::Run),
        _ if !command.is_empty() => Err(UsageError::Unknown(b"--".to_vec())),
        b"prepare" => Ok(Request::Prepare(given.digest()?, given.job()?)),
        b"release" => Ok(Request::Release(given.job()?)),
        b"hold" => Ok(Request::Hold(given.digest()?, given.must("--fd", descriptor)?)),
        _ => Err(UsageError::Unknown(verb.to_vec())),
    }
}

/// What may stand behind an option's name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Value,
    Either,
}

/// An option: its name, the verbs that take it, what it takes, what is wanted there, and whether it may be repeated.
type Known = (&'static str, &'static [&'static [u8]], Takes, &'static str, bool);

const OPTIONS: &[Known] = &[
    ("--digest", &[b"run", b"prepare", b"hold"], Takes::Value, DIGITS, false),
    ("--job", &[b"prepare", b"release"], Takes::Value, "a number", false),
    ("--fd", &[b"hold"], Takes::Value, "an open descriptor", false),
    ("--request", &[b"run"], Takes::Value, "a short text", false),
    ("--volume", &[b"run"], Takes::Value, "SOURCE:TARGET[:ro]", true),
    ("--module", &[b"run"], Takes::Value, "a short text", false),
    ("--workdir", &[b"run"], Takes::Either, "an absolute path", false),
    ("--env", &[b"run"], Takes::Value, "NAME=VALUE", true),
    ("--clearenv", &[b"run"], Takes::Nothing, "", false),
    ("--entrypoint", &[b"run"], Takes::Either, "a program", false),
    ("--keep-fd", &[b"run"], Takes::Value, "an open descriptor", true),
    ("--passwd", &[b"run"], Takes::Value, "a line", false),
    ("--group", &[b"run"], Takes::Value, "a line", true),
    ("--explain", &[b"run"], Takes::Nothing, "", false),
    ("--time", &[b"run"], Takes::Nothing, "", false),
];

/// The options that were given, with their values: each known to the verb, and there once where it must be.
struct Given<'a>(Vec<(&'static Known, Option<&'a [u8]>)>);

/// What makes of a value what it stands for, where it can.
type Parse<'a, T> = fn(&'a [u8]) -> Option<T>;

impl<'a> Given<'a> {
    fn read(verb: &[u8], words: &[&'a [u8]]) -> Result<Self, UsageError> {
        let mut given = Self(Vec::new());
        for word in words {
            let mut parts = word.splitn(2, |&byte| byte == b'=');
            let (name, value) = (parts.next().unwrap_or_default(), parts.next());
            let unfit = if value.is_some() { Takes::Nothing } else { Takes::Value };
            let known = OPTIONS.iter().find(|(known, verbs, takes, ..)| {
                known.as_bytes() == name && verbs.contains(&verb) && *takes != unfit
            });
            let known @ (name, .., many) =
                known.ok_or_else(|| UsageError::Unknown(word.to_vec()))?;
            if !many && given.has(name) {
                return Err(UsageError::Repeated(name));
            }
            given.0.push((known, value));
        }
        Ok(given)
    }

    fn run(&self, command: Vec<Vec<u8>>) -> Result<Run, UsageError> {
        Ok(Run {
            digest: self.digest()?,
            request: self.one("--request", short_text)?,
            volumes: self.volumes()?,
            modules: self.one("--module", short_text)?,
            workdir: match self.one("--workdir", |path| {
                bytes(path, path.starts_with(b"/") && path.len() <= PATH_LIMIT)
            })? {
                Some(path) => Workdir::Path(path),
                None if self.has("--workdir") => Workdir::Image,
                None => Workdir::Caller,
            },
            env: self.all("--env", |item| {
                bytes(item, item.iter().position(|&byte| byte == b'=') > Some(0))
            })?,
            clear_environment: self.has("--clearenv"),
            entrypoint: match self.one("--entrypoint", |name| bytes(name, !name.is_empty()))? {
                Some(program) => Entrypoint::Program(program),
                None if self.has("--entrypoint") => Entrypoint::Image,
                None => Entrypoint::None,
            },
            keep_fds: self.all("--keep-fd", descriptor)?,
            passwd: self.one("--passwd", |line| bytes(line, true))?,
            groups: self.all("--group", |line| bytes(line, true))?,
            explain: self.has("--explain"),
            time: self.has("--time"),
            command,
        })
    }

    fn digest(&self) -> Result<Digest, UsageError> {
        self.must("--digest", Digest::from_digits)
    }

    fn job(&self) -> Result<Job, UsageError> {
        self.must("--job", |text| number(text).map(Job))
    }

    fn volumes(&self) -> Result<Vec<Volume>, UsageError> {
        let mut volumes = Vec::new();
        for text in self.all("--volume", utf8)? {
            let more = parse_list(&text, Origin::User).map_err(UsageError::Volume)?;
            if more.is_empty() {
                return Err(UsageError::Value("--volume", "SOURCE:TARGET[:ro]"));
            }
            volumes.extend(more);
        }
        if volumes.len() > VOLUME_LIMIT { Err(UsageError::TooManyVolumes) } else { Ok(volumes) }
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known.0 == name)
    }

    fn must<T>(&self, name: &'static str, parse: Parse<'a, T>) -> Result<T, UsageError> {
        self.one(name, parse)?.ok_or(UsageError::Missing(name))
    }

    fn one<T>(&self, name: &str, parse: Parse<'a, T>) -> Result<Option<T>, UsageError> {
        self.all(name, parse).map(|mut values| values.pop())
    }

    /// The values of an option, parsed.
    fn all<T>(&self, name: &str, parse: Parse<'a, T>) -> Result<Vec<T>, UsageError> {
        let given = self.0.iter().filter(|(known, _)| known.0 == name);
        let values = given.filter_map(|(known, value)| Some((known, (*value)?)));
        let parsed = values.map(|((name, .., wants, _), value)| {
            parse(value).ok_or(UsageError::Value(name, wants))
        });
        parsed.collect()
    }
}

fn utf8(text: &[u8]) -> Option<String> {
    core::str::from_utf8(text).ok().map(String::from)
}

fn short_text(text: &[u8]) -> Option<String> {
    utf8(text).filter(|text| text.len() <= REQUEST_LIMIT)
}

fn bytes(text: &[u8], fits: bool) -> Option<Vec<u8>> {
    fits.then(|| text.to_vec())
}

/// Digits only: `u32::from_str` alone would take a sign.
fn number(text: &[u8]) -> Option<u32> {
    let digits = text.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

fn descriptor(text: &[u8]) -> Option<i32> {
    number(text)?.try_into().ok()
}

const DIGITS: &str = "64 lower-case hexadecimal digits";
/// A GPU's driver alone is about a hundred files.
const VOLUME_LIMIT: usize = 256;
const REQUEST_LIMIT: usize = 1024;
const PATH_LIMIT: usize = 4095;

/// Why an argument list is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// There is no verb, or not even a program name.
    NoVerb,
    /// A word that is not known here.
    Unknown(Vec<u8>),
    /// An option that may be given once is there twice.
    Repeated(&'static str),
    /// An option that must be given is not.
    Missing(&'static str),
    /// An option's value has the wrong form.
    Value(&'static str, &'static str),
    /// A volume has the wrong form.
    Volume(VolumeError),
    /// There are more volumes than anybody needs.
    TooManyVolumes,
    /// A descriptor to keep is not open.
    NotOpen(i32),
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVerb => f.write_str("gantry-suid is run by `gantry` and by Slurm, not by hand"),
            Self::Unknown(word) => write!(f, "gantry-suid does not understand `{}`", Shown(word)),
            Self::Repeated(name) => write!(f, "{name} is given twice"),
            Self::Missing(name) => write!(f, "{name} is missing"),
            Self::Value(name, wants) => write!(f, "{name} wants {wants}"),
            Self::Volume(error) => error.fmt(f),
            Self::TooManyVolumes => write!(f, "more than {VOLUME_LIMIT} volumes are asked for"),
            Self::NotOpen(number) => write!(f, "descriptor {number} is to be kept but is not open"),
        }
    }
}

#[cfg(test)]
mod tests;
