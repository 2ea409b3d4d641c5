//! A daemon that one test started, with its log.
//!
//! Logs lie together in one directory, so that a failing test can show the end of each.

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait;

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` with its output appended to `<name>.log` in [`LOGS`].
    ///
    /// # Errors
    /// Where it cannot be run at all; that it is ready is for the caller to wait for.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        fs::create_dir_all(LOGS)?;
        let log = Path::new(LOGS).join(format!("{name}.log"));
        let out = fs::File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_string(), child, log })
    }

    /// Waits until something listens on `port` of the loopback interface.
    ///
    /// # Errors
    /// Where the daemon ended or took too long, with its log.
    pub fn wait_for_port(&mut self, port: u16) -> Result<()> {
        let what = format!("{} to listen on port {port}", self.name);
        wait::until(&what, wait::START, || {
            self.check_alive()?;
            Ok(TcpStream::connect(("127.0.0.1", port)).ok())
        })
        .with_context(|| self.log_tail())
        .map(drop)
    }

    /// Fails where the daemon has ended.
    ///
    /// # Errors
    /// With its exit status and log.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                anyhow::bail!("{} ended with {status}\n{}", self.name, self.log_tail())
            }
        }
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// Where it does not end within half a minute.
    pub fn stop(mut self) -> Result<()> {
        kill(self.pid(), Signal::SIGTERM).ok();
        let what = format!("the end of {}", self.name);
        wait::until(&what, Duration::from_secs(30), || Ok(self.child.try_wait()?)).map(drop)
    }

    /// Kills it as a crash would.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    fn log_tail(&self) -> String {
        tail(&self.log, &self.log())
    }
}

/// The ends of all logs, for the report of a failed test.
pub fn log_tails() -> String {
    let Ok(entries) = fs::read_dir(LOGS) else { return String::new() };
    let mut logs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    logs.sort();
    let shown = logs.iter().map(|log| {
        let text = fs::read(log).unwrap_or_default();
        tail(log, &String::from_utf8_lossy(&text))
    });
    shown.collect::<Vec<_>>().join("\n")
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

fn tail(path: &Path, log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
    format!("--- the end of {} ---\n{tail}\n---", path.display())
}

/// Where daemons log.
pub const LOGS: &str = "/srv/log";

/// How many lines of a log a failing test shows.
const TAIL: usize = 30;
