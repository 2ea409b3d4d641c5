//! Children that crash, linger, lie or are not there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::pull::progress::Progress;

/// Messages of a child that talks too much.
const FLOOD: u64 = 200_000;

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
async fn it_gets_a_socket_its_standard_error_a_word_for_the_allocator_and_nothing_else() {
    let (_directory, converter) = script(
        "readlink /proc/self/fd/0 >&2; readlink /proc/self/cwd >&2; tr '\\0' '\\n' < /proc/$$/environ >&2; exit 3",
    );
    // Kept for the log; what is looked at here is what the shell found in its environment.
    let mut command = converter.command();
    let output = command.stdin(Stdio::null()).output().unwrap();
    let found = String::from_utf8(output.stderr).unwrap();
    // Some releases of glibc end each of its words in place.
    let expected = format!("/dev/null\n/\nGLIBC_TUNABLES={ALLOCATOR}\n").replace(':', "\n");
    assert_eq!(found.replace(':', "\n"), expected);
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

/// Shows what it hears, as a pull does.
struct Shown(Arc<Progress>);

impl Listener for Shown {
    type Error = ChildError;

    fn hear(&mut self, reply: Reply, _: &Channel) -> Result<(), ChildError> {
        match reply {
            Reply::Written { bytes } => self.0.written(bytes),
            Reply::Taken { layer, bytes } => self.0.taken(layer, bytes),
            _ => return Err(ChildError::Protocol("nothing else is in this test")),
        }
        Ok(())
    }
}

#[test]
fn a_flood_of_progress_wakes_few_keeps_nobody_waiting_and_piles_up_nowhere() {
    let (ours, theirs) = Channel::pair().unwrap();
    let progress = Arc::new(Progress::begin());
    progress.layers([(image_ref::Digest::from_bytes([1; 32]), u64::MAX)].into_iter());
    let (began, over, sent) = (Instant::now(), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut watch, mut woken) = (progress.watch(), 0);
            let (mut longest, mut unheard) = (Duration::ZERO, 0);
            while !over.load(Ordering::Relaxed) {
                let (asked, sent) = (Instant::now(), sent.load(Ordering::Relaxed));
                woken += u32::from(watch.has_changed().unwrap());
                watch.mark_unchanged();
                unheard = unheard.max(sent.saturating_sub(2 * progress.latest().written));
                longest = longest.max(asked.elapsed());
                std::thread::yield_now();
            }
            (woken, longest, unheard)
        });
        let sent = &sent;
        let flood = scope.spawn(move || {
            // What nobody has heard yet the socket holds, up to its own bound; then the child waits.
            for bytes in 0..FLOOD / 2 {
                theirs.send(&Reply::Written { bytes }, &[]).unwrap();
                theirs.send(&Reply::Taken { layer: 0, bytes }, &[]).unwrap();
                sent.fetch_add(2, Ordering::Relaxed);
            }
        });
        assert_eq!(listen(&ours, &mut Shown(Arc::clone(&progress))).unwrap(), None);
        over.store(true, Ordering::Relaxed);
        flood.join().unwrap();
        let (woken, longest, unheard) = watcher.join().unwrap();
        let most = began.elapsed().as_millis() / 100 + 2;
        assert!(u128::from(woken) <= most, "{woken} of {FLOOD} woke who watches, {most} may");
        assert!(longest < Duration::from_secs(1), "who asked waited {longest:?}");
        assert!(unheard < FLOOD / 10, "{unheard} messages were kept somewhere");
    });
    let last = progress.latest();
    assert_eq!(
        (last.written, last.layers.len(), last.layers[0].done),
        (FLOOD / 2 - 1, 1, FLOOD / 2 - 1)
    );
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
