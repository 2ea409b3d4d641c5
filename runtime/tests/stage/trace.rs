//! A start seen from the kernel's side: strace(1) as root with `-u`, under which a set-user-id program keeps its
//! rights.

use super::{SUID, Stage, finish};
use std::fs;
use std::process::{Command, Stdio};

/// One system call of a start.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    /// How many of this name there were before, counted from one as strace's `when=`.
    pub number: usize,
    /// The whole line, descriptors with their paths behind them.
    pub text: String,
}

/// Runs strace with `tracing` on the start of `command` as the user.
pub fn strace(stage: &Stage, tracing: &[&str], options: &[&str], command: &[&str]) -> Command {
    let mut built = Command::new("/usr/bin/strace");
    built.args(["-u", "tester"]).args(tracing).arg(SUID).arg("run");
    built.arg(format!("--digest={}", stage.digest.hex())).args(options).arg("--").args(command);
    built.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/").stdin(Stdio::null());
    built
}

/// The calls that the product makes as root or on the way from there: all before the command's `execve`.
///
/// The start must be a good one, in a single process.
pub fn calls_of_a_start(stage: &Stage, options: &[&str]) -> Vec<Call> {
    let log = "/srv/trace";
    let tracing = ["-f", "-y", "-s", "4096", "-o", log];
    let ran = finish(&mut strace(stage, &tracing, options, &["true"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let text = fs::read_to_string(log).unwrap();
    fs::remove_file(log).unwrap();
    let mut calls: Vec<Call> = Vec::new();
    let mut lines =
        text.lines().filter_map(|line| line.split_once(' ')).map(|(_, call)| call.trim());
    let first = lines.next().unwrap();
    assert!(first.starts_with("execve("), "{text}");
    for line in lines.take_while(|line| !line.starts_with("execve(")) {
        let Some((name, _)) = line.split_once('(') else { continue };
        let number = 1 + calls.iter().filter(|call| call.name == name).count();
        calls.push(Call { name: name.into(), number, text: line.into() });
    }
    assert!(calls.iter().any(|call| call.name == "fsopen"), "{text}");
    calls
}
