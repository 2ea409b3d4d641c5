//! gantry-prolog and gantry-epilog as slurmd runs them: no runtime, however broken, may keep or drain the node.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DIGEST: &str = "3a1c0f6e9d8b7a6543210fedcba98765432100112233445566778899aabbccdd";

/// What one run did.
struct Ran {
    code: Option<i32>,
    /// The lines that went to syslog.
    logged: String,
    /// What the runtime was asked.
    asked: String,
    took: Duration,
}

/// Runs the installed program with a runtime that is `script`, a short patience, and a job that has an image.
fn run(program: &str, script: &str) -> Ran {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    write_program(&directory, "suid", &format!("echo \"$*\" >'{}'\n{script}", path("asked")));
    write_program(&directory, "logger", &format!("echo \"$*\" >>'{}'", path("logged")));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/slurm").join(program);
    let mut text = fs::read_to_string(source).unwrap();
    for (old, new) in [
        ("suid=/usr/libexec/gantry/gantry-suid", format!("suid={}", path("suid"))),
        ("seconds=60", "seconds=1".to_owned()),
        ("PATH=/usr/sbin", format!("PATH={}:/usr/sbin", directory.path().display())),
        ("/run/gantry/jobs/$SLURM_JOB_ID", "/".to_owned()),
    ] {
        // Only the Epilog looks for the job's directory.
        assert!(text.contains(old) || old.starts_with("/run"), "{program} has no `{old}`");
        text = text.replace(old, &new);
    }
    write_program(&directory, "program", text.trim_start_matches("#!/bin/sh\n"));
    let start = Instant::now();
    let status = Command::new("/bin/sh")
        .arg(path("program"))
        .env("SLURM_JOB_ID", "7")
        .env("SPANK_GANTRY_IMAGE", format!("sha256:{DIGEST}"))
        .status()
        .unwrap();
    let read = |name| fs::read_to_string(path(name)).unwrap_or_default();
    Ran { code: status.code(), took: start.elapsed(), logged: read("logged"), asked: read("asked") }
}

/// Writes an executable script, by another program: this one may be forking in another test meanwhile, and what is
/// open for writing anywhere cannot be executed (ETXTBSY of execve(2)).
fn write_program(directory: &TempDir, name: &str, script: &str) {
    let status = Command::new("/bin/sh")
        .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod 755 "$0""#])
        .arg(directory.path().join(name))
        .arg(script)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn the_runtime_is_asked_and_silence_is_success() {
    let ran = run("gantry-prolog", "exit 0");
    assert_eq!(ran.asked, format!("prepare --digest={DIGEST} --job=7\n"));
    assert_eq!((ran.code, ran.logged.as_str()), (Some(0), ""));
    let ran = run("gantry-epilog", "exit 0");
    assert_eq!((ran.code, ran.asked.as_str()), (Some(0), "release --job=7\n"));
}

#[test]
fn a_refusal_is_logged_and_nothing_fails() {
    for program in ["gantry-prolog", "gantry-epilog"] {
        let ran = run(program, "echo 'gantry: no such image' >&2; exit 125");
        assert_eq!(ran.code, Some(0));
        assert!(ran.logged.contains(&format!("-t {program} ")), "{}", ran.logged);
        assert!(ran.logged.ends_with("job 7: gantry: no such image\n"), "{}", ran.logged);
    }
}

/// The second of the two survives every signal to the first, as a process in a hung file system does.
const HANGING: [&str; 2] = ["exec sleep 20", "setsid sleep 20 & exec sleep 20"];

#[test]
fn a_runtime_that_hangs_does_not_hold_up_the_prolog() {
    HANGING.iter().for_each(|script| goes_on("gantry-prolog", script));
}

#[test]
fn a_runtime_that_hangs_does_not_hold_up_the_epilog() {
    HANGING.iter().for_each(|script| goes_on("gantry-epilog", script));
}

fn goes_on(program: &str, script: &str) {
    let ran = run(program, script);
    assert_eq!(ran.code, Some(0), "{script}");
    assert!(ran.took < Duration::from_secs(10), "{script}: {:?}", ran.took);
    let sentence = "job 7: gantry-suid has not answered after 1 seconds\n";
    assert!(ran.logged.ends_with(sentence), "{script}: {}", ran.logged);
}
