//! `gantry-guard`: the task prolog of steps whose tasks belong into an image (srun(1), `--task-prolog`).
//!
//! The plugin of the submitting host names it. A node without the plugin would run such a task on the host: there nobody
//! has taken [`REQUIRED`] from the task's environment, and this program ends the task. A node without this program ends
//! it too, because Slurm cannot run what it was told to run first. Nothing here is a matter of security: whoever runs a
//! task may change its environment, and has only lost a guard of their own.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "that is how a task prolog speaks")]

use std::env;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    if let Some(image) = env::var_os(REQUIRED) {
        let node = env::var_os("SLURMD_NODENAME").unwrap_or_default();
        return refuse(&format!(
            "node {} did not put the task into the image {}: the Slurm on it does not load Gantry's plugin\n\
             hint: leave the node out with --exclude={0}, and tell your administrators: its plugstack.conf lacks the line",
            shown(&node),
            shown(&image)
        ));
    }
    // What was the task prolog before this one.
    let Some(prolog) = env::var_os(PROLOG).filter(|path| !path.is_empty()) else {
        return ExitCode::SUCCESS;
    };
    let error = Command::new(&prolog).exec();
    refuse(&format!("cannot run the task prolog {}: {error}", shown(&prolog)))
}

/// Ends the task. Slurm drops what a task prolog writes to standard error, and hands on behind `print` to the task's
/// standard output (srun(1), `--task-prolog`).
fn refuse(text: &str) -> ExitCode {
    for line in text.lines() {
        println!("print gantry: {line}");
    }
    ExitCode::from(125)
}

/// Somebody else's text, fit for a terminal.
fn shown(text: &OsStr) -> String {
    text.to_string_lossy().chars().take(200).collect::<String>().escape_debug().to_string()
}

/// What the task is to run in; a node with the plugin takes it away. `spank-plugin/src/guard.rs` has both names, too.
const REQUIRED: &str = "SLURM_SPANK_GANTRY_INSIDE";
const PROLOG: &str = "SLURM_SPANK_GANTRY_TASK_PROLOG";
