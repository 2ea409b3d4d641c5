//! The twin of `host` for unit tests: no Slurm, everything that was asked of it is remembered.

use super::{Context, OptionText, SpankError, Step};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::marker::PhantomData;

/// What one test's Slurm has and has seen; each test has its own, because each runs in its own thread.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) context: Context,
    pub(crate) step: Result<Step, SpankError>,
    pub(crate) can_prepend: bool,
    /// Whether asking for the step panics.
    pub(crate) has_defect: bool,
    /// The client's own environment.
    pub(crate) client: BTreeMap<String, String>,
    /// The job control environment.
    pub(crate) control: BTreeMap<String, String>,
    /// The job's environment in slurmstepd.
    pub(crate) job: BTreeMap<String, String>,
    pub(crate) arguments: Vec<String>,
    pub(crate) options: Vec<OptionText>,
    /// How often the client began anew.
    pub(crate) restarts: usize,
    pub(crate) errors: Vec<String>,
    pub(crate) told_user: Vec<String>,
}

thread_local! {
    static WORLD: RefCell<World> = const { RefCell::new(World::new()) };
}

impl World {
    const fn new() -> Self {
        Self {
            context: Context::Step,
            step: Ok(Step::Normal),
            can_prepend: true,
            has_defect: false,
            client: BTreeMap::new(),
            control: BTreeMap::new(),
            job: BTreeMap::new(),
            arguments: Vec::new(),
            options: Vec::new(),
            restarts: 0,
            errors: Vec::new(),
            told_user: Vec::new(),
        }
    }
}

/// Looks at or changes this test's Slurm.
pub(crate) fn world<T>(with: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(with)
}

/// See `host`.
#[derive(Debug)]
pub(crate) struct Handle<'call>(PhantomData<&'call mut ()>);

impl Handle<'_> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }

    pub(crate) fn register(&mut self, option: &OptionText) -> Result<(), SpankError> {
        world(|w| w.options.push(*option));
        Ok(())
    }

    pub(crate) fn job_variable(&self, name: &CStr) -> Option<String> {
        world(|w| w.job.get(&text(name)).cloned())
    }

    pub(crate) fn set_job_variable(&mut self, name: &CStr, value: &str) -> Result<(), SpankError> {
        world(|w| w.job.insert(text(name), value.to_owned()));
        Ok(())
    }

    pub(crate) fn unset_job_variable(&mut self, name: &CStr) {
        world(|w| w.job.remove(&text(name)));
    }

    pub(crate) fn set_control_variable(
        &mut self,
        name: &CStr,
        value: &str,
    ) -> Result<(), SpankError> {
        world(|w| w.control.insert(text(name), value.to_owned()));
        Ok(())
    }

    pub(crate) fn step(&self) -> Result<Step, SpankError> {
        assert!(!world(|w| w.has_defect), "the fake's defect");
        world(|w| w.step.clone())
    }

    pub(crate) fn prepend_arguments(&mut self, words: &[String]) -> Result<bool, SpankError> {
        Ok(world(|w| {
            if w.can_prepend {
                w.arguments.splice(0..0, words.iter().cloned());
            }
            w.can_prepend
        }))
    }

    pub(crate) fn program(&self) -> Result<String, SpankError> {
        world(|w| w.arguments.first().cloned()).ok_or_else(no_program)
    }

    pub(crate) fn replace_program(&mut self, program: &str) -> Result<(), SpankError> {
        world(|w| {
            let first = w.arguments.first_mut().ok_or_else(no_program)?;
            program.clone_into(first);
            Ok(())
        })
    }
}

fn no_program() -> SpankError {
    SpankError {
        call: "spank_get_item",
        object: "S_JOB_ARGV".into(),
        reason: "the task has no program".into(),
    }
}

pub(crate) fn context() -> Context {
    world(|w| w.context)
}

pub(crate) fn can_prepend() -> bool {
    world(|w| w.can_prepend)
}

pub(crate) fn set_variable(name: &CStr, value: &str) {
    world(|w| w.client.insert(text(name), value.to_owned()));
}

pub(crate) fn unset_variable(name: &CStr) {
    world(|w| w.client.remove(&text(name)));
}

pub(crate) fn variable(name: &CStr) -> Option<String> {
    world(|w| w.client.get(&text(name)).cloned())
}

pub(crate) fn restart() -> std::io::Result<()> {
    world(|w| w.restarts += 1);
    Ok(())
}

pub(crate) fn log_error(line: &str) {
    world(|w| w.errors.push(line.to_owned()));
}

pub(crate) fn log_to_user(line: &str) {
    world(|w| w.told_user.push(line.to_owned()));
}

pub(crate) fn log_debug(_line: &str) {}

fn text(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}
