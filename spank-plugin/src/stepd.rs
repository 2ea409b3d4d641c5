//! slurmstepd, once per step and node, as root: decides what the tasks will do and has the image mounted.
//!
//! Nothing here may fail in Slurm's eyes, because Slurm would drain the node. What went wrong is kept for the
//! tasks, which end with it.

use crate::config::{Config, ConfigError, Enter};
use crate::hold::{self, HoldError};
use crate::options::{Image, Inside, Options, Request};
use crate::spank::{self, Handle, SpankError, Step};
use crate::variables;
use image_ref::Digest;
use std::fmt;

/// What the tasks of this step do.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Run where Slurm starts them.
    Host,
    /// Enter an image.
    Enter(Box<Entry>),
}

/// How the tasks of this step get into their image.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The site's programs.
    pub(crate) config: Config,
    /// What was asked for.
    pub(crate) request: Request,
    /// What submission made of it; `None` where it did not tell, then the front end asks for each task.
    pub(crate) digest: Option<Digest>,
    /// What else was asked for.
    pub(crate) inside: Inside,
    /// Whether the task is a batch script in Slurm's spool directory, which the image does not have.
    pub(crate) is_script: bool,
}

/// Decides from options and environment, and mounts.
///
/// # Errors
/// Why the tasks must not start: to be told by them, never returned to Slurm.
pub(crate) fn plan(
    spank: &Handle<'_>,
    config: &Result<Config, ConfigError>,
    options: &Options,
) -> Result<Plan, StepError> {
    let Image::Wanted(request) = &options.image else { return Ok(Plan::Host) };
    let step = spank.step().map_err(StepError::Step)?;
    if step == Step::Extern {
        return Ok(Plan::Host);
    }
    let config = config.as_ref().map_err(|error| StepError::Config(error.clone()))?;
    let digest = variables::known_digest(request, |name| spank.job_variable(name));
    let held = digest.map_or(Ok(None), |digest| hold::hold(&config.suid, &digest).map(Some));
    if !is_entered(config.enter, step) {
        if let Err(error) = &held {
            // The script may do without; each srun will tell.
            spank::log_debug(&format!("gantry: image {}: {error}", request.text));
        }
        return Ok(Plan::Host);
    }
    if let Some(held) =
        held.map_err(|error| StepError::Hold { text: request.text.clone(), error })?
    {
        spank::log_debug(&format!("gantry: holding the image by descriptor {}", held.descriptor));
    }
    Ok(Plan::Enter(Box::new(Entry {
        config: config.clone(),
        request: request.clone(),
        digest,
        inside: options.inside.clone(),
        is_script: step == Step::Batch,
    })))
}

fn is_entered(enter: Enter, step: Step) -> bool {
    match enter {
        Enter::Steps => step == Step::Normal,
        Enter::All => step != Step::Extern,
        Enter::Explicit => false,
    }
}

/// Why no task of this step may start.
#[derive(Debug)]
pub(crate) enum StepError {
    /// Slurm does not say which step this is.
    Step(SpankError),
    /// plugstack.conf on this node is wrong.
    Config(ConfigError),
    /// The image is not mounted.
    Hold {
        /// What was asked for.
        text: String,
        /// Why not.
        error: HoldError,
    },
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(_) => f.write_str("cannot tell which step this is"),
            Self::Config(_) => f.write_str("images cannot be used on this node"),
            Self::Hold { text, .. } => write!(f, "cannot prepare the image {text}"),
        }
    }
}

impl std::error::Error for StepError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Step(error) => Some(error),
            Self::Config(error) => Some(error),
            Self::Hold { error, .. } => Some(error),
        }
    }
}

#[cfg(test)]
mod tests;
