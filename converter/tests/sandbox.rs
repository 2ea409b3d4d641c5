//! The sandbox from inside: what must not work, and what must.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

fn probe(argument: &str, input: Stdio) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gantry-convert-probe"))
        .arg(argument)
        .stdin(input)
        .output()
        .unwrap()
}

#[test]
fn nothing_outside_can_be_reached_from_any_thread() {
    let output = probe("forbidden", Stdio::null());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let refused: Vec<&str> = text.lines().filter(|line| line.ends_with("(os error 1)")).collect();
    let other: Vec<&str> = text.lines().filter(|line| !line.ends_with("(os error 1)")).collect();
    assert_eq!(other, [""; 0], "all of these must be refused by the list of system calls");
    for (place, expected) in [("main: ", 28), ("thread: ", 28)] {
        let found = refused.iter().filter(|line| line.starts_with(place)).count();
        assert_eq!(found, expected, "{place}{text}");
    }
}

#[test]
fn a_conversion_can_work() {
    let file = tempfile::tempfile().unwrap();
    let output = probe("allowed", file.try_clone().unwrap().into());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"written\n");
    assert_eq!(file.metadata().unwrap().len(), 1 << 20);
}

#[test]
fn a_panic_and_an_abort_end_as_such_and_say_why() {
    let output = probe("panic", Stdio::null());
    assert_eq!(output.status.code(), Some(101));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("as it was asked to"), "{said}");
    assert_eq!(probe("abort", Stdio::null()).status.signal(), Some(6));
}

#[test]
fn memory_is_bounded() {
    let output = probe("hoard", Stdio::null());
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("memory allocation of 5368709120 bytes failed"), "{said}");
}

#[test]
fn descriptors_that_were_left_open_by_mistake_are_closed() {
    // The shell passes them on, as a careless library of the gateway would.
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    File::create(&secret).unwrap();
    let script = "exec 7<\"$1\" 9<\"$1\"; exec \"$0\" forget-parent";
    let mut child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_gantry-convert-probe")])
        .arg(&secret)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    wait_until(|| std::fs::read_to_string(&status).unwrap().contains("Seccomp:\t2"));
    let open = std::fs::read_dir(format!("/proc/{}/fd", child.id())).map(|list| {
        let mut names: Vec<_> = list.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    });
    let text = std::fs::read_to_string(&status).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(text.contains("NoNewPrivs:\t1"), "{text}");
    // Who is not root cannot look, which is as well.
    if let Ok(open) = open {
        assert_eq!(open, ["0", "1", "2"]);
    }
}

#[test]
fn the_sandbox_says_what_it_is() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_gantry-convert")).arg("--check").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("seccomp: on; landlock: "), "{said}");
}

#[test]
fn without_its_parent_it_does_not_begin() {
    let output = Command::new(env!("CARGO_BIN_EXE_gantry-convert"))
        .args(["--parent", "1"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "the gateway that started the converter is gone\n");
}

fn wait_until(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("it did not come within ten seconds");
}
