//! One function for each callback: from Slurm into the rooms of the plugin, and back as a number.
//!
//! No panic and no error passes this door. A client gets its error at once. slurmstepd never gets one, because
//! Slurm would drain the node: it is kept, and the task ends with it.

use crate::config::{self, Config, ConfigError};
use crate::options::{self, Image, Options};
use crate::spank::{self, Context, Handle};
use crate::stepd::{self, Plan};
use crate::{guard, submit, task, variables};
use std::error::Error;
use std::ffi::c_int;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// What earlier callbacks left for later ones; one per process, inherited by the tasks that slurmstepd forks.
#[derive(Debug)]
struct State {
    config: Result<Config, ConfigError>,
    options: Options,
    /// In a client: the image of the first component that it submits.
    first: Option<Image>,
    plan: Option<Plan>,
    /// The first thing that went wrong in slurmstepd.
    failure: Option<String>,
}

/// Has panics of the plugin written to Slurm's log, not to the standard error of whoever loaded it.
#[cfg(not(test))]
pub(crate) fn quieten_panics() {
    panic::set_hook(Box::new(|panic| spank::log_debug(&format!("gantry: {panic}"))));
}

/// `slurm_spank_init`: takes the words of plugstack.conf and offers the options.
///
/// Never fails: every srun of the cluster would.
pub(crate) fn init(spank: &mut Handle<'_>, words: &[String]) -> c_int {
    let context = spank::context();
    if context == Context::Elsewhere {
        return SUCCESS;
    }
    let done = guarded(|| {
        // Without the lock: Slurm may call back while it registers.
        let config = config::parse(words);
        let registered =
            options::register(spank, config.as_ref().is_ok_and(|config| config.pyxis_options));
        state().config = config;
        registered.map_err(|error| chain(&error))
    });
    if let Err(text) = done {
        if context.is_client() {
            complain(&text);
        } else {
            remember(text);
        }
    }
    SUCCESS
}

/// The callback of an option.
pub(crate) fn option(number: c_int, text: &str, is_remote: bool) -> c_int {
    match guarded(|| state().options.take(number, text).map_err(|error| chain(&error))) {
        Ok(()) => SUCCESS,
        Err(text) if is_remote => {
            remember(text);
            SUCCESS
        }
        Err(text) => {
            complain(&text);
            FAILURE
        }
    }
}

/// `slurm_spank_init_post_opt`: resolves in a client, prepares in slurmstepd. 0, or the code with which the client
/// must end at once.
pub(crate) fn post_options(spank: &mut Handle<'_>) -> c_int {
    match spank::context() {
        context @ (Context::Srun | Context::Allocator) => {
            let done = guarded(|| {
                let mut state = state();
                let State { config, options, first, .. } = &mut *state;
                // Called once for each component of a heterogeneous job.
                let first = first.get_or_insert_with(|| options.image.clone());
                submit::check_component(first, &options.image).map_err(|error| chain(&error))?;
                submit::submit(spank, context, config, options).map_err(|error| chain(&error))
            });
            done.map_or_else(
                |text| {
                    complain(&text);
                    NOT_SUBMITTED
                },
                |()| SUCCESS,
            )
        }
        Context::Step => {
            let done = guarded(|| {
                let mut state = state();
                let plan = stepd::plan(spank, &state.config, &state.options);
                state.plan = Some(plan.map_err(|error| chain(&error))?);
                Ok(())
            });
            done.unwrap_or_else(remember);
            SUCCESS
        }
        Context::Elsewhere => SUCCESS,
    }
}

/// `slurm_spank_task_init`: 0, or the code with which the task must end at once.
pub(crate) fn task(spank: &mut Handle<'_>) -> c_int {
    let done = guarded(|| {
        // From inside whichever image the job was submitted: what slurmstepd starts is not inside it.
        spank.unset_job_variable(variables::INSIDE);
        let state = state();
        if let Some(text) = &state.failure {
            return Err(text.clone());
        }
        match &state.plan {
            None if matches!(state.options.image, Image::Wanted(_)) => {
                Err("Slurm did not have this step prepared".to_owned())
            }
            None | Some(Plan::Host) => Ok(()),
            Some(Plan::Enter(entry)) => task::enter(spank, entry).map_err(|error| chain(&error)),
        }
    });
    match done {
        Ok(()) => {
            // A step that Slurm told this node nothing about is not the plugin's to let through.
            if state().options.image != Image::Unsaid {
                guard::satisfy(spank);
            }
            SUCCESS
        }
        Err(text) => {
            text.lines().for_each(|line| spank::log_to_user(&format!("gantry: {line}")));
            TASK_REFUSED
        }
    }
}

/// Runs `body`; a panic in it becomes an error.
fn guarded(body: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Err(format!("defect in the Slurm plugin: {}", text.unwrap_or("no message")))
    })
}

/// The state, also after a panic: whoever panicked left a failure behind that comes first.
fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a failure in slurmstepd for the tasks.
fn remember(text: String) {
    spank::log_debug(&format!("gantry: {text}"));
    state().failure.get_or_insert(text);
}

/// Tells the user of a client.
fn complain(text: &str) {
    text.lines().for_each(spank::log_error);
}

/// An error with everything behind it. A hint, which is a line of its own, stays the last line.
fn chain(error: &dyn Error) -> String {
    let own = error.to_string();
    let (mut text, hint) = match own.split_once('\n') {
        Some((text, hint)) => (text.to_owned(), Some(hint)),
        None => (own.clone(), None),
    };
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    hint.map_or(text.clone(), |hint| format!("{text}\n{hint}"))
}

impl State {
    /// Before the first callback.
    fn new() -> Self {
        Self {
            config: config::parse(&[]),
            options: Options::new(),
            first: None,
            plan: None,
            failure: None,
        }
    }
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| Mutex::new(State::new()));

/// ESPANK_SUCCESS, and any other number.
const SUCCESS: c_int = 0;
const FAILURE: c_int = -1;

/// What srun and sbatch end with for errors of their own.
const NOT_SUBMITTED: c_int = 1;

/// Gantry's own failure, as the runtime and env(1) have it.
const TASK_REFUSED: c_int = 125;

#[cfg(test)]
mod tests;
