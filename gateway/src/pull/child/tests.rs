//! Children that crash, linger, lie or are not there.

use std::time::Duration;

use tempfile::TempDir;

use super::*;

/// A program that does what the script says in the converter's place.
fn script(body: &str) -> (TempDir, Converter) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("converter");
    // Written by another process: a file that a child of this one has open for writing cannot be executed.
    let write = "printf '#!/bin/sh\n%s\n' \"$2\" > \"$1\"; chmod 755 \"$1\"";
    let mut shell = Command::new("sh");
    let status = shell.args(["-c", write, "sh"]).arg(&path).arg(body).status().unwrap();
    assert!(status.success());
    let converter = Converter::new(&path);
    (directory, converter)
}

/// Counts what it hears, and hears everything.
#[derive(Debug, Default)]
struct Patient(usize);

impl Listener for Patient {
    type Error = ChildError;

    fn hear(&mut self, _: Reply, _: &Channel) -> Result<(), ChildError> {
        self.0 += 1;
        Ok(())
    }
}

fn some_file() -> OwnedFd {
    tempfile::tempfile().unwrap().into()
}

async fn ask(converter: &Converter) -> Result<(LastWord, Patient), ChildError> {
    let work = converter.ask(Request::Examine, vec![some_file()], Patient::default());
    tokio::time::timeout(Duration::from_secs(20), work).await.unwrap()
}

#[tokio::test]
async fn however_it_ends_there_is_a_sentence() {
    for (body, expected) in [
        ("kill -SEGV $$", "the conversion broke off: its process was ended by SIGSEGV"),
        ("kill -KILL $$", "the conversion broke off: its process was ended by SIGKILL"),
        ("echo why >&2; exit 3", "the conversion broke off: its process ended with status 3"),
        (
            "exit 71",
            "the converter cannot be confined on the gateway's host, and does nothing unconfined",
        ),
        ("exit 0", "the conversion broke off: its process ended without a word"),
        // It writes more than anybody reads.
        (
            "yes | head -c 1000000 >&2; exit 3",
            "the conversion broke off: its process ended with status 3",
        ),
    ] {
        let (_directory, converter) = script(body);
        assert_eq!(ask(&converter).await.unwrap_err().to_string(), expected, "{body}");
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let converter = Converter::new(Path::new("/none/gantry-convert"));
    let error = ask(&converter).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot start the converter /none/gantry-convert");
    assert!(converter.check().is_err());
}

#[tokio::test]
async fn one_that_goes_on_without_its_socket_is_ended() {
    let (_directory, converter) = script("exec 0<&-; exec sleep 1000");
    let error = ask(&converter).await.unwrap_err();
    assert!(matches!(&error, ChildError::Signal(name) if name == "SIGKILL"), "{error}");
}

#[tokio::test]
async fn one_that_nobody_waits_for_any_more_is_ended_and_reaped() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("pid");
    let (_directory, converter) =
        script(&format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", pid_file.display()));
    let work = tokio::spawn(async move { ask(&converter).await });
    let pid = until(|| std::fs::read_to_string(&pid_file).ok()).await;
    let process = format!("/proc/{}", pid.trim());
    assert!(Path::new(&process).exists());
    work.abort();
    until(|| (!Path::new(&process).exists()).then_some(())).await;
}

#[tokio::test]
async fn it_gets_a_socket_its_standard_error_and_nothing_else() {
    let (_directory, converter) = script(
        "readlink /proc/self/fd/0 >&2; readlink /proc/self/cwd >&2; tr '\\0' '\\n' < /proc/$$/environ >&2; exit 3",
    );
    // Kept for the log; what is looked at here is that the shell found no environment to speak of.
    let mut command = converter.command();
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "/dev/null\n/\n");
}

#[test]
fn a_child_that_was_let_go_before_it_started_does_not_start() {
    let (_directory, converter) = script("exit 0");
    let leash = Leash::default();
    leash.cut();
    let error = leash.start(&mut converter.command()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Interrupted);
}

#[test]
fn a_message_that_is_none_is_the_end() {
    let (ours, theirs) = Channel::pair().unwrap();
    theirs.send(&converter_api::Answer::Go { sources: 0 }, &[]).unwrap();
    let error = listen(&ours, &mut Patient::default()).unwrap_err();
    assert_eq!(error.to_string(), "the converter does not keep to its protocol");
}

#[test]
fn what_comes_before_the_last_word_is_heard_in_order() {
    let (ours, theirs) = Channel::pair().unwrap();
    for reply in [
        Reply::Open { layer: 0 },
        Reply::Written { bytes: 1 },
        Reply::Examined,
        Reply::Written { bytes: 2 },
    ] {
        theirs.send(&reply, &[]).unwrap();
    }
    drop(theirs);
    let mut patient = Patient::default();
    assert_eq!(listen(&ours, &mut patient).unwrap(), Some(LastWord::Examined));
    assert_eq!(patient.0, 2);
    assert_eq!(listen(&ours, &mut patient).unwrap(), None);
}

async fn until<T>(ready: impl Fn() -> Option<T>) -> T {
    for _ in 0..1000 {
        if let Some(value) = ready() {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing came of it in twenty seconds");
}
