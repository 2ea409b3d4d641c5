//! `gantry` (also installed as `shifter`): runs a command inside an image.
//!
//! Finds out which image is meant, asks for its digest where it must, and becomes the set-user-id program. Every
//! failure of its own ends with 125; a command that was asked to run inside an image never runs outside.

mod args;
mod caller;
mod devices;
mod enter;
mod env_file;
mod environment;
mod image;
mod show_config;

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::follow;
use crate::lookup::{self, LookupError};
use crate::output;
use crate::progress::{Mode, Progress};
use crate::site::{Site, Wishes};
use crate::usage::{self, Answer};
use args::Options;
use enter::{Ended, Entry};
use environment::{Environment, TaskProgram};
use gateway_api::PullRequest;
use image::Choice;
use image_ref::{Digest, ImageRef, SIDECAR_LIMIT, Sidecar};
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs one command line. Returns only where nothing was started.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let program = program_name(args.first());
    match run(&args, program) {
        Ok(text) => {
            output::print(&text);
            ExitCode::SUCCESS
        }
        Err(Ended { failure, code }) => {
            output::failure(program, &failure);
            ExitCode::from(code)
        }
    }
}

/// The name in front of every message: that of the link it was called by, and nothing else depends on it.
fn program_name(argv0: Option<&OsString>) -> &'static str {
    match argv0.and_then(|argv0| Path::new(argv0).file_name()) {
        Some(name) if name == "shifter" => "shifter",
        _ => "gantry",
    }
}

/// Starts what was asked for; comes back with the text that was asked for instead, or with why nothing started.
fn run(args: &[OsString], program: &'static str) -> Result<String, Ended> {
    let environment = Environment::of_process();
    let never = match environment.task_program() {
        Some(task) => run_task(&environment, task, args)?,
        None => {
            let options = match args::parse(args, program) {
                Ok(options) => options,
                Err(error) => match usage::answer(&error, &format!("{program} --help")) {
                    Answer::Text(text) => return Ok(text),
                    Answer::Wrong(failure) => return Err(failure.into()),
                },
            };
            if options.show_config {
                return Ok(show_config::text()?);
            }
            run_command(&environment, options, program)?
        }
    };
    match never {}
}

/// What a person or a script typed.
fn run_command(
    environment: &Environment,
    options: Options,
    program: &'static str,
) -> Result<Infallible, Ended> {
    let choice = image::choose(options.image.as_deref(), environment)?;
    if let Choice::Host = choice {
        if environment.is_inside() {
            return Err(
                Failure::new(Exit::Other, "cannot leave the image that this runs in").into()
            );
        }
        return enter::run_here(&options.command, &[]);
    }
    let found = find(choice, environment.awaited(), program)?;
    if environment.is_inside() {
        if environment.is_image(&found.digest) {
            return enter::run_here(&options.command_or_shell(), &[]);
        }
        return Err(already_inside(&found.request).into());
    }
    let volumes = environment.volumes(&options.volumes)?;
    let verbose = options.verbose.then_some(program);
    let mut env = Vec::new();
    for path in &options.env_file {
        env.extend(env_file::read(path)?);
    }
    env.extend(options.env);
    let mut entry = Entry {
        digest: found.digest,
        request: found.request.clone(),
        volumes,
        modules: environment.modules(options.module),
        workdir: options.workdir,
        env,
        clear_env: options.clear_env,
        entrypoint: options.entrypoint,
        keep: environment.kept_descriptors(),
        explain: options.explain,
        time: options.time,
        command: options.command,
    };
    add_devices(&mut entry, &environment.devices(options.devices), &found, verbose)?;
    enter::run_inside(&found.suid_path, &entry, &[], verbose)
}

/// A task of a Slurm step, where the plugin has put this program in the place of the task's own.
///
/// The arguments are the task's; everything else comes by the environment. There is no way past the image here.
fn run_task(
    environment: &Environment,
    task: TaskProgram,
    args: &[OsString],
) -> Result<Infallible, Ended> {
    let found = find(image::of_task(environment)?, environment.awaited(), "gantry")?;
    let command = std::iter::once(task.0).chain(args.iter().skip(1).cloned()).collect();
    let mut entry = Entry {
        digest: found.digest,
        request: found.request.clone(),
        volumes: environment.task_volumes()?,
        modules: environment.value("GANTRY_MODULE"),
        workdir: environment.task_workdir().map(Some),
        env: environment.task_env(),
        keep: environment.kept_descriptors(),
        command,
        ..Entry::default()
    };
    add_devices(&mut entry, &environment.task_devices(), &found, None)?;
    enter::run_inside(&found.suid_path, &entry, &environment::OF_TASK, None)
}

/// Adds what devices need to what the user asked for, which goes before it.
fn add_devices(
    entry: &mut Entry,
    lists: &[String],
    found: &Found,
    verbose: Option<&'static str>,
) -> Result<(), Failure> {
    if lists.is_empty() {
        return Ok(());
    }
    let injection = devices::find(lists)?;
    if let Some(program) = verbose {
        injection.notes.iter().for_each(|note| output::note(program, note));
    }
    let target = |volume: &str| volume.split(':').nth(1).map(str::to_owned);
    let own: Vec<_> = entry.volumes.iter().map(|volume| target(volume)).collect();
    let is_free = |volume: &&String| !own.contains(&target(volume));
    entry.volumes.extend(injection.volumes.iter().filter(is_free).cloned());
    entry.env.splice(..0, injection.env.iter().map(Into::into));
    let image = found.image_env();
    entry.env.extend(devices::search_paths(&injection, &entry.env, image.as_deref()));
    Ok(())
}

/// An image that can be entered.
struct Found {
    digest: image_ref::Digest,
    /// What the user wrote for it.
    request: String,
    suid_path: PathBuf,
    /// The image directory.
    image_path: Option<PathBuf>,
}

impl Found {
    /// The image's own environment, where the caller may read what lies beside it: not that of a private image.
    fn image_env(&self) -> Option<Vec<Vec<u8>>> {
        let path = self.image_path.as_ref()?.join(image_ref::sidecar_file(&self.digest));
        let mut bytes = Vec::new();
        let limit = u64::try_from(SIDECAR_LIMIT).unwrap_or(u64::MAX);
        File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
        Sidecar::decode(&bytes).ok().map(|sidecar| sidecar.env)
    }
}

fn find(choice: Choice, awaited: Option<Digest>, program: &'static str) -> Result<Found, Failure> {
    let site = Site::load(&Wishes::default())?;
    let (digest, request) = match choice {
        Choice::Digest { digest, request } => (digest, request),
        Choice::Reference { reference, request } => match awaited {
            Some(digest) => (wait_for(&site, &reference, digest, program)?, request),
            None => (ask(&site, &reference, program)?, request),
        },
        Choice::Host => return Err(image::no_image()),
    };
    Ok(Found { digest, request, suid_path: site.suid_path, image_path: site.image_path })
}

fn ask(
    site: &Site,
    reference: &ImageRef,
    program: &'static str,
) -> Result<image_ref::Digest, Failure> {
    let resolution = lookup::find(site, reference).map_err(|error| match error {
        LookupError::NotPulled(failure) | LookupError::Failed(failure) => failure,
    })?;
    if let Some(note) = resolution.note() {
        output::note(program, &note);
    }
    Ok(resolution.digest())
}

/// Waits for an image that was still being made when the job was submitted; nothing but that one will do.
fn wait_for(
    site: &Site,
    reference: &ImageRef,
    awaited: Digest,
    program: &'static str,
) -> Result<Digest, Failure> {
    let client = Client::new(site)
        .map_err(|error| error.while_trying_to(&format!("wait for {reference}")))?;
    let mut progress = Progress::new(Mode::None, program);
    let pulled = follow::pull(&client, reference, &PullRequest::default(), &mut progress)?;
    if pulled.digest == awaited {
        return Ok(awaited);
    }
    let text =
        format!("{reference} is not the image any more that it was when the job was submitted");
    Err(Failure::new(Exit::Other, text)
        .with_hint(format!("submit the job again, or with --image=id:{}", awaited.hex())))
}

fn already_inside(request: &str) -> Failure {
    Failure::new(Exit::Other, format!("cannot enter {request} from inside another image"))
        .with_hint("leave this image first, or start the command with `srun --image=`")
}
