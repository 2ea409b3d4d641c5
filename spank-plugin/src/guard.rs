//! Never on the host by accident, also on a node whose plugstack.conf lacks the plugin.
//!
//! There nothing of ours runs, so the guard has to be Slurm's own: the submitting host makes `gantry-guard` the step's
//! task prolog, which every node runs before each task, and which ends the task where [`REQUIRED`] is still in its
//! environment. A node with the plugin takes that away once it has dealt with the task. All names begin with `SLURM_`,
//! because these survive `--export=NONE`.

use crate::config::{Config, Enter};
use crate::options::Request;
use crate::spank::{self, Handle};
use std::ffi::CStr;
use std::path::{Path, PathBuf};

/// What the guard asks for: the reference of the image that the task is to run in.
const REQUIRED: &CStr = c"SLURM_SPANK_GANTRY_INSIDE";

/// The task prolog that the guard runs behind itself, where the user had one.
const NEXT: &CStr = c"SLURM_SPANK_GANTRY_TASK_PROLOG";

/// srun's own variable for `--task-prolog`.
const TASK_PROLOG: &CStr = c"SLURM_TASK_PROLOG";

/// Whether the environment of this client was changed in a way that it has already read past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Armed {
    /// It was set before the client began, or matters only to what it starts.
    Already,
    /// The variable of an option: an srun has to read it again.
    Now,
}

/// Has every task of what this client submits guarded.
pub(crate) fn arm(config: &Config, request: &Request) -> Armed {
    if config.enter == Enter::Explicit {
        disarm();
        return Armed::Already;
    }
    spank::set_variable(REQUIRED, &request.text);
    let guard = program(&config.suid).display().to_string();
    match spank::variable(TASK_PROLOG) {
        Some(own) if own == guard => return Armed::Already,
        Some(own) => spank::set_variable(NEXT, &own),
        None => spank::unset_variable(NEXT),
    }
    spank::set_variable(TASK_PROLOG, &guard);
    Armed::Now
}

/// Lets tasks on the host: what this client submits wants no image. The guard, where a job around has it, stays and
/// has nothing to ask for.
pub(crate) fn disarm() {
    spank::unset_variable(REQUIRED);
}

/// Tells the guard that the plugin of this node has seen to the task.
pub(crate) fn satisfy(spank: &mut Handle<'_>) {
    spank.unset_job_variable(REQUIRED);
}

/// The guard lies beside the runtime, on submitting hosts and nodes alike.
fn program(suid: &Path) -> PathBuf {
    suid.with_file_name("gantry-guard")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spank::world;

    fn variable(name: &CStr) -> Option<String> {
        world(|w| w.client.get(&*name.to_string_lossy()).cloned())
    }

    fn request() -> Request {
        Request::parse("docker:a:1").unwrap()
    }

    #[test]
    fn the_guard_is_the_task_prolog_and_runs_the_users_own_behind_it() {
        let config = Config::default();
        world(|w| w.client.insert("SLURM_TASK_PROLOG".into(), "/home/a/prolog".into()));
        assert_eq!(arm(&config, &request()), Armed::Now);
        let guard = Some("/usr/libexec/gantry/gantry-guard");
        assert_eq!(variable(TASK_PROLOG).as_deref(), guard);
        assert_eq!(variable(NEXT).as_deref(), Some("/home/a/prolog"));
        assert_eq!(variable(REQUIRED).as_deref(), Some("docker:a:1"));
        // A step of that job, or an srun that has begun anew.
        assert_eq!(arm(&config, &request()), Armed::Already);
        assert_eq!(variable(NEXT).as_deref(), Some("/home/a/prolog"));
    }

    #[test]
    fn nobodys_task_prolog_is_left_over_from_another_job() {
        world(|w| w.client.insert("SLURM_SPANK_GANTRY_TASK_PROLOG".into(), "/old".into()));
        assert_eq!(arm(&Config::default(), &request()), Armed::Now);
        assert_eq!(variable(NEXT), None);
    }

    #[test]
    fn where_tasks_belong_on_the_host_nothing_is_asked_for() {
        world(|w| w.client.insert("SLURM_SPANK_GANTRY_INSIDE".into(), "docker:a:1".into()));
        let config = Config { enter: Enter::Explicit, ..Config::default() };
        assert_eq!(arm(&config, &request()), Armed::Already);
        assert_eq!((variable(REQUIRED), variable(TASK_PROLOG)), (None, None));
    }
}
