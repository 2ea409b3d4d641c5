//! The converter as the gateway runs it: killed, missing, lying, and what is left of it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod site;

use std::path::Path;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};
use site::{ALICE, BOB, Site};

fn push(site: &Site, repository: &str) -> String {
    site.registry.push(repository, "1", &[("bin/app", repository.as_bytes())])
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
}

fn error_of(record: &Value) -> (String, String) {
    let text = |key: &str| {
        record["failure"][key].as_str().unwrap_or_else(|| panic!("{record}")).to_string()
    };
    (text("code"), text("error"))
}

#[test]
fn a_converter_that_is_killed_is_one_failed_pull_and_no_more() {
    let site = Site::start();
    push(&site, "org/a");
    push(&site, "org/b");
    site.registry.hold(true);
    thread::scope(|scope| {
        let a = scope.spawn(|| site.pull_bound(ALICE, "org/a:1", &[]));
        let [first] = site.until(|| <[u32; 1]>::try_from(site.converters()).ok());
        let b = scope.spawn(|| site.pull_bound(BOB, "org/b:1", &[]));
        site.until(|| (site.converters().len() == 2).then_some(()));
        kill(first);
        let (code, error) = error_of(&a.join().unwrap());
        assert_eq!(code, "internal");
        assert_eq!(
            error,
            "cannot pull docker:org/a:1: the conversion broke off: its process was ended by SIGKILL"
        );
        assert_eq!(site.file_names("images/.partial").len(), 1, "the other one's");
        assert_eq!(site.converters().len(), 1);
        site.registry.hold(false);
        assert_eq!(b.join().unwrap()["status"], "READY");
    });
    assert_eq!(site.pull_bound(ALICE, "org/a:1", &[])["status"], "READY");
    assert_eq!(site.file_names("images/.partial"), [""; 0]);
    assert_eq!(site.converters(), [0; 0]);
}

#[test]
fn converters_end_with_their_gateway_however_it_ends() {
    for (signal, code) in [("-KILL", None), ("-TERM", Some(0)), ("-INT", Some(0))] {
        let mut site = Site::start();
        push(&site, "org/app");
        site.registry.hold(true);
        site.ask(ALICE, "POST", "/api/pull/c1/docker/org/app:1/");
        let [child] = site.until(|| <[u32; 1]>::try_from(site.converters()).ok());
        assert_eq!(site.end_gateway(signal), code);
        let process = format!("/proc/{child}");
        site.until(|| (!Path::new(&process).exists()).then_some(()));
        // A pull that the shutdown interrupted is no failed one: it goes on by itself.
        site.registry.hold(false);
        site.start_gateway();
        site.until(|| (site.lookup(BOB, "org/app:1").status == 200).then_some(()));
        assert_eq!(site.file_names("images/.partial"), [""; 0]);
    }
}

#[test]
fn an_image_that_the_examination_refuses_is_not_published() {
    // Before the second child begins, a byte of the file that the first one wrote is changed behind its back.
    let site = Site::with_script(
        "if [ \"$1\" = --parent ]; then\n\
         if [ -e $STATE/second ]; then\n\
         for file in $IMAGES/.partial/*; do printf '\\377' | dd of=$file bs=1 seek=5 conv=notrunc 2>/dev/null; done\n\
         fi\n: > $STATE/second\nfi\nexec $CONVERTER \"$@\"",
    );
    push(&site, "org/app");
    let (code, error) = error_of(&site.pull_bound(ALICE, "org/app:1", &[]));
    assert_eq!(code, "internal");
    let words =
        "cannot pull docker:org/app:1: the image that was made is not fit to be published: ";
    assert!(error.starts_with(words), "{error}");
    assert_eq!(site.lookup(ALICE, "org/app:1").status, 404);
    assert_eq!(site.file_names("images"), [".partial", "names"]);
    assert_eq!(site.file_names("images/.partial"), [""; 0]);
    assert_eq!(site.file_names("images/names"), [""; 0]);
}

#[test]
fn a_converter_that_does_not_work_here_is_a_failure_that_says_so() {
    for (body, expected) in [
        (
            "exit 71",
            "the converter cannot be confined on the gateway's host, and does nothing unconfined",
        ),
        ("exit 0", "the conversion broke off: its process ended without a word"),
        (
            "echo 'thread main panicked' >&2; exit 101",
            "the conversion broke off: its process ended with status 101",
        ),
    ] {
        let site = Site::with_script(body);
        push(&site, "org/app");
        let (code, error) = error_of(&site.pull_bound(ALICE, "org/app:1", &[]));
        let expected = format!("cannot pull docker:org/app:1: {expected}");
        assert_eq!((code.as_str(), error), ("internal", expected));
        assert_eq!(site.file_names("images/.partial"), [""; 0]);
        let checked = site.program(65534).arg("check").output().unwrap();
        let notes = String::from_utf8(checked.stdout).unwrap();
        let told = notes.contains("ConverterPath: no image can be made: ");
        assert_eq!(told, body != "exit 0", "{notes}");
    }
}

#[test]
fn limits_are_kept_by_the_converter_and_named_as_before() {
    let site = Site::with(|config| config["Limits"] = json!({ "Entries": 1 }));
    push(&site, "org/app");
    site.registry.push("org/two", "1", &[("one", b"1"), ("two", b"2")]);
    assert_eq!(site.pull_bound(ALICE, "org/app:1", &[])["status"], "READY");
    let (code, error) = error_of(&site.pull_bound(ALICE, "org/two:1", &[]));
    assert_eq!(code, "limit-exceeded");
    assert!(error.starts_with("cannot pull docker:org/two:1: layer 1 (sha256:"), "{error}");
    assert!(error.contains("cannot be converted: it is over a limit: "), "{error}");
}

/// Pulls an image that shares a layer with another, where the converters from the third run on until `last` end by
/// `death`; returns how the pull ended and how many converters ran.
fn pull_over_deaths(death: &str, last: u32) -> (Value, usize) {
    let site = Site::with_script(&format!(
        "if [ \"$1\" = --parent ]; then\necho >> $STATE/runs\nrun=$(wc -l < $STATE/runs)\n\
         if [ $run -ge 3 ] && [ $run -le {last} ]; then {death}; fi\nfi\nexec $CONVERTER \"$@\""
    ));
    let base: &[(&str, &[u8])] = &[("bin/sh", b"#!")];
    site.registry.push_image("org/app", "1", &[base, &[("one", b"1")]]);
    site.registry.push_image("org/app", "2", &[base, &[("two", b"2")]]);
    // One run that converts, and one that examines.
    assert_eq!(site.pull_bound(ALICE, "org/app:1", &[])["status"], "READY");
    let outcome = site.pull_bound(ALICE, "org/app:2", &[]);
    assert_eq!(site.file_names("images/.partial"), [""; 0]);
    (outcome, std::fs::read_to_string(site.path("state/runs")).unwrap().len())
}

#[test]
fn a_converter_that_dies_over_layers_of_other_images_is_tried_once_more_without_them() {
    for death in ["kill -SEGV $$", "exit 101", "exit 0"] {
        let (outcome, runs) = pull_over_deaths(death, 3);
        assert_eq!(outcome["status"], "READY", "{death}: {outcome}");
        let states: Vec<_> =
            outcome["layers"].as_array().unwrap().iter().map(|layer| &layer["state"]).collect();
        assert_eq!(states, ["done", "done"], "{death}");
        assert_eq!(runs, 5, "{death}");
    }
    let (outcome, runs) = pull_over_deaths("kill -SEGV $$", u32::MAX);
    let (code, error) = error_of(&outcome);
    assert_eq!((code.as_str(), runs), ("internal", 4), "a second death is the end of it");
    assert!(error.ends_with("its process was ended by SIGSEGV"), "{error}");
    // That there is no sandbox no other images can change.
    let (_, runs) = pull_over_deaths("exit 71", u32::MAX);
    assert_eq!(runs, 3);
}

#[test]
fn a_converter_that_gets_no_threads_or_memory_ends_and_is_not_waited_for() {
    let ends = (3..12).map(|limit| {
        let site = Site::with_script(&format!("ulimit -d {limit}000\nexec $CONVERTER \"$@\""));
        push(&site, "org/app");
        site.pull_bound(ALICE, "org/app:1", &[])["status"].clone()
    });
    let failures = ends.filter(|status| status == "FAILURE").count();
    assert!(failures > 2, "{failures}");
}
