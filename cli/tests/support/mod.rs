//! What the tests of both commands need: a munged, a scripted gateway, a udiRoot.conf, and a way to run a command.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test program uses its part")]

#[path = "../../../crates/munge/tests/munged/mod.rs"]
pub mod munged;
pub mod server;

use munged::Munged;
use server::Server;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A directory with a udiRoot.conf, images and a home.
pub struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    /// A site of system `c1` whose munged and gateways these are; `more` are further lines of udiRoot.conf, in
    /// which `{site}` stands for the directory.
    pub fn new(munged: Option<&Munged>, gateways: &[String], more: &str) -> Self {
        let site = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir_all(site.images().join("names")).unwrap();
        fs::create_dir(site.home()).unwrap();
        let mut text = format!(
            "imagePath={}\nsystem=c1\nimageGateway={}\ngatewayTimeout=1\n{}\n",
            site.images().display(),
            gateways.join(" "),
            more.replace("{site}", &site.path().display().to_string()),
        );
        if let Some(munged) = munged {
            text.push_str(&format!("mungeSocketPath={}\n", munged.socket().display()));
        }
        fs::write(site.conf(), text).unwrap();
        site
    }

    pub fn served(munged: &Munged, server: &Server) -> Self {
        Self::new(Some(munged), &[server.url()], "")
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn conf(&self) -> PathBuf {
        self.path().join("udiRoot.conf")
    }

    pub fn images(&self) -> PathBuf {
        self.path().join("images")
    }

    pub fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    /// A command that sees this site and nothing else.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.home())
            .env("GANTRY_CONF", self.conf())
            .stdin(Stdio::null());
        command
    }

    /// Runs `imgctl` with the words of `line`.
    pub fn imgctl(&self, line: &str) -> Ran {
        let mut command = self.command(env!("CARGO_BIN_EXE_imgctl"));
        command.args(line.split(' ').filter(|word| !word.is_empty()));
        Ran::of(&mut command)
    }
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
    pub took: Duration,
}

impl Ran {
    pub fn of(command: &mut Command) -> Self {
        let started = Instant::now();
        let Output { status, stdout, stderr } = command.output().unwrap();
        Self {
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
            code: status.code(),
            took: started.elapsed(),
        }
    }

    /// Expects a failure: its exit code, and exactly these lines on standard error.
    #[track_caller]
    pub fn fails(&self, code: i32, stderr: &str) {
        assert_eq!(self.stderr.trim_end(), stderr, "{self:?}");
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "");
    }

    /// Expects success and exactly this on standard output.
    #[track_caller]
    pub fn prints(&self, stdout: &str) {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.stdout.trim_end(), stdout, "{self:?}");
    }
}
