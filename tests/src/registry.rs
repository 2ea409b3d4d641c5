//! A registry: Docker's own, from the distribution.

use anyhow::{Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::caller::Caller;
use crate::daemon::Daemon;
use crate::machine::Machine;

/// A running registry on the loopback interface; what was pushed stays on disk when it is stopped.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    config: PathBuf,
    daemon: Option<Daemon>,
    login: Option<&'static str>,
}

impl Registry {
    /// Starts a registry that anybody may read and write.
    ///
    /// # Errors
    /// Where it does not start, with its log.
    pub fn open(_machine: &Machine, port: u16) -> Result<Self> {
        Self::start(port, None)
    }

    /// Starts a registry that knows only the user `bob` with the password `secret`.
    ///
    /// # Errors
    /// Where it does not start, with its log.
    pub fn locked(_machine: &Machine, port: u16) -> Result<Self> {
        Self::start(port, Some(LOGIN))
    }

    /// An open registry that somebody else has started on the machine.
    pub fn running(port: u16) -> Self {
        Self { port, config: PathBuf::new(), daemon: None, login: None }
    }

    fn start(port: u16, login: Option<&'static str>) -> Result<Self> {
        let directory = PathBuf::from(format!("/srv/registry-{port}"));
        fs::create_dir_all(&directory)?;
        let auth = if login.is_some() {
            let passwords = directory.join("htpasswd");
            fs::write(&passwords, HTPASSWD)?;
            format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", passwords.display())
        } else {
            String::new()
        };
        let config = directory.join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\n  \
             delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n{auth}",
            directory.join("data").display()
        );
        fs::write(&config, text)?;
        let mut registry = Self { port, config, daemon: None, login };
        registry.resume()?;
        Ok(registry)
    }

    /// Stops it; what was pushed remains.
    ///
    /// # Errors
    /// Where it does not stop.
    pub fn stop(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), Daemon::stop)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// Where it does not start, or was not stopped.
    pub fn resume(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "the registry on port {} is running", self.port);
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&self.config).env_clear();
        let mut daemon = Daemon::start(&format!("registry-{}", self.port), &mut command)?;
        daemon.wait_for_port(self.port)?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// How references name it: `localhost:5000`.
    pub fn name(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// Leaves a login of this registry in `caller`'s home as `docker login` would; `encoded` is one of the constants.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn log_in(&self, caller: &Caller, encoded: &str) -> Result<()> {
        let auths = serde_json::json!({ "auths": { self.name(): { "auth": encoded } } });
        caller.run(&["mkdir", "-p", ".docker"])?.ok()?;
        caller.script(".docker/config.json", &auths.to_string()).map(drop)
    }

    /// The value of the `Authorization` header that it wants, if it wants one.
    pub fn authorization(&self) -> Option<String> {
        self.login.map(|_| format!("Basic {LOGIN}"))
    }

    /// The requests for `path` (a part of the URL) that it has answered, as lines of its access log.
    pub fn requests(&self, method: &str, path: &str) -> Vec<String> {
        let log = self.daemon.as_ref().map(Daemon::log).unwrap_or_default();
        let wanted = |line: &&str| line.contains(&format!("\"{method} ")) && line.contains(path);
        log.lines().filter(wanted).map(str::to_string).collect()
    }
}

/// `bob:secret`, the only login of a locked registry, in base64.
pub const LOGIN: &str = "Ym9iOnNlY3JldA==";

/// `bob:wrong` in base64.
pub const WRONG_LOGIN: &str = "Ym9iOndyb25n";

/// `bob:secret` as bcrypt, the only hash that the registry knows.
const HTPASSWD: &str = "bob:$2y$04$6why0.aHZvOlMs0gnGtvI.2Zz12IIb.XPH8Ebu7GT31weiEWLf87S\n";
