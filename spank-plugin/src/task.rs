//! One task, as its user, between fork and exec: puts the runtime in front of what the user wants to run.
//!
//! Whoever gets an error from here ends the process: a task that asked for an image never runs on the host.

use crate::devices;
use crate::options::Inside;
use crate::spank::{Handle, SpankError};
use crate::stepd::Entry;
use crate::{identity, variables};
use image_ref::Digest;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::ffi::CString;
use std::fmt;
use std::fs::{self, File};
use std::os::fd::IntoRawFd as _;
use udiroot_conf::volume;

/// Changes the task's arguments so that it starts inside the image.
///
/// # Errors
/// See [`TaskError`]; then the task must not start.
pub(crate) fn enter(spank: &mut Handle<'_>, entry: &Entry) -> Result<(), TaskError> {
    let Entry { inside, config, .. } = entry;
    let devices = devices::of_task(spank, &inside.devices, &config.gpu_devices);
    let entry = &Entry { inside: Inside { devices, ..inside.clone() }, ..entry.clone() };
    if entry.digest.is_some() && !entry.is_script && says_front_end(spank)? {
        return hand_to_front_end(spank, entry);
    }
    let script = if entry.is_script { Some(pass_script(spank)?) } else { None };
    let words = match &entry.digest {
        Some(digest) if devices::are_none(&entry.inside.devices) => {
            let kept = pmi_descriptor(spank).into_iter().chain(script).collect::<Vec<_>>();
            runtime_words(spank, entry, digest, &kept)
        }
        // Only so does the front end learn of the script's descriptor.
        _ if entry.is_script => return swap(spank, entry),
        // What devices need stands in files, which slurmstepd is not to parse.
        digest => {
            name_configuration(spank, entry)?;
            if let Some(digest) = digest {
                name_digest(spank, entry, digest)?;
            }
            front_end_words(spank, entry)
        }
    };
    let is_done = spank.prepend_arguments(&words).map_err(TaskError::Slurm)?;
    if is_done { Ok(()) } else { swap(spank, entry) }
}

/// Whether the command is `gantry` or `shifter`, which enters the image itself: scripts written for Shifter say so,
/// and no image has them.
fn says_front_end(spank: &Handle<'_>) -> Result<bool, TaskError> {
    let program = spank.program().map_err(TaskError::Slurm)?;
    let name = program.rsplit('/').next().unwrap_or_default();
    Ok(name == "gantry" || name == "shifter")
}

/// Starts the site's front end, whatever of that name the user's PATH has, with the step's image for its own.
fn hand_to_front_end(spank: &mut Handle<'_>, entry: &Entry) -> Result<(), TaskError> {
    name_configuration(spank, entry)?;
    spank.replace_program(&entry.config.gantry.to_string_lossy()).map_err(TaskError::Slurm)?;
    name_image(spank, entry, None)
}

/// The runtime, told everything; its arguments end with `--`, the user's follow.
fn runtime_words(spank: &Handle<'_>, entry: &Entry, digest: &Digest, kept: &[i32]) -> Vec<String> {
    let mut words = vec![
        entry.config.suid.display().to_string(),
        "run".to_owned(),
        format!("--digest={}", digest.hex()),
        format!("--request={}", entry.request.text),
    ];
    words.extend(inside_words(spank, &entry.inside));
    words.extend(kept.iter().map(|descriptor| format!("--keep-fd={descriptor}")));
    words.extend(identity::arguments());
    words.push("--".to_owned());
    words
}

/// The front end, which asks for the digest itself and finds PMI's descriptor by itself.
fn front_end_words(spank: &Handle<'_>, entry: &Entry) -> Vec<String> {
    let mut words =
        vec![entry.config.gantry.display().to_string(), format!("--image={}", entry.request.text)];
    let devices = entry.inside.devices.iter();
    words.extend(devices.map(|devices| format!("--device={}", devices.as_str())));
    words.extend(inside_words(spank, &entry.inside));
    words.push("--".to_owned());
    words
}

/// What both of them take in the same words.
fn inside_words(spank: &Handle<'_>, inside: &Inside) -> Vec<String> {
    let volumes = inside.volumes.iter().map(|volume| format!("--volume={volume}"));
    let modules = inside.modules.iter().map(|names| format!("--module={names}"));
    let workdir = inside.workdir.iter().map(|path| format!("--workdir={path}"));
    let env = inside.host_env.iter().filter_map(|name| {
        let value = spank.job_variable(&CString::new(name.as_str()).ok()?)?;
        Some(format!("--env={name}={value}"))
    });
    volumes.chain(modules).chain(workdir).chain(env).collect()
}

/// Puts the front end in the place of the program, where Slurm cannot prepend (before 23.11); everything else
/// goes by the environment.
fn swap(spank: &mut Handle<'_>, entry: &Entry) -> Result<(), TaskError> {
    name_configuration(spank, entry)?;
    let program = spank.program().map_err(TaskError::Slurm)?;
    spank.replace_program(&entry.config.gantry.to_string_lossy()).map_err(TaskError::Slurm)?;
    name_image(spank, entry, Some(program))
}

/// Tells the front end by the environment which image it enters, and with which program where the arguments are the
/// program's own.
fn name_image(
    spank: &mut Handle<'_>,
    entry: &Entry,
    program: Option<String>,
) -> Result<(), TaskError> {
    let digest = entry.digest.map(|digest| digest.to_string());
    let Inside { volumes, devices, modules, workdir, host_env } = &entry.inside;
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    let variables = [
        (variables::TASK_PROGRAM, program),
        (variables::REQUEST, Some(entry.request.text.clone())),
        (variables::IMAGE, digest),
        (variables::VOLUME, text(volume::canonical(volumes))),
        (variables::DEVICE, devices.as_ref().map(|devices| devices.as_str().to_owned())),
        (variables::MODULE, modules.clone()),
        (variables::TASK_WORKDIR, workdir.clone()),
        (variables::TASK_ENV, text(host_env.join(","))),
    ];
    for (name, value) in variables {
        match value {
            Some(value) => spank.set_job_variable(name, &value).map_err(TaskError::Slurm)?,
            None => spank.unset_job_variable(name),
        }
    }
    Ok(())
}

/// Tells the front end the digest of the image that it gets by name, so that it need not ask.
fn name_digest(spank: &mut Handle<'_>, entry: &Entry, digest: &Digest) -> Result<(), TaskError> {
    let set = [(variables::REQUEST, &entry.request.text), (variables::IMAGE, &digest.to_string())]
        .map(|(name, value)| spank.set_job_variable(name, value));
    set.into_iter().collect::<Result<_, _>>().map_err(TaskError::Slurm)
}

/// Tells the front end which udiRoot.conf it reads, where plugstack.conf names one.
fn name_configuration(spank: &mut Handle<'_>, entry: &Entry) -> Result<(), TaskError> {
    let Some(conf) = &entry.config.conf else { return Ok(()) };
    let conf = conf.display().to_string();
    spank.set_job_variable(variables::CONF, &conf).map_err(TaskError::Slurm)
}

/// The descriptor by which an MPI program talks to slurmstepd, where Slurm's MPI plugin opened one (PMI-1 and
/// PMI-2, "PMI_FD").
///
/// The variable may also be left from a step around this one; then the number is that of nothing, or of something
/// of slurmstepd's that ends with the exec.
fn pmi_descriptor(spank: &Handle<'_>) -> Option<i32> {
    let descriptor = spank.job_variable(c"PMI_FD")?.parse().ok()?;
    (descriptor > 2 && outlives_exec(descriptor)).then_some(descriptor)
}

/// Whether a descriptor is open and without FD_CLOEXEC, which proc_pid_fdinfo(5) shows as O_CLOEXEC.
fn outlives_exec(descriptor: i32) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_CLOEXEC == 0)
}

/// Opens the batch script, which the image does not have, and makes the task run it by its descriptor.
///
/// Nothing needs to be bound: the interpreter in the image reads `/proc/self/fd/N`.
fn pass_script(spank: &mut Handle<'_>) -> Result<i32, TaskError> {
    let path = spank.program().map_err(TaskError::Slurm)?;
    let script =
        File::open(&path).map_err(|error| TaskError::Script { path: path.clone(), error })?;
    fcntl(&script, FcntlArg::F_SETFD(FdFlag::empty()))
        .map_err(|error| TaskError::Script { path, error: error.into() })?;
    let descriptor = script.into_raw_fd();
    spank.replace_program(&format!("/proc/self/fd/{descriptor}")).map_err(TaskError::Slurm)?;
    Ok(descriptor)
}

/// Why a task is not started.
#[derive(Debug)]
pub(crate) enum TaskError {
    /// Slurm refused what the plugin needs.
    Slurm(SpankError),
    /// The batch script cannot be passed on.
    Script {
        /// Its path in Slurm's spool directory.
        path: String,
        /// Why not.
        error: std::io::Error,
    },
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slurm(_) => f.write_str("cannot start the task in its image"),
            Self::Script { path, .. } => write!(f, "cannot open the batch script `{path}`"),
        }
    }
}

impl std::error::Error for TaskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Slurm(error) => Some(error),
            Self::Script { error, .. } => Some(error),
        }
    }
}

#[cfg(test)]
mod tests;
