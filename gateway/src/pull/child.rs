//! The converter as a child: started for one request, listened to, killed and reaped.
//!
//! What it says is believed as far as its types go and no further. It may be in the hands of whoever made a layer: it
//! gets no more than its descriptors, is killed once it has said its last word or something out of place, and nothing of
//! this gateway waits for it to end by itself.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use converter_api::{Channel, ChannelError, Converted, Failure, NO_SANDBOX, Reply, Request};
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use tracing::warn;

use super::error::printable;
use super::queue::locked;

mod level;

/// The program that converts, each time as a child of its own.
#[derive(Clone, Debug)]
pub struct Converter {
    program: Arc<Path>,
}

/// Hears what a child says before its last word, and answers.
pub(crate) trait Listener: Send + 'static {
    /// Why it would hear no more; what is wrong with the child is among it.
    type Error: From<ChildError> + Send;

    /// Takes in one message, which may be in any order and about anything.
    ///
    /// # Errors
    /// Where the child is to be killed.
    fn hear(&mut self, reply: Reply, channel: &Channel) -> Result<(), Self::Error>;
}

/// The last word of a child.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LastWord {
    Converted(Converted),
    Examined,
    Failed(Failure),
}

impl Converter {
    /// Uses the program at this path, or the one beside it that was built for processors like this one.
    pub fn new(program: &Path) -> Self {
        let own = level::of_this_processor().and_then(|level| level::variant(program, level));
        Self { program: own.as_deref().unwrap_or(program).into() }
    }

    /// Has the program enter its sandbox, and returns what it says of it. Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`ChildError`] where it cannot be started or its sandbox does not work here.
    pub fn check(&self) -> Result<String, ChildError> {
        let mut command = self.command();
        let output = command.arg("--check").stdin(Stdio::null()).output();
        let output = output.map_err(|source| self.not_started(source))?;
        self.log(&output.stderr);
        match ChildError::from_status(output.status) {
            None => Ok(printable(String::from_utf8_lossy(&output.stdout).trim_end())),
            Some(error) => Err(error),
        }
    }

    /// Has a child do what `request` says, and waits for its last word.
    ///
    /// The child is killed where this future is dropped. The listener, and what it holds, goes only once the child is
    /// reaped.
    ///
    /// # Errors
    /// The listener's, and [`ChildError`] where there was no last word.
    pub(crate) async fn ask<L: Listener>(
        &self,
        request: Request,
        descriptors: Vec<OwnedFd>,
        listener: L,
    ) -> Result<(LastWord, L), L::Error> {
        let leash = Arc::new(Leash::default());
        let _cut = CutOnDrop(Arc::clone(&leash));
        let converter = self.clone();
        // One thread from start to end: the child is tied to the life of the thread that started it (PR_SET_PDEATHSIG).
        let work = tokio::task::spawn_blocking(move || {
            converter.converse(&leash, &request, descriptors, listener)
        });
        work.await.unwrap_or_else(|_| Err(ChildError::Panic.into()))
    }

    fn converse<L: Listener>(
        &self,
        leash: &Leash,
        request: &Request,
        descriptors: Vec<OwnedFd>,
        mut listener: L,
    ) -> Result<(LastWord, L), L::Error> {
        let (channel, mut log) = self.start(leash)?;
        let word = begin(&channel, request, descriptors)
            .map_err(L::Error::from)
            .and_then(|()| listen(&channel, &mut listener));
        let status = leash.end().map_err(ChildError::Reap)?;
        // Not to the end of the file, for which it could be made to wait.
        let mut said = Vec::new();
        let _ = Read::take(&mut log, LOG_LIMIT).read_to_end(&mut said);
        self.log(&said);
        match word? {
            Some(word) => Ok((word, listener)),
            None => Err(ChildError::from_status(status).unwrap_or(ChildError::Silent).into()),
        }
    }

    /// Starts the child and returns our end of the socket and of its standard error.
    fn start(&self, leash: &Leash) -> Result<(Channel, File), ChildError> {
        let failed = |source| self.not_started(source);
        let (ours, theirs) = Channel::pair().map_err(failed)?;
        // Neither end blocks: what does not fit is lost, and nobody waits for more.
        let (log, stderr) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .map_err(|error| failed(error.into()))?;
        let mut command = self.command();
        command
            .args(["--parent", &std::process::id().to_string()])
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(stderr);
        leash.start(&mut command).map_err(failed)?;
        // With the command our copies of the child's ends go: what remains is ended by its death.
        drop(command);
        Ok((ours, File::from(log)))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&*self.program);
        command.env_clear().env("GLIBC_TUNABLES", ALLOCATOR).current_dir("/");
        command
    }

    fn not_started(&self, source: io::Error) -> ChildError {
        ChildError::Start { program: self.program.to_path_buf(), source }
    }

    fn log(&self, said: &[u8]) {
        let said = String::from_utf8_lossy(said);
        if !said.trim().is_empty() {
            warn!("{} said: {}", self.program.display(), printable(said.trim()));
        }
    }
}

fn begin(
    channel: &Channel,
    request: &Request,
    descriptors: Vec<OwnedFd>,
) -> Result<(), ChildError> {
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    match channel.send(request, &borrowed) {
        // It is gone already, and how it went says more.
        Ok(()) | Err(ChannelError::Socket { .. }) => Ok(()),
        Err(error) => Err(ChildError::Channel(error)),
    }
}

/// Listens until the last word; `None` where the other end went away without one.
fn listen<L: Listener>(channel: &Channel, listener: &mut L) -> Result<Option<LastWord>, L::Error> {
    loop {
        let Some((reply, _)) = channel.receive::<Reply>().map_err(ChildError::Channel)? else {
            return Ok(None);
        };
        match reply {
            Reply::Converted(converted) => return Ok(Some(LastWord::Converted(converted))),
            Reply::Examined => return Ok(Some(LastWord::Examined)),
            Reply::Failed(failure) => return Ok(Some(LastWord::Failed(failure))),
            reply => listener.hear(reply, channel)?,
        }
    }
}

/// What a child is killed by, from any thread.
#[derive(Debug, Default)]
struct Leash(Mutex<Held>);

#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Child(Child),
    /// It is killed, or must not start any more.
    Cut,
}

impl Leash {
    fn start(&self, command: &mut Command) -> io::Result<()> {
        let mut held = locked(&self.0);
        match *held {
            Held::Cut => Err(io::ErrorKind::Interrupted.into()),
            _ => {
                *held = Held::Child(command.spawn()?);
                Ok(())
            }
        }
    }

    fn cut(&self) {
        let mut held = locked(&self.0);
        match &mut *held {
            // It stays to be reaped; one that is dead already is no error.
            Held::Child(child) => drop(child.kill()),
            _ => *held = Held::Cut,
        }
    }

    /// Kills and reaps it. One that was ending already keeps its own status.
    fn end(&self) -> io::Result<ExitStatus> {
        let held = std::mem::replace(&mut *locked(&self.0), Held::Cut);
        let Held::Child(mut child) = held else { return Err(io::ErrorKind::NotFound.into()) };
        drop(child.kill());
        child.wait()
    }
}

/// Kills the child where nobody waits for its last word any more.
struct CutOnDrop(Arc<Leash>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// glibc gives memory back with almost every block that is freed, and the kernel clears the same pages again for the next
/// one; the child keeps what it has, since it ends soon, and gets large pages where there are any, for fewer faults
/// (mallopt(3), the glibc manual on tunables). Only large tables come and go by mmap(2).
const ALLOCATOR: &str = "glibc.malloc.trim_threshold=67108864:glibc.malloc.mmap_threshold=4194304:glibc.malloc.hugetlb=1";
/// More than a panic needs.
const LOG_LIMIT: u64 = 8 << 10;

/// Why a child has no last word.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It did not start.
    #[error("cannot start the converter {}", .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It could not be reaped.
    #[error("cannot wait for the converter")]
    Reap(#[source] io::Error),
    /// A descriptor for it could not be made.
    #[error("cannot make a descriptor for the converter")]
    Pipe(#[source] io::Error),
    /// Its sandbox does not work on this host.
    #[error("the converter cannot be confined on the gateway's host, and does nothing unconfined")]
    NoSandbox,
    /// A signal ended it: a crash, an administrator, or the system that had no memory left.
    #[error("the conversion broke off: its process was ended by {0}")]
    Signal(String),
    /// It ended with a failure and said nothing.
    #[error("the conversion broke off: its process ended with status {0}")]
    Status(i32),
    /// It ended as if all were well and said nothing.
    #[error("the conversion broke off: its process ended without a word")]
    Silent,
    /// It said something that it must not say, or not then.
    #[error("the converter does not keep to its protocol: {0}")]
    Protocol(&'static str),
    /// What it said was no message.
    #[error("the converter does not keep to its protocol")]
    Channel(#[source] ChannelError),
    /// The thread that listened to it panicked.
    #[error("the conversion broke off")]
    Panic,
}

impl ChildError {
    /// Tells whether the process ended before its last word.
    pub fn is_death(&self) -> bool {
        matches!(self, Self::Signal(_) | Self::Status(_) | Self::Silent)
    }

    fn from_status(status: ExitStatus) -> Option<Self> {
        match (status.signal(), status.code()) {
            (Some(number), _) => Some(Self::Signal(match Signal::try_from(number) {
                Ok(signal) => signal.as_str().to_owned(),
                Err(_) => format!("signal {number}"),
            })),
            (None, Some(0)) => None,
            (None, Some(code)) if code == i32::from(NO_SANDBOX) => Some(Self::NoSandbox),
            (None, code) => Some(Self::Status(code.unwrap_or(-1))),
        }
    }
}

#[cfg(test)]
mod tests;
