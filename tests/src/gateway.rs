//! The gateway, under its own account, with the embedded store.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;

use crate::caller::GATEWAY;
use crate::daemon::Daemon;
use crate::install::{IMAGES, SYSTEM};
use crate::machine::Machine;
use crate::munged;
use crate::registry::Registry;

/// A gateway, running or stopped.
#[derive(Debug)]
pub struct Gateway {
    daemon: Option<Daemon>,
}

impl Gateway {
    /// Writes `imagemanager.json` for these registries, the first being the default one, and starts the gateway.
    ///
    /// # Errors
    /// Where it does not start, with its log.
    pub fn start(_machine: &Machine, registries: &[&Registry]) -> Result<Self> {
        let locations: serde_json::Map<String, Value> = registries
            .iter()
            .map(|registry| {
                let location = json!({ "remotetype": "dockerv2", "url": registry.url() });
                (registry.name(), location)
            })
            .collect();
        let mut config = json!({
            "Listen": format!("127.0.0.1:{PORT}"),
            "StorePath": format!("{HOME}/store.sqlite"),
            "WorkerThreads": 4,
            "LogLevel": "debug",
            "PullUpdateTimeout": 2,
            "Locations": locations,
            "Platforms": {
                SYSTEM: {
                    "mungeSocketPath": munged::SOCKET,
                    "accesstype": "local",
                    "admins": ["root"],
                    "local": { "imageDir": IMAGES },
                },
            },
        });
        if let Some(first) = registries.first() {
            config["DefaultImageLocation"] = json!(first.name());
        }
        fs::create_dir_all(HOME)?;
        chown(HOME, Some(GATEWAY.uid), Some(GATEWAY.uid))?;
        fs::write(CONFIG, serde_json::to_string_pretty(&config)?)
            .with_context(|| format!("cannot write {CONFIG}"))?;
        let mut gateway = Self { daemon: None };
        gateway.resume()?;
        Ok(gateway)
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), Daemon::stop)
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// Starts it again with the store and the images that are there.
    ///
    /// # Errors
    /// Where it runs already or does not start.
    pub fn resume(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "the gateway is running");
        let name = GATEWAY.name;
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", name, "--regid", name, "--init-groups", "--no-new-privs"])
            .args([PROGRAM, "--config", CONFIG, "serve"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/");
        let mut daemon = Daemon::start("gateway", &mut command)?;
        daemon.wait_for_port(PORT)?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Forgets every image, as a gateway that was never used.
    ///
    /// # Errors
    /// Where it runs, or a file cannot be removed.
    pub fn forget(&self) -> Result<()> {
        ensure!(self.daemon.is_none(), "the gateway is running");
        for directory in [HOME, IMAGES] {
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                let removed =
                    if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.daemon.as_ref().map(Daemon::pid)
    }

    /// Sends it a signal, to stop it in its tracks for instance.
    ///
    /// # Errors
    /// Where it is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().context("the gateway is not running")?;
        Ok(nix::sys::signal::kill(pid, signal)?)
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }
}

/// Where it listens.
pub const PORT: u16 = 5500;

/// Its program.
pub const PROGRAM: &str = "/usr/sbin/gantry-gateway";

/// Its configuration.
pub const CONFIG: &str = "/etc/gantry/imagemanager.json";

const HOME: &str = "/srv/gantry/gateway";
