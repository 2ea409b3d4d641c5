//! Has the runtime mount an image and keeps the mount, once per step and node.
//!
//! The only thing that is done as root inside slurmstepd: to start the runtime with an empty environment and to
//! wait for one descriptor. The tasks then find the image mounted; with the last descriptor it goes.

use image_ref::Digest;
use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::fmt;
use std::io::{self, IoSliceMut, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A mount that lasts as long as this process.
///
/// The descriptor is closed by the kernel when slurmstepd ends, and by execve(2) in every task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Its number, for the log.
    pub(crate) descriptor: RawFd,
}

/// Runs `gantry-suid hold` and keeps what it sends.
///
/// Returns within a little more than [`PATIENCE`], whatever the runtime does.
///
/// # Errors
/// See [`HoldError`]. Nothing is left behind then but a killed process that a hung file system may keep.
pub(crate) fn hold(suid: &Path, digest: &Digest) -> Result<Held, HoldError> {
    hold_within(suid, digest, PATIENCE)
}

fn hold_within(suid: &Path, digest: &Digest, patience: Duration) -> Result<Held, HoldError> {
    let fail = |error| HoldError::Start { program: suid.into(), error };
    let (ours, theirs) = UnixStream::pair().map_err(fail)?;
    let mut child = start(suid, digest, theirs.into()).map_err(fail)?;
    let result = match receive(&ours, Instant::now() + patience) {
        Ok(Some(descriptor)) => Ok(Held { descriptor }),
        Ok(None) => Err(HoldError::Refused { reason: last_words(&mut child) }),
        Err(error) => Err(HoldError::Silent { program: suid.into(), patience, error }),
    };
    abandon(&mut child);
    if !matches!(result, Err(HoldError::Silent { .. })) {
        reap(&mut child);
    }
    result
}

/// Starts the runtime with the socket as its standard input, which is how a descriptor gets through an exec
/// without anything between fork and exec in a process with threads.
fn start(suid: &Path, digest: &Digest, socket: OwnedFd) -> io::Result<Child> {
    let digest = format!("--digest={}", digest.hex());
    let mut command = Command::new(suid);
    command.args(["hold", &digest, "--fd=0"]).env_clear().current_dir("/");
    command.stdin(socket).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
    // `command` ends here and with it our copy of the child's end: receive() sees when the child is gone.
}

/// The descriptor that comes over the socket; `None` where the other side closed it without one.
fn receive(socket: &UnixStream, deadline: Instant) -> io::Result<Option<RawFd>> {
    let mut byte = [0_u8];
    let mut buffer = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([RawFd; 1]);
    await_input(socket.as_fd(), deadline)?;
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut buffer, Some(&mut space), flags)?;
    let mut descriptors = message.cmsgs()?.filter_map(|control| match control {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    Ok(descriptors.next())
}

/// Waits until there is something to read, or the other side is gone.
///
/// # Errors
/// `TimedOut` where the deadline passes first.
fn await_input(source: BorrowedFd<'_>, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(source, PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            // Signals do not prolong the wait: the deadline stays.
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// Kills a child and does not wait for it: in an uninterruptible sleep, as in a hung file system, it does not die
/// before that ends, and slurmstepd would hang with it.
///
/// slurmstepd collects every child that ends while it waits for its tasks (wait3(2)), init does after it.
fn abandon(child: &mut Child) {
    // Fails only where it is gone already.
    let _ = child.kill();
}

/// Collects a child that has nothing left to do, and waits a moment only.
///
/// Where slurmstepd collects it, the step ends a tenth of a second later: so long slurmstepd pauses over a child.
fn reap(child: &mut Child) {
    for _ in 0..REAP_ATTEMPTS {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A killed process is gone within microseconds, or it hangs.
const REAP_ATTEMPTS: u32 = 50;

/// What a child that gives up has to say, on one line, as far as it says so at once.
fn last_words(child: &mut Child) -> String {
    let mut text = Vec::new();
    if let Some(stderr) = &mut child.stderr {
        let deadline = Instant::now() + WORDS_PATIENCE;
        let mut chunk = [0; 512];
        while text.len() < WORDS_LIMIT && !text.contains(&b'\n') {
            // What cannot be read is left unsaid.
            let Ok(()) = await_input(stderr.as_fd(), deadline) else { break };
            let Ok(count @ 1..) = stderr.read(&mut chunk) else { break };
            text.extend_from_slice(&chunk[..count]);
        }
    }
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or_default().trim();
    // The task will put the same name in front.
    line.strip_prefix("gantry: ").unwrap_or(line).to_owned()
}

/// How long mounting may take: a shared file system that hangs longer would make the whole step hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a runtime that sends no mount may take to say why.
const WORDS_PATIENCE: Duration = Duration::from_secs(1);

/// The most that is read of a refusal, in bytes, but for the rest of a chunk.
const WORDS_LIMIT: usize = 4096;

/// Why an image is not mounted.
#[derive(Debug)]
pub(crate) enum HoldError {
    /// The runtime cannot be started.
    Start {
        /// Its path.
        program: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It gave up.
    Refused {
        /// Its own words; empty if it had none.
        reason: String,
    },
    /// Nothing came from it in time.
    Silent {
        /// Its path.
        program: PathBuf,
        /// How long it had.
        patience: Duration,
        /// What the wait ended with.
        error: io::Error,
    },
}

impl fmt::Display for HoldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { program, .. } => write!(f, "cannot start `{}`", program.display()),
            Self::Refused { reason } if reason.is_empty() => {
                f.write_str("the runtime ended without mounting the image and without a word")
            }
            Self::Refused { reason } => f.write_str(reason),
            Self::Silent { program, patience, .. } => write!(
                f,
                "`{}` has not mounted the image after {} seconds",
                program.display(),
                patience.as_secs()
            ),
        }
    }
}

impl std::error::Error for HoldError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start { error, .. } | Self::Silent { error, .. } => Some(error),
            Self::Refused { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_program::FakeProgram;
    use nix::sys::socket::{ControlMessage, sendmsg};
    use std::fs::File;
    use std::io::IoSlice;

    fn digest() -> Digest {
        Digest::from_bytes([7; 32])
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    fn refusal(script: &str) -> String {
        let suid = FakeProgram::new(script);
        hold(suid.path(), &digest()).unwrap_err().to_string()
    }

    #[test]
    fn a_descriptor_that_is_sent_is_kept_and_closed_on_exec() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sent = File::open("/proc/self/cmdline").unwrap();
        let rights = [sent.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&rights)];
        let flags = MsgFlags::empty();
        sendmsg::<()>(theirs.as_raw_fd(), &[IoSlice::new(b"x")], &control, flags, None).unwrap();
        let descriptor = receive(&ours, soon()).unwrap().unwrap();
        assert_ne!(descriptor, sent.as_raw_fd());
        let link = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).unwrap();
        assert!(link.ends_with("cmdline"), "{}", link.display());
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        assert_ne!(u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000, 0, "O_CLOEXEC");
    }

    #[test]
    fn a_message_without_a_descriptor_is_none() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        io::Write::write_all(&mut &theirs, b"x").unwrap();
        assert_eq!(receive(&ours, soon()).unwrap(), None);
        drop(theirs);
        assert_eq!(receive(&ours, soon()).unwrap(), None);
    }

    #[test]
    fn a_refusal_is_passed_on_in_the_runtimes_words() {
        let script = "echo 'gantry: no such image ' >&2; echo more >&2; exit 125";
        assert_eq!(refusal(script), "no such image");
        let silent = "the runtime ended without mounting the image and without a word";
        assert_eq!(refusal("exit 125"), silent);
        assert_eq!(refusal("kill -9 $$"), silent);
        let program = Path::new("/nonexistent/gantry-suid");
        let missing = hold(program, &digest()).unwrap_err().to_string();
        assert_eq!(missing, "cannot start `/nonexistent/gantry-suid`");
    }

    #[test]
    fn a_runtime_that_talks_without_end_does_not_hold_up_the_step() {
        let text = refusal("exec 0</dev/null; yes no >&2");
        assert_eq!(text, "no");
    }

    #[test]
    fn a_runtime_whose_standard_error_stays_open_does_not_hold_up_the_step() {
        let start = Instant::now();
        // A process of its own that outlives the kill, as one in a hung file system does.
        assert_eq!(refusal("sleep 20 </dev/null & printf half >&2; exit 125"), "half");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }

    #[test]
    fn a_runtime_that_does_not_answer_is_killed_and_not_waited_for() {
        let suid = FakeProgram::new(r#"echo $$ >"$0.saw"; exec sleep 20"#);
        let start = Instant::now();
        let error = hold_within(suid.path(), &digest(), Duration::from_secs(1)).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert!(error.to_string().ends_with("has not mounted the image after 1 seconds"));
        // Dead, and still in the table: nobody asked for its end, which may be long in coming.
        let stat = format!("/proc/{}/stat", suid.saw().trim());
        let state = || std::fs::read_to_string(&stat).unwrap().contains(") Z ");
        assert!((0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            state()
        }));
    }
}
