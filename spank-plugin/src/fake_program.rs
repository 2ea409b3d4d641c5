//! A stand-in for a program that the plugin starts: a shell script in a directory of its own.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// An executable script that is gone with this value.
#[derive(Debug)]
pub(crate) struct FakeProgram {
    _directory: TempDir,
    path: PathBuf,
}

impl FakeProgram {
    /// Writes `script`, whose `$0.saw` is what [`Self::saw`] reads.
    ///
    /// Another program writes it: a file that this process has open for writing may still be so in a child that
    /// another test forks, and cannot be executed then (ETXTBSY of execve(2)).
    pub(crate) fn new(script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        let mut writer = Command::new("/bin/sh")
            .args(["-c", r#"cat >"$0" && chmod 755 "$0""#])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let text = format!("#!/bin/sh\n{script}\n");
        writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
        Self { _directory: directory, path }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it wrote anything down.
    pub(crate) fn was_started(&self) -> bool {
        self.path.with_extension("saw").exists()
    }

    /// What it wrote down.
    pub(crate) fn saw(&self) -> String {
        let path = self.path.with_extension("saw");
        fs::read_to_string(path).unwrap()
    }
}
