//! srun, sbatch and salloc: turns `--image` into a digest before anything is submitted.
//!
//! Runs as the user. Failing here is cheap and loud: the command ends, no node has seen anything.

use crate::config::{Config, ConfigError, Enter};
use crate::guard::{self, Armed};
use crate::options::{Image, Inside, Options, Request};
use crate::resolve::{self, ResolveError, Wait};
use crate::spank::{self, Context, Handle, SpankError};
use crate::variables::{self, Found};
use std::{env, fmt};

/// Resolves the image, where one was asked for, and writes it into the job's environment.
///
/// # Errors
/// See [`SubmitError`].
pub(crate) fn submit(
    spank: &mut Handle<'_>,
    context: Context,
    config: &Result<Config, ConfigError>,
    options: &Options,
) -> Result<(), SubmitError> {
    let request = match &options.image {
        Image::Wanted(request) => request,
        Image::Unsaid if options.inside != Inside::default() => return Err(SubmitError::NoImage),
        Image::Off => {
            guard::disarm();
            return Ok(());
        }
        Image::Unsaid => return Ok(()),
    };
    let config = config.as_ref().map_err(|error| SubmitError::Config(error.clone()))?;
    if context == Context::Srun && !spank::can_prepend() && asks_for_many_programs() {
        return Err(SubmitError::ManyPrograms);
    }
    if context == Context::Srun && config.enter != Enter::Explicit && says(TASK_PROLOG) {
        return Err(SubmitError::TaskProlog);
    }
    if guard::arm(config, request) == Armed::Now && context == Context::Srun {
        spank::restart().map_err(SubmitError::Restart)?;
    }
    let found = match known_to_job(context, request) {
        Some(digest) => Found::There(digest),
        None => {
            let digest = resolve::resolve(config, request, options.wait);
            let digest = digest.map_err(SubmitError::Resolve)?;
            match options.wait {
                Wait::Yes => Found::There(digest),
                Wait::No => Found::Awaited(digest),
            }
        }
    };
    variables::export(spank, request, &found, &options.inside).map_err(SubmitError::Export)
}

/// Holds the components of a heterogeneous job to one image.
///
/// Slurm hands the options of one component to the steps of all, so that some would run in another's image.
///
/// # Errors
/// Where this component has another image than the first.
pub(crate) fn check_component(first: &Image, image: &Image) -> Result<(), SubmitError> {
    if first == image { Ok(()) } else { Err(SubmitError::Components) }
}

/// The digest that the job around this srun has for `request`: one job, one version of its image, no question to
/// the gateway for each step.
fn known_to_job(context: Context, request: &Request) -> Option<image_ref::Digest> {
    let is_step = context == Context::Srun && spank::variable(c"SLURM_JOB_ID").is_some();
    is_step.then(|| variables::known_digest(request, spank::variable)).flatten()
}

/// Whether this srun has `--multi-prog`, in one of the spellings that getopt_long(3) takes for it.
///
/// Before 23.11 a plugin cannot change the program of such a task, which would then run on the host. A program
/// that has an argument of this name is taken for it, too: refusing it is the safe mistake.
fn asks_for_many_programs() -> bool {
    spank::variable(c"SLURM_MULTI_PROG").is_some() || says(MULTI_PROG)
}

/// Whether this srun has an option, in one of the spellings that getopt_long(3) takes for it. A program's own
/// argument is taken for srun's, too.
fn says(option: LongOption) -> bool {
    env::args_os().skip(1).any(|word| option.is(&word.to_string_lossy()))
}

/// A long option, and the shortest spelling that no other begins with.
#[derive(Clone, Copy, Debug)]
struct LongOption {
    name: &'static str,
    shortest: &'static str,
}

impl LongOption {
    fn is(self, word: &str) -> bool {
        let name = word.split('=').next().unwrap_or_default();
        name.len() >= self.shortest.len() && self.name.starts_with(name)
    }
}

const MULTI_PROG: LongOption = LongOption { name: "--multi-prog", shortest: "--mu" };
const TASK_PROLOG: LongOption = LongOption { name: "--task-prolog", shortest: "--task-p" };

/// Why a job is not submitted.
#[derive(Debug)]
pub(crate) enum SubmitError {
    /// An option about the inside of an image, and none.
    NoImage,
    /// plugstack.conf on this machine is wrong.
    Config(ConfigError),
    /// `--multi-prog`, in a Slurm in which its tasks cannot be entered.
    ManyPrograms,
    /// Components of a heterogeneous job have different images.
    Components,
    /// `--task-prolog`, whose place the guard takes.
    TaskProlog,
    /// The client could not begin anew.
    Restart(std::io::Error),
    /// The gateway has no digest for it.
    Resolve(ResolveError),
    /// Slurm refused a variable.
    Export(SpankError),
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoImage => f.write_str(
                "options about the inside of an image, such as --volume, need --image",
            ),
            Self::Config(_) => f.write_str("--image cannot be used here"),
            Self::ManyPrograms => f.write_str(
                "--multi-prog with --image needs Slurm 23.11 or later\nhint: name `gantry` in front of the programs in the file and add --image=none",
            ),
            Self::Components => f.write_str(
                "a heterogeneous job has one image for all of its components\nhint: give it to the first one alone, and another to a step: srun --het-group=1 --image=REFERENCE",
            ),
            Self::TaskProlog => f.write_str(
                "--task-prolog with --image does not reach Gantry's guard against tasks on the host\nhint: export SLURM_TASK_PROLOG instead, which it runs behind itself",
            ),
            Self::Restart(_) => f.write_str("cannot begin anew with a guarded environment"),
            // The errors below are whole sentences already.
            Self::Resolve(error) => write!(f, "{error}"),
            Self::Export(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for SubmitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Resolve(error) => error.source(),
            Self::Restart(error) => Some(error),
            Self::Export(_)
            | Self::NoImage
            | Self::ManyPrograms
            | Self::Components
            | Self::TaskProlog => None,
        }
    }
}

#[cfg(test)]
mod tests;
