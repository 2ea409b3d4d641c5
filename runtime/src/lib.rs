//! The set-user-id program: mounts an image for its caller and becomes the caller again.
//!
//! [`run`] is the table of contents; its order is fixed: sanitise, parse, read the configuration, plan, execute.
//! No `std`, no threads, no helper process, no shell, no name service; the environment is data that is handed on.
#![no_std]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

extern crate alloc;

pub mod accounts;
pub mod caller;
pub mod environment;
pub mod errno;
pub mod error;
pub mod execute;
pub mod image;
pub mod loop_device;
pub mod mounts;
pub mod namespaces;
pub mod plan;
pub mod prepare;
pub mod privileges;
pub mod request;
pub mod sanitize;
pub mod skeleton;
pub mod sys;
pub mod trust;

use alloc::vec::Vec;
use caller::Caller;
use core::ffi::CStr;
use error::{Error, Standing, cannot, complain};
use request::{Request, Run, UsageError};
use sanitize::Inherited;
use sys::{Errno, Fd};
use udiroot_conf::{CONF_LIMIT, Conf};

/// Acts for the caller and returns the exit code; returns not at all where a command is run.
///
/// `arguments` starts with the program's name, as the kernel has it, and may be empty.
pub fn run(arguments: &[&CStr], environment: &[&CStr]) -> i32 {
    match act(arguments, environment) {
        Ok(()) => 0,
        Err(error) => {
            error.report();
            error.exit_code()
        }
    }
}

fn act(arguments: &[&CStr], environment: &[&CStr]) -> Result<(), Error> {
    let caller = Caller::from_kernel()?;
    let inherited = sanitize::process()?;
    privileges::reduce(&caller)?;
    let words: Vec<&[u8]> = arguments.iter().map(|word| word.to_bytes()).collect();
    match request::parse(&words)? {
        Request::Run(run) => run_command(&caller, &inherited, &run, environment),
        Request::Prepare(digest, job) => prepare::prepare(&caller, digest, job),
        Request::Hold(digest, number) => {
            check_open(&[number])?;
            prepare::hold(&caller, digest, number)
        }
        Request::Release(job) => prepare::release(&caller, job),
    }
}

fn run_command(
    caller: &Caller,
    inherited: &Inherited,
    run: &Run,
    environment: &[&CStr],
) -> Result<(), Error> {
    if caller.is_root() {
        return Err(Standing::Root.into());
    }
    // Before anything of ours is open: a number that becomes ours later must not be kept.
    check_open(&run.keep_fds)?;
    let working_directory = sys::working_directory();
    let conf = load_conf()?;
    let plan = plan::plan(caller, &conf, run)?;
    if run.explain && !run.time {
        return sys::write_to(1, plan::describe(&plan).as_bytes())
            .map(drop)
            .map_err(cannot("print the plan"));
    }
    let (rules, hooks) = plan::rules_and_hooks(&conf, run);
    let context =
        execute::Context { caller, run, inherited, environment, rules, hooks, working_directory };
    match execute::all(&plan, &context)? {}
}

fn check_open(numbers: &[i32]) -> Result<(), UsageError> {
    match numbers.iter().find(|number| !sys::is_open(**number)) {
        Some(number) => Err(UsageError::NotOpen(*number)),
        None => Ok(()),
    }
}

/// Reads the configuration: root's, in directories of root's, by descriptor.
fn load_conf() -> Result<Conf, Error> {
    let (directory, name) = CONF_PATH.rsplit_once('/').unwrap_or(("/", CONF_PATH));
    let above = trust::open_directory(directory, &[0])?;
    let (file, _) = trust::open_file(&above, directory, name, 0)?;
    let text =
        trust::read_whole(&file, CONF_LIMIT).map_err(cannot("read /etc/gantry/udiRoot.conf"))?;
    Ok(udiroot_conf::parse(&text)?)
}

/// Opens `/run/gantry`, and makes it where the node's boot has not. The caller of this holds root's file identity.
fn run_directory() -> Result<Fd, Error> {
    match trust::open_directory(RUN_PATH, &[0]) {
        Err(error) if error.is_missing() => {
            match sys::make_directory(None, c"/run/gantry", 0o755) {
                Ok(()) | Err(Errno(libc::EEXIST)) => {}
                Err(errno) => return Err(cannot("make /run/gantry")(errno)),
            }
            Ok(trust::open_directory(RUN_PATH, &[0])?)
        }
        opened => Ok(opened?),
    }
}

/// Ends the process over a defect of its own, saying nothing that somebody else chose.
pub fn die_of_a_defect() -> ! {
    complain("gantry: internal error, nothing was run\n");
    sys::exit(125)
}

/// Compiled in: the place of a set-user-id program can be influenced by whoever can link to it (CVE-2021-44730).
const CONF_PATH: &str = "/etc/gantry/udiRoot.conf";
/// Root's directory for the lock and the jobs.
const RUN_PATH: &str = "/run/gantry";
/// An empty directory that is packaged, so that nothing is created or removed as root (CVE-2026-3888).
const STAGING_PATH: &str = "/usr/libexec/gantry/root";
