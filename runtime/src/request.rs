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
use core::str::FromStr;
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
    let (verb, rest) = match arguments {
        [] | [_] => return Err(UsageError::NoVerb),
        [_, verb, rest @ ..] => (*verb, rest),
    };
    let mut words = Words::default();
    let mut rest = rest.iter();
    let mut command = Vec::new();
    while let Some(word) = rest.next() {
        if *word == b"--" {
            command = rest.map(|word| word.to_vec()).collect();
            break;
        }
        words.take(verb, word)?;
    }
    if verb != b"run" && !command.is_empty() {
        return Err(UsageError::Unknown(b"--".to_vec()));
    }
    match verb {
        b"run" => words.finish(command).map(Request::Run),
        b"prepare" => Ok(Request::Prepare(words.digest()?, words.job()?)),
        b"release" => Ok(Request::Release(words.job()?)),
        b"hold" => Ok(Request::Hold(words.digest()?, words.fd.ok_or(UsageError::Missing("--fd"))?)),
        _ => Err(UsageError::Unknown(verb.to_vec())),
    }
}

/// The options seen so far.
#[derive(Default)]
struct Words {
    digest: Option<Digest>,
    request: Option<String>,
    volumes: Vec<Volume>,
    workdir: Option<Workdir>,
    env: Vec<Vec<u8>>,
    clear_environment: Option<()>,
    entrypoint: Option<Entrypoint>,
    keep_fds: Vec<i32>,
    passwd: Option<Vec<u8>>,
    groups: Vec<Vec<u8>>,
    explain: Option<()>,
    time: Option<()>,
    job: Option<Job>,
    fd: Option<i32>,
}

impl Words {
    fn take(&mut self, verb: &[u8], word: &[u8]) -> Result<(), UsageError> {
        let at = word.iter().position(|&byte| byte == b'=');
        let (name, value) = match at.and_then(|at| word.split_at_checked(at)) {
            Some((name, value)) => (name, value.get(1..)),
            None => (word, None),
        };
        let bad = |wants| UsageError::Value(name.to_vec(), wants);
        match (verb, name, value) {
            (b"run" | b"prepare" | b"hold", b"--digest", Some(text)) => {
                let digest = core::str::from_utf8(text).ok().map(Digest::from_hex);
                let digest = digest.and_then(Result::ok);
                once(
                    &mut self.digest,
                    digest.ok_or_else(|| bad("64 lower-case hexadecimal digits"))?,
                    name,
                )
            }
            (b"prepare" | b"release", b"--job", Some(text)) => {
                once(&mut self.job, Job(number(text).ok_or_else(|| bad("a number"))?), name)
            }
            (b"hold", b"--fd", Some(text)) => {
                once(&mut self.fd, descriptor(text).ok_or_else(|| bad("an open descriptor"))?, name)
            }
            (b"run", _, _) => self.take_for_run(name, value, &bad),
            _ => Err(UsageError::Unknown(word.to_vec())),
        }
    }

    fn take_for_run(
        &mut self,
        name: &[u8],
        value: Option<&[u8]>,
        bad: &dyn Fn(&'static str) -> UsageError,
    ) -> Result<(), UsageError> {
        match (name, value) {
            (b"--request", Some(text)) if text.len() <= REQUEST_LIMIT => {
                once(&mut self.request, utf8(text).ok_or_else(|| bad("UTF-8 text"))?, name)
            }
            (b"--volume", Some(text)) => {
                let text = utf8(text).ok_or_else(|| bad("UTF-8 text"))?;
                let more = parse_list(&text, Origin::User).map_err(UsageError::Volume)?;
                if more.is_empty() {
                    return Err(bad("SOURCE:TARGET[:ro]"));
                }
                self.volumes.extend(more);
                if self.volumes.len() > VOLUME_LIMIT {
                    Err(UsageError::TooManyVolumes)
                } else {
                    Ok(())
                }
            }
            (b"--workdir", None) => once(&mut self.workdir, Workdir::Image, name),
            (b"--workdir", Some(path)) if path.starts_with(b"/") && path.len() <= PATH_LIMIT => {
                once(&mut self.workdir, Workdir::Path(path.to_vec()), name)
            }
            (b"--workdir", Some(_)) => Err(bad("an absolute path")),
            (b"--env", Some(item)) if item.iter().position(|&byte| byte == b'=') > Some(0) => {
                self.env.push(item.to_vec());
                Ok(())
            }
            (b"--env", _) => Err(bad("NAME=VALUE")),
            (b"--clearenv", None) => once(&mut self.clear_environment, (), name),
            (b"--explain", None) => once(&mut self.explain, (), name),
            (b"--time", None) => once(&mut self.time, (), name),
            (b"--entrypoint", None) => once(&mut self.entrypoint, Entrypoint::Image, name),
            (b"--entrypoint", Some(program)) if !program.is_empty() => {
                once(&mut self.entrypoint, Entrypoint::Program(program.to_vec()), name)
            }
            (b"--keep-fd", Some(text)) => {
                self.keep_fds.push(descriptor(text).ok_or_else(|| bad("an open descriptor"))?);
                Ok(())
            }
            (b"--passwd", Some(line)) => once(&mut self.passwd, line.to_vec(), name),
            (b"--group", Some(line)) => {
                self.groups.push(line.to_vec());
                Ok(())
            }
            _ => Err(UsageError::Unknown(name.to_vec())),
        }
    }

    fn digest(&self) -> Result<Digest, UsageError> {
        self.digest.ok_or(UsageError::Missing("--digest"))
    }

    fn job(&self) -> Result<Job, UsageError> {
        self.job.ok_or(UsageError::Missing("--job"))
    }

    fn finish(self, command: Vec<Vec<u8>>) -> Result<Run, UsageError> {
        Ok(Run {
            digest: self.digest()?,
            request: self.request,
            volumes: self.volumes,
            workdir: self.workdir.unwrap_or(Workdir::Caller),
            env: self.env,
            clear_environment: self.clear_environment.is_some(),
            entrypoint: self.entrypoint.unwrap_or(Entrypoint::None),
            keep_fds: self.keep_fds,
            passwd: self.passwd,
            groups: self.groups,
            explain: self.explain.is_some(),
            time: self.time.is_some(),
            command,
        })
    }
}

fn once<T>(slot: &mut Option<T>, value: T, name: &[u8]) -> Result<(), UsageError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(UsageError::Repeated(name.to_vec())),
    }
}

fn utf8(text: &[u8]) -> Option<String> {
    core::str::from_utf8(text).ok().map(String::from)
}

/// Digits only: `u32::from_str` alone would take a sign.
fn number(text: &[u8]) -> Option<u32> {
    let digits = text.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(text).ok().filter(|_| digits).and_then(|text| u32::from_str(text).ok())
}

fn descriptor(text: &[u8]) -> Option<i32> {
    number(text).and_then(|number| i32::try_from(number).ok())
}

const VOLUME_LIMIT: usize = 64;
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
    Repeated(Vec<u8>),
    /// An option that must be given is not.
    Missing(&'static str),
    /// An option's value has the wrong form.
    Value(Vec<u8>, &'static str),
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
            Self::Repeated(name) => write!(f, "{} is given twice", Shown(name)),
            Self::Missing(name) => write!(f, "{name} is missing"),
            Self::Value(name, wants) => write!(f, "{} wants {wants}", Shown(name)),
            Self::Volume(error) => error.fmt(f),
            Self::TooManyVolumes => write!(f, "more than {VOLUME_LIMIT} volumes are asked for"),
            Self::NotOpen(number) => write!(f, "descriptor {number} is to be kept but is not open"),
        }
    }
}

#[cfg(test)]
mod tests;
