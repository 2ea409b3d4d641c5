//! The last step: this process becomes the set-user-id program, or the command itself.
//!
//! The environment goes along as it is, but for variables that were a message to this program alone.

use super::caller;
use crate::exit::{Exit, Failure};
use crate::output;
use image_ref::Digest;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// Gantry's own failures, as docker and podman have them.
const OWN_FAILURE: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Why nothing was started, and the exit code for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) failure: Failure,
    pub(super) code: u8,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self { failure, code: OWN_FAILURE }
    }
}

/// Everything that the set-user-id program is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) digest: Digest,
    pub(super) request: String,
    pub(super) volumes: Vec<String>,
    pub(super) modules: Option<String>,
    pub(super) workdir: Option<Option<OsString>>,
    pub(super) env: Vec<OsString>,
    pub(super) clear_env: bool,
    pub(super) entrypoint: Option<Option<OsString>>,
    pub(super) keep: Vec<u32>,
    pub(super) explain: bool,
    pub(super) time: bool,
    pub(super) command: Vec<OsString>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            digest: Digest::from_bytes([0; 32]),
            request: String::new(),
            volumes: Vec::new(),
            modules: None,
            workdir: None,
            env: Vec::new(),
            clear_env: false,
            entrypoint: None,
            keep: Vec::new(),
            explain: false,
            time: false,
            command: Vec::new(),
        }
    }
}

impl Entry {
    /// The arguments behind the program's name; `caller` tells who the caller is.
    fn arguments(&self, caller: Vec<OsString>) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![
            "run".into(),
            format!("--digest={}", self.digest.hex()).into(),
            format!("--request={}", self.request).into(),
        ];
        words.extend(self.volumes.iter().map(|volume| option("--volume", volume.as_ref())));
        words.extend(self.modules.iter().map(|names| option("--module", names.as_ref())));
        match &self.workdir {
            Some(Some(path)) => words.push(option("--workdir", path)),
            Some(None) => words.push("--workdir".into()),
            None => {}
        }
        words.extend(self.env.iter().map(|item| option("--env", item)));
        if self.clear_env {
            words.push("--clearenv".into());
        }
        match &self.entrypoint {
            Some(Some(command)) => words.push(option("--entrypoint", command)),
            Some(None) => words.push("--entrypoint".into()),
            None => {}
        }
        words.extend(self.keep.iter().map(|fd| format!("--keep-fd={fd}").into()));
        words.extend(caller);
        if self.explain {
            words.push("--explain".into());
        }
        if self.time {
            words.push("--time".into());
        }
        words.push("--".into());
        words.extend(self.command.iter().cloned());
        words
    }
}

fn option(name: &str, value: &OsStr) -> OsString {
    let mut word = OsString::from(name);
    word.push("=");
    word.push(value);
    word
}

/// Becomes the set-user-id program at `suid`, without the variables in `private`.
///
/// # Errors
/// Where it cannot be started.
pub(super) fn run_inside(
    suid: &Path,
    entry: &Entry,
    private: &[&str],
    verbose: Option<&'static str>,
) -> Result<Infallible, Ended> {
    let arguments = entry.arguments(caller::arguments());
    if let Some(program) = verbose {
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        output::progress(program, &format!("{} {}", suid.display(), words.join(" ")));
    }
    let error = become_program(suid.as_os_str(), &arguments, private);
    let why = plain(&error);
    let failure = Failure::new(Exit::Other, format!("cannot start {}: {why}", suid.display()))
        .with_hint("`imgctl doctor` checks this host's installation");
    Err(failure.into())
}

/// Becomes the command itself, where it is to run where this process is.
///
/// # Errors
/// Where there is none, or it cannot be started: 127 for one that is not there, 126 for one that cannot be run.
pub(super) fn run_here(command: &[OsString], private: &[&str]) -> Result<Infallible, Ended> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::new(Exit::Usage, "no command was given to run on the host").into());
    };
    let error = become_program(program, arguments, private);
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    let text = format!("cannot run {}: {}", program.display(), plain(&error));
    Err(Ended { failure: Failure::new(Exit::Other, text), code })
}

fn become_program(program: &OsStr, arguments: &[OsString], private: &[&str]) -> io::Error {
    let mut command = Command::new(program);
    command.args(arguments);
    for name in private {
        command.env_remove(name);
    }
    command.exec()
}

/// An error in the kernel's words, without its number.
fn plain(error: &io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(entry: &Entry) -> Vec<String> {
        let words = entry.arguments(vec!["--passwd=ada:x:1:1::/:/bin/sh".into()]);
        words.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn a_plain_command_needs_few_words() {
        let digest = Digest::from_bytes([0xab; 32]);
        let entry = Entry {
            digest,
            request: "docker:a:1".into(),
            command: vec!["ls".into(), "--explain".into()],
            ..Entry::default()
        };
        let digest = format!("--digest={}", "ab".repeat(32));
        assert_eq!(
            words(&entry),
            [
                "run",
                &digest,
                "--request=docker:a:1",
                "--passwd=ada:x:1:1::/:/bin/sh",
                "--",
                "ls",
                "--explain"
            ]
        );
    }

    #[test]
    fn every_wish_becomes_one_word() {
        let entry = Entry {
            volumes: vec!["/a:/b:ro".into()],
            modules: Some("mpich".into()),
            workdir: Some(Some("/w".into())),
            env: vec!["A=b c".into()],
            clear_env: true,
            entrypoint: Some(None),
            keep: vec![7],
            explain: true,
            time: true,
            ..Entry::default()
        };
        let words = words(&entry);
        assert_eq!(
            words[3..10],
            [
                "--volume=/a:/b:ro",
                "--module=mpich",
                "--workdir=/w",
                "--env=A=b c",
                "--clearenv",
                "--entrypoint",
                "--keep-fd=7"
            ]
        );
        assert_eq!(words[11..], ["--explain", "--time", "--"]);
        let bare = Entry { workdir: Some(None), ..entry };
        assert!(bare.arguments(vec![]).contains(&"--workdir".into()));
    }

    #[test]
    fn what_cannot_be_started_has_the_shells_exit_codes() {
        let code = |command: &str| match run_here(&[command.into()], &[]) {
            Err(ended) => ended.code,
            Ok(never) => match never {},
        };
        assert_eq!(code("/nonexistent/program"), 127);
        assert_eq!(code("/etc/passwd"), 126);
        let Err(none) = run_here(&[], &[]);
        assert_eq!(none.code, 125);
        let Err(away) = run_inside(Path::new("/nonexistent/suid"), &Entry::default(), &[], None);
        assert_eq!(away.code, 125);
        assert_eq!(away.failure.text, "cannot start /nonexistent/suid: no such file or directory");
    }
}
