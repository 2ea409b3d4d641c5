//! The sandbox: entered before the first message is read, and never left.
//!
//! Three walls, each enough by itself against most of what a hostile layer could make this process do: a list of the
//! few system calls that it needs ([`seccomp`]), no path and no port ([`landlock`]), and bounded resources. It also
//! dies with the gateway and cannot be looked into by others of the same account.

mod landlock;
mod seccomp;

use std::fmt;
use std::io;

use converter_api::Options;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;

/// The sandbox that this process is in.
#[derive(Debug)]
pub struct Sandbox {
    landlock: landlock::Enforced,
}

/// Puts this process into the sandbox, for ever; `parent` is the process that it is to die with.
///
/// To be called before there is a second thread: two of the walls stand around the calling thread and those that it
/// starts.
///
/// # Errors
/// [`SandboxError`]: the process must not go on. That the kernel has no Landlock is no error.
pub fn enter(parent: Option<i32>) -> Result<Sandbox, SandboxError> {
    let step = |step| move |source: Errno| SandboxError::Step { step, source: source.into() };
    close_inherited().map_err(|source| SandboxError::Step { step: "close files", source })?;
    std::env::set_current_dir("/")
        .map_err(|source| SandboxError::Step { step: "leave its directory", source })?;
    prctl::set_dumpable(false).map_err(step("forbid to be looked into"))?;
    if let Some(parent) = parent {
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(step("tie its life to the gateway's"))?;
        // It may have died before that took effect.
        if getppid().as_raw() != parent {
            return Err(SandboxError::Orphan);
        }
    }
    for (resource, limit) in LIMITS {
        lower(resource, limit).map_err(step("limit its resources"))?;
    }
    block_signals().map_err(step("block signals"))?;
    prctl::set_no_new_privs().map_err(step("renounce privileges"))?;
    let landlock = landlock::enforce()?;
    seccomp::enforce()?;
    Ok(Sandbox { landlock })
}

impl Sandbox {
    /// Limits how large a file may become to what these options could ever need.
    pub(crate) fn limit_files(&self, options: &Options) {
        // Data that does not compress, the tables with their names, and an index of it all.
        let tables = options.entries.saturating_mul(1 << 10).saturating_add(1 << 30);
        let limit = options.expanded_bytes.saturating_mul(2).saturating_add(tables);
        // Only ever lowered, which is always allowed; the conversion has its own limits besides.
        let _ = lower(Resource::RLIMIT_FSIZE, limit);
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seccomp: on; landlock: {}", self.landlock)
    }
}

/// Closes what the gateway did not mean to pass on: a library of it may open files that programs inherit.
fn close_inherited() -> io::Result<()> {
    let listed: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in listed {
        match nix::unistd::close(number) {
            // One of them was the list itself.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Lowers a limit for good; one that is lower already stays.
fn lower(resource: Resource, limit: u64) -> Result<(), Errno> {
    let (_, hard) = getrlimit(resource)?;
    let limit = if hard == RLIM_INFINITY { limit } else { limit.min(hard) };
    setrlimit(resource, limit, limit)
}

/// What a terminal or systemd sends to all processes is for the gateway to act upon; a file that would become too
/// large is an error of the write and no reason to die.
fn block_signals() -> Result<(), Errno> {
    let mut set = SigSet::empty();
    for signal in
        [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGXFSZ]
    {
        set.add(signal);
    }
    set.thread_block()
}

/// `RLIMIT_NPROC` is not here: it counts all that the account runs, the gateway's threads too. That this process starts
/// no other is the business of [`seccomp`].
const LIMITS: [(Resource, u64); 3] = [
    (Resource::RLIMIT_CORE, 0),
    // The image, the images that it may borrow from, and a pipe for each layer that is being read.
    (Resource::RLIMIT_NOFILE, 256),
    // What is promised is 256 MiB on two processors, and each one adds a few. The largest image that is allowed has
    // millions of names, which are held in memory; above this something is wrong, and the machine has other work.
    (Resource::RLIMIT_DATA, 4 << 30),
];

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A step failed.
    #[error("the converter cannot {step}")]
    Step {
        /// What it could not do.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The gateway is gone.
    #[error("the gateway that started the converter is gone")]
    Orphan,
    /// Seccomp does not work here.
    #[error("the converter cannot restrict its system calls")]
    Seccomp(#[from] seccomp::SeccompError),
    /// Landlock is there and refused.
    #[error("the converter cannot renounce files and network")]
    Landlock(#[from] ::landlock::RulesetError),
}
