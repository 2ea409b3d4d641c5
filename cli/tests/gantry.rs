//! `gantry` up to the set-user-id program, in whose place a script tells what it was given.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use gateway_api::{Code, ErrorBody};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use support::munged::Munged;
use support::server::{Reply, Server, closed_url};
use support::{Ran, Site};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const GANTRY: &str = env!("CARGO_BIN_EXE_gantry");

/// A site whose set-user-id program prints its arguments, one a line, and runs `more`.
fn site(munged: Option<&Munged>, gateway: &str, more: &str) -> Site {
    let site = Site::new(munged, &[gateway.to_string()], "gantrySuidPath={site}/suid");
    let suid = site.path().join("suid");
    fs::write(&suid, format!("#!/bin/sh\nprintf '%s\\n' \"$@\"\n{more}\n")).unwrap();
    fs::set_permissions(&suid, fs::Permissions::from_mode(0o755)).unwrap();
    site
}

fn run(site: &Site, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
    let mut command = site.command(GANTRY);
    Ran::of(command.envs(variables.iter().copied()).args(arguments))
}

/// What the set-user-id program was given, without who the caller is.
fn words(ran: &Ran) -> Vec<&str> {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let own = |word: &&str| !word.starts_with("--passwd=") && !word.starts_with("--group=");
    ran.stdout.lines().filter(own).collect()
}

#[test]
fn everything_that_was_typed_reaches_the_runtime() {
    let site = site(None, &closed_url(), "");
    let image = format!("--image=id:{A}");
    let ran = run(
        &site,
        &[],
        &[
            &image,
            "-V",
            "/a:/b;/c:/d:ro",
            "-w=/w",
            "-e",
            "K=v w",
            "-E",
            "--entry",
            "--",
            "ls",
            "-l",
        ],
    );
    let digest = format!("--digest={A}");
    let request = format!("--request=id:{A}");
    assert_eq!(
        words(&ran),
        [
            "run",
            &digest,
            &request,
            "--volume=/a:/b",
            "--volume=/c:/d:ro",
            "--workdir=/w",
            "--env=K=v w",
            "--clearenv",
            "--entrypoint",
            "--",
            "ls",
            "-l"
        ]
    );
    assert!(ran.stdout.contains("--passwd=root:x:0:0:"), "{ran:?}");
}

#[test]
fn a_jobs_digest_is_used_without_asking_anybody() {
    let site = site(None, &closed_url(), "");
    let digest = format!("sha256:{A}");
    let job = [
        ("GANTRY_IMAGE", digest.as_str()),
        ("GANTRY_IMAGE_REQUEST", "docker:a:1"),
        ("GANTRY_VOLUME", "/x:/y"),
    ];
    let expected = [
        "run".to_string(),
        format!("--digest={A}"),
        "--request=docker:a:1".to_string(),
        "--volume=/x:/y".to_string(),
        "--".to_string(),
        "app".to_string(),
    ];
    assert_eq!(words(&run(&site, &job, &["app"])), expected);
    assert_eq!(words(&run(&site, &job, &["--image=docker:a:1", "app"])), expected);
    // Another image must be asked for, and nobody answers.
    let other = run(&site, &job, &["--image=docker:a:2", "app"]);
    assert_eq!(other.code, Some(125));
    assert!(other.stderr.starts_with("gantry: cannot find docker:a:2: "), "{other:?}");
}

#[test]
fn a_name_is_asked_for_and_one_that_is_not_there_says_how_to_pull_it() {
    let munged = Munged::start();
    let server = Server::start(|_, request| match request.path.contains("nosuch") {
        true => {
            let text =
                "image not found: docker:nosuch:1 has not been pulled, or you may not use it";
            let body = ErrorBody::new(Code::NotFound, text)
                .with_hint("`imgctl pull docker:nosuch:1` pulls it");
            Reply::Whole(404, serde_json::to_string(&body).unwrap())
        }
        false => Reply::Whole(
            200,
            format!(
                r#"{{"id":"{A}","system":"c1","itype":"docker","tag":[],"status":"READY","userACL":[],"groupACL":[],"ENV":null,"ENTRY":null,"WORKDIR":"","LABELS":{{}},"last_pull":1.0,"status_message":""}}"#
            ),
        ),
    });
    let site = site(Some(&munged), &server.url(), "");
    let ran = run(&site, &[], &["-i", "a:1", "true"]);
    assert_eq!(words(&ran)[1..3], [&format!("--digest={A}"), "--request=a:1"]);
    assert_eq!(server.lines(), ["GET /api/lookup/c1/docker/a%3A1/"]);
    run(&site, &[("SHIFTER_IMAGEREQUEST", "nosuch:1")], &["true"]).fails(
        125,
        "gantry: image not found: docker:nosuch:1 has not been pulled, or you may not use it\n\
         hint: `imgctl pull docker:nosuch:1` pulls it",
    );
}

#[test]
fn without_a_gateway_published_names_still_run() {
    let munged = Munged::start();
    let url = closed_url();
    let site = site(Some(&munged), &url, "");
    symlink(A, site.images().join("names/docker%3Aa%3A1")).unwrap();
    fs::write(site.images().join(format!("{A}.squashfs")), "").unwrap();
    let ran = run(&site, &[], &["--image=a:1", "true"]);
    assert_eq!(words(&ran)[1], format!("--digest={A}"));
    assert_eq!(
        ran.stderr,
        format!(
            "gantry: note: the image gateway at {url} is down (connection refused); \
             using the digest published in the image directory\n"
        )
    );
}

#[test]
fn image_none_runs_on_the_host_with_the_shells_exit_codes() {
    let site = site(None, &closed_url(), "");
    let job = [("GANTRY_IMAGE", A)];
    let run = |words: &[&str]| run(&site, &job, words);
    run(&["--image=none", "echo", "host", "--image=x"]).prints("host --image=x");
    assert_eq!(run(&["--image=none", "sh", "-c", "exit 42"]).code, Some(42));
    run(&["--image=none", "nosuchcmd"])
        .fails(127, "gantry: cannot run nosuchcmd: no such file or directory");
    run(&["--image=none", "/etc/passwd"])
        .fails(126, "gantry: cannot run /etc/passwd: permission denied");
    run(&["--image=none"]).fails(125, "gantry: no command was given to run on the host");
}

#[test]
fn a_task_whose_program_was_swapped_enters_and_is_never_taken_for_options() {
    let site =
        site(None, &closed_url(), "echo \"left: $GANTRY_TASK_PROGRAM\"; echo \"kept: $KEPT\"");
    let digest = format!("sha256:{A}");
    let task = [
        ("GANTRY_TASK_PROGRAM", "./app"),
        ("GANTRY_IMAGE", digest.as_str()),
        ("GANTRY_IMAGE_REQUEST", "docker:a:1"),
        ("GANTRY_VOLUME", "/x:/y:ro;/z:/w"),
        ("SHIFTER_VOLUME", "/not:/this"),
        ("KEPT", "yes"),
    ];
    let ran = run(&site, &task, &["--image=none", "-V", "x", "--"]);
    assert_eq!(
        words(&ran)[3..],
        [
            "--volume=/x:/y:ro",
            "--volume=/z:/w",
            "--",
            "./app",
            "--image=none",
            "-V",
            "x",
            "--",
            "left: ",
            "kept: yes"
        ]
    );
    // Without an image of its own it does not run at all, whatever else the environment says.
    let spanks = format!("sha256:{A}");
    let lost = [
        ("GANTRY_TASK_PROGRAM", "/bin/true"),
        ("SLURM_SPANK_GANTRY_IMAGE", spanks.as_str()),
        ("GANTRY_RUNTIME", "1"),
    ];
    let ran = run(&site, &lost, &[]);
    assert_eq!(ran.code, Some(125), "{ran:?}");
}

#[test]
fn inside_the_same_image_the_command_just_runs() {
    let site = site(None, &closed_url(), "");
    let digest = format!("sha256:{A}");
    let inside = [
        ("GANTRY_RUNTIME", "1"),
        ("GANTRY_IMAGE", digest.as_str()),
        ("GANTRY_IMAGE_REQUEST", "a:1"),
    ];
    let confined = |words: &[&str]| {
        let mut command = site.command("setpriv");
        command.args(["--no-new-privs", GANTRY]).args(words).envs(inside);
        Ran::of(&mut command)
    };
    confined(&["echo", "hello"]).prints("hello");
    confined(&["--image=docker:a:1", "echo", "hello"]).prints("hello");
    confined(&[&format!("--image=id:{A}"), "echo", "hello"]).prints("hello");
    let other = format!("--image=id:{}", "b".repeat(64));
    let ran = confined(&[&other, "true"]);
    assert_eq!(ran.code, Some(125));
    assert!(ran.stderr.contains("from inside another image"), "{ran:?}");
    assert_eq!(confined(&["--image=none", "true"]).code, Some(125));
    // The variables alone, as a job inherits them from where it was submitted, prove nothing.
    assert_eq!(words(&run(&site, &inside, &["echo", "hello"]))[0], "run");
}

#[test]
fn pmis_descriptor_is_kept_open_and_named() {
    let site = site(None, &closed_url(), "echo \"pmi: $(readlink /proc/self/fd/7)\"");
    let mut command = site.command("sh");
    let script = format!("exec 7</etc/hostname; PMI_FD=7 exec {GANTRY} --image=id:{A} app");
    let ran = Ran::of(command.args(["-c", &script]));
    let words = words(&ran);
    assert!(words.contains(&"--keep-fd=7"), "{words:?}");
    assert!(words.contains(&"pmi: /etc/hostname"), "{words:?}");
}

#[test]
fn the_command_gets_the_default_reaction_to_a_broken_pipe() {
    // Rust programs ignore SIGPIPE; what they exec must not.
    let site = site(None, &closed_url(), "");
    let ran = run(&site, &[], &["--image=none", "grep", "SigIgn", "/proc/self/status"]);
    let mask = u64::from_str_radix(ran.stdout.trim().rsplit('\t').next().unwrap(), 16).unwrap();
    assert_eq!(mask & (1 << 12), 0, "{ran:?}");
}

#[test]
fn own_failures_are_125_with_one_sentence_and_a_hint() {
    let site = Site::new(None, &[closed_url()], "gantrySuidPath=/nonexistent/suid");
    let image = format!("--image=id:{A}");
    let run = |words: &[&str]| run(&site, &[], words);
    run(&[&image, "true"]).fails(
        125,
        "gantry: cannot start /nonexistent/suid: no such file or directory\n\
         hint: `imgctl doctor` checks this host's installation",
    );
    run(&["true"]).fails(
        125,
        "gantry: no image is named, and there is no job with an image around\n\
         hint: give one with --image=docker:NAME:TAG; `imgctl list` shows what is there",
    );
    run(&["--imgae=x", "true"]).fails(
        125,
        "gantry: unexpected argument '--imgae' found\nhint: a similar argument exists: '--image'",
    );
    let ran = run(&[&image, "--volume=/home:/etc", "true"]);
    assert_eq!(ran.code, Some(125));
    assert!(ran.stderr.contains("/home:/etc") && ran.stderr.contains("\nhint: "), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 2);
}

#[test]
fn called_as_shifter_it_calls_itself_so_and_nothing_else_differs() {
    let site = site(None, &closed_url(), "");
    let mut shifter = site.command(GANTRY);
    shifter.arg0("/usr/bin/shifter");
    let help = Ran::of(shifter.arg("--help"));
    assert_eq!(help.code, Some(0));
    assert!(help.stdout.contains("Usage: shifter [OPTIONS] [--] [COMMAND"), "{help:?}");
    assert!(help.stdout.contains("--volume") && help.stderr.is_empty());
    let link: PathBuf = site.path().join("shifter");
    symlink(GANTRY, &link).unwrap();
    let mut shifter = site.command(link.to_str().unwrap());
    Ran::of(shifter.arg("true")).fails(
        125,
        "shifter: no image is named, and there is no job with an image around\n\
         hint: give one with --image=docker:NAME:TAG; `imgctl list` shows what is there",
    );
    let version = run(&site, &[], &["--version"]);
    version.prints(concat!("gantry ", env!("CARGO_PKG_VERSION")));
}
