//! The people of a machine, and the commands they run.

use anyhow::{Context, Result, ensure};
use std::fmt;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Somebody with an account on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account's name.
    pub name: &'static str,
    /// The account's user id, which is also the id of its first group.
    pub uid: u32,
}

/// The superuser.
pub const ROOT: Caller = Caller { name: "root", uid: 0 };

/// The account of the gateway.
pub const GATEWAY: Caller = Caller { name: "gantry", uid: 6400 };

/// An ordinary user, also in the group [`SCIENCE`].
pub const ALICE: Caller = Caller { name: "alice", uid: 6401 };

/// Another ordinary user.
pub const BOB: Caller = Caller { name: "bob", uid: 6402 };

/// The group that Alice is in besides her own.
pub const SCIENCE: u32 = 6500;

impl Caller {
    /// The home directory, on the disk that all nodes share.
    pub fn home(&self) -> PathBuf {
        if self.uid == 0 { "/root".into() } else { format!("/home/{}", self.name).into() }
    }

    /// A command of this account in a fresh log-in environment, in the home directory, ended after [`LIMIT`].
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &LIMIT.as_secs().to_string()]);
        if self.uid != 0 {
            command.args(["setpriv", "--reuid", self.name, "--regid", self.name, "--init-groups"]);
        }
        command
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.home())
            .env("USER", self.name)
            .env("LOGNAME", self.name)
            .env("LANG", "C.UTF-8")
            .current_dir(self.home());
        command
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// Where it cannot be run at all.
    pub fn run(&self, words: &[&str]) -> Result<Outcome> {
        self.run_with(words, &[])
    }

    /// Runs a command to its end with further environment variables.
    ///
    /// # Errors
    /// Where it cannot be run at all.
    pub fn run_with(&self, words: &[&str], environment: &[(&str, &str)]) -> Result<Outcome> {
        let mut command = self.command(words);
        command.envs(environment.iter().copied());
        finish(&format!("{}$ {}", self.name, words.join(" ")), &mut command)
    }

    /// Writes an executable file of this account into its home directory and returns its path.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.home().join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        chown(&path, Some(self.uid), Some(self.uid))?;
        Ok(path)
    }
}

/// Runs `command` to its end; `line` is how reports name it.
///
/// # Errors
/// Where it cannot be run at all.
pub fn finish(line: &str, command: &mut Command) -> Result<Outcome> {
    let begun = Instant::now();
    let output = command.output().with_context(|| format!("cannot run: {line}"))?;
    Ok(Outcome {
        line: line.to_string(),
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: begun.elapsed(),
    })
}

/// How a command ended and what it said.
#[derive(Clone, Debug)]
pub struct Outcome {
    line: String,
    /// Its exit code, 124 where it took longer than [`LIMIT`], -1 where a signal ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Outcome {
    /// Standard output of a command that succeeded.
    ///
    /// # Errors
    /// Where it did not succeed, with all that it said.
    pub fn ok(self) -> Result<String> {
        ensure!(self.code == 0, "it should have succeeded: {self}");
        Ok(self.stdout)
    }

    /// Standard error of a command that failed for a reason of its own, not by hanging or by a signal.
    ///
    /// # Errors
    /// Where it did anything else, with all that it said.
    pub fn failed(self) -> Result<String> {
        ensure!(self.code > 0 && self.code != 124, "it should have failed: {self}");
        Ok(self.stderr)
    }

    /// Standard error of a command that ended with `code`.
    ///
    /// # Errors
    /// Where it ended with another, with all that it said.
    pub fn failed_with(self, code: i32) -> Result<String> {
        ensure!(self.code == code, "it should have ended with {code}: {self}");
        Ok(self.stderr)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, code, stdout, stderr, took } = self;
        let seconds = took.as_secs_f64();
        write!(f, "{line}\n(exit code {code} after {seconds:.2} s)\n")?;
        write!(f, "--- standard output ---\n{stdout}--- standard error ---\n{stderr}---")
    }
}

/// Adds the accounts above to the machine's own copies of passwd and group, and makes their homes.
pub(crate) fn add_accounts() -> Result<()> {
    let mut passwd = fs::read_to_string("/etc/passwd")?;
    let mut group = fs::read_to_string("/etc/group")?;
    for caller in [GATEWAY, ALICE, BOB] {
        let Caller { name, uid } = caller;
        let home = caller.home();
        // The first line of a name counts, and there may be one from the system below.
        let line = format!("{name}:x:{uid}:{uid}::{}:/bin/bash\n", home.display());
        passwd = format!("{line}{passwd}");
        group = format!("{name}:x:{uid}:\n{group}");
        fs::create_dir_all(&home)?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        chown(&home, Some(uid), Some(uid))?;
    }
    group.push_str(&format!("science:x:{SCIENCE}:{}\n", ALICE.name));
    // Newer su(1), by which slurmd reads a user's environment for --export=NONE, takes nobody without such a line.
    let mut shadow = fs::read_to_string("/etc/shadow")?;
    for caller in [ALICE, BOB, GATEWAY] {
        shadow += &format!("{}:*:20000:0:99999:7:::\n", caller.name);
    }
    fs::write("/etc/shadow", shadow)?;
    fs::write("/etc/passwd", passwd)?;
    fs::write("/etc/group", group)?;
    Ok(())
}

/// No command of a test may take longer.
pub const LIMIT: Duration = Duration::from_secs(180);
