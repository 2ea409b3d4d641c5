//! `imgctl` against a gateway that behaves, and against none.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use gateway_api::{Code, ErrorBody};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use support::munged::Munged;
use support::server::{Reply, Server, closed_url};
use support::{Ran, Site};

const HEX: &str = "abababababababababababababababababababababababababababababababab";

fn record(status: &str) -> Value {
    json!({
        "id": "MISSING", "system": "c1", "itype": "docker", "tag": [], "status": status,
        "userACL": [], "groupACL": [], "ENV": "MISSING", "ENTRY": "MISSING", "WORKDIR": "MISSING",
        "LABELS": "MISSING", "last_pull": "MISSING", "status_message": "MISSING"
    })
}

fn ready() -> Value {
    let mut ready = record("READY");
    ready["id"] = HEX.into();
    ready["digest"] = format!("sha256:{HEX}").into();
    ready["size"] = (512u64 << 20).into();
    ready["owner"] = 0.into();
    ready["tag"] = json!(["a/b:1", "a/b:2"]);
    ready
}

fn event(status: &str, done: u64) -> String {
    let state = if done == 1 << 20 { "done" } else { "pulling" };
    let mut event = json!({
        "status": status, "message": "", "written": 0, "seconds": 1.0,
        "layers": [{"digest": format!("sha256:{HEX}"), "size": 1 << 20, "done": done, "state": state}]
    });
    if status == "READY" {
        event["digest"] = format!("sha256:{HEX}").into();
        event["written"] = (512u64 << 20).into();
    }
    format!("{event}\n")
}

fn error(code: Code, text: &str, hint: Option<&str>) -> Reply {
    let mut body = ErrorBody::new(code, text);
    body.hint = hint.map(str::to_string);
    Reply::Whole(body.status, serde_json::to_string(&body).unwrap())
}

fn not_found() -> Reply {
    error(Code::NotFound, "image not found", None)
}

#[test]
fn a_pull_follows_the_events_and_ends_with_digest_size_and_time() {
    let munged = Munged::start();
    let server = Server::start(|_, request| match request.path.contains("/events/") {
        true => Reply::Stream(vec![
            event("PULLING", 0),
            "\n".to_string(),
            event("PULLING", 1 << 20),
            event("TRANSFER", 1 << 20),
            event("READY", 1 << 20),
        ]),
        false => Reply::Whole(200, record("INIT").to_string()),
    });
    let ran = Site::served(&munged, &server).imgctl("pull a/b:1");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let words: Vec<&str> = ran.stdout.split_whitespace().collect();
    assert_eq!(words[..4], [&format!("sha256:{HEX}"), "512", "MiB", "in"]);
    assert_eq!(ran.stderr, "imgctl: pulling: 0 of 1 layers, 0 B of 1.0 MiB\nimgctl: publishing\n");
    assert_eq!(
        server.lines(),
        ["POST /api/pull/c1/docker/a%2Fb%3A1/", "GET /api/events/c1/docker/a%2Fb%3A1/"]
    );
    let credentials: Vec<_> =
        server.requests().iter().map(|r| r.payload(&munged.socket())).collect();
    assert!(credentials.iter().all(|payload| payload.authorized_locations.is_empty()));
}

#[test]
fn an_image_that_is_there_takes_one_request_and_no_time() {
    let munged = Munged::start();
    let server = Server::always(Reply::Whole(200, ready().to_string()));
    let site = Site::served(&munged, &server);
    let ran = site.imgctl("pull docker:a/b:1");
    ran.prints(&format!("sha256:{HEX} 512 MiB, already there"));
    assert_eq!(ran.stderr, "");
    assert!(ran.took.as_secs_f64() < 0.9, "{:?}", ran.took);
    assert_eq!(server.lines().len(), 1);
    site.imgctl("pull -q a/b:1").prints(&format!("sha256:{HEX}"));
    let json: Value = serde_json::from_str(&site.imgctl("pull --json a/b:1").stdout).unwrap();
    assert_eq!(json["was_there"], true);
    assert_eq!(json["size"], 512 << 20);
}

#[test]
fn a_stream_that_breaks_is_replaced_by_asking_again() {
    for breaking in [
        Reply::BrokenStream(vec![event("PULLING", 5)]),
        Reply::HangingStream(vec![event("PULLING", 5)]),
        Reply::BrokenStream(vec!["{\"status\":".to_string()]),
        Reply::Stream(vec!["no json\n".to_string()]),
        Reply::Stream(vec![]),
        Reply::Hang,
        Reply::Whole(500, "oops".to_string()),
    ] {
        let munged = Munged::start();
        let shown = format!("{breaking:?}");
        let server = Server::start(move |number, _| match number {
            0 => Reply::Whole(200, record("PENDING").to_string()),
            1 => breaking.clone(),
            _ => Reply::Whole(200, ready().to_string()),
        });
        let ran = Site::served(&munged, &server).imgctl("pull --quiet a/b:1");
        assert_eq!(ran.stdout, format!("sha256:{HEX}\n"), "{shown}");
        assert_eq!(ran.stderr, "", "{shown}");
        assert_eq!(server.lines().len(), 3, "{shown}");
    }
}

#[test]
fn a_gateway_that_restarts_in_the_middle_is_waited_for() {
    let munged = Munged::start();
    let server = Server::start(|number, _| match number {
        0 => Reply::Whole(200, record("PULLING").to_string()),
        1..5 => Reply::CutShort(String::new()),
        _ => Reply::Whole(200, ready().to_string()),
    });
    let ran = Site::served(&munged, &server).imgctl("pull a/b:1");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr.matches("waiting for it").count(), 1, "{}", ran.stderr);
}

#[test]
fn a_failed_pull_says_why_whether_it_fails_now_or_failed_before() {
    let body = ErrorBody::new(
        Code::RegistryNotFound,
        "cannot pull docker:small:9.9: registry.example.org has no tag 9.9 in repository library/small",
    )
    .with_hint("it has 1.0 and latest");
    let expected = "imgctl: cannot pull docker:small:9.9: registry.example.org has no tag 9.9 in \
                    repository library/small\nhint: it has 1.0 and latest";
    let munged = Munged::start();
    let mut failed = record("FAILURE");
    failed["failure"] = serde_json::to_value(&body).unwrap();
    let before = Server::always(Reply::Whole(200, failed.to_string()));
    Site::served(&munged, &before).imgctl("pull small:9.9").fails(5, expected);

    let mut last: Value = serde_json::from_str(&event("FAILURE", 0)).unwrap();
    last["failure"] = serde_json::to_value(&body).unwrap();
    let now = Server::start(move |number, _| match number {
        0 => Reply::Whole(200, record("INIT").to_string()),
        _ => Reply::Stream(vec![format!("{last}\n")]),
    });
    Site::served(&munged, &now).imgctl("pull -q small:9.9").fails(5, expected);

    let mut shifters = record("FAILURE");
    shifters["status_message"] = "FAILED".into();
    let shifter = Server::always(Reply::Whole(200, shifters.to_string()));
    Site::served(&munged, &shifter)
        .imgctl("pull small:9.9")
        .fails(1, "imgctl: cannot pull docker:small:9.9: FAILED");
}

#[test]
fn access_lists_travel_as_numbers() {
    let munged = Munged::start();
    let server = Server::always(Reply::Whole(200, ready().to_string()));
    let site = Site::served(&munged, &server);
    site.imgctl("pull --quiet --user=root,21001 --group=root a/b:1")
        .prints(&format!("sha256:{HEX}"));
    assert_eq!(server.requests()[0].body, br#"{"allowed_uids":"0,21001","allowed_gids":"0"}"#);
    server.requests()[0].payload(&munged.socket());
    site.imgctl("pull --user=nosuchuser a").fails(
        2,
        "imgctl: there is no user `nosuchuser` on this host\nhint: names and numbers are separated by commas",
    );
}

#[test]
fn a_pull_that_may_have_been_joined_is_asked_once_more_with_the_access_lists() {
    let munged = Munged::start();
    let server = Server::start(|number, request| match request.path.contains("/events/") {
        true => Reply::Stream(vec![event("READY", 1 << 20)]),
        false if number == 0 => Reply::Whole(200, record("PULLING").to_string()),
        false => Reply::Whole(200, ready().to_string()),
    });
    let ran = Site::served(&munged, &server).imgctl("pull --quiet --user=21001 a/b:1");
    ran.prints(&format!("sha256:{HEX}"));
    let requests = server.requests();
    assert_eq!(requests.len(), 3, "{:?}", server.lines());
    assert_eq!(requests[2].line(), "POST /api/pull/c1/docker/a%2Fb%3A1/");
    assert_eq!(requests[2].body, br#"{"allowed_uids":"21001"}"#);
    // A gateway that never finishes with them is not asked for ever.
    let endless = Server::start(|_, request| match request.path.contains("/events/") {
        true => Reply::Stream(vec![event("READY", 1 << 20)]),
        false => Reply::Whole(200, record("PULLING").to_string()),
    });
    let ran = Site::served(&munged, &endless).imgctl("pull --quiet --user=21001 a/b:1");
    ran.prints(&format!("sha256:{HEX}"));
    assert_eq!(endless.lines().len(), 4);
}

#[test]
fn list_prints_a_line_for_each_reference() {
    let munged = Munged::start();
    let server = Server::always(Reply::Whole(200, json!({ "list": [ready()] }).to_string()));
    let site = Site::served(&munged, &server);
    site.imgctl("list").prints(
        "REFERENCE  DIGEST        SIZE     PULLED  OWNER  ACCESS\n\
         a/b:1      abababababab  512 MiB  -       root   public\n\
         a/b:2      abababababab  512 MiB  -       root   public",
    );
    assert_eq!(site.imgctl("ls *:2").stdout.lines().count(), 2);
    assert_eq!(site.imgctl("list nothing").stdout.lines().count(), 1);
    let json: Value = serde_json::from_str(&site.imgctl("list --json").stdout).unwrap();
    assert_eq!(json[0]["id"], HEX);
}

#[test]
fn rm_tries_every_reference_and_ends_with_the_first_failure() {
    let munged = Munged::start();
    let server = Server::start(|_, request| match request.path.as_str() {
        "/api/image/c1/docker/theirs%3A1/" => error(
            Code::Forbidden,
            "cannot remove docker:theirs:1: it belongs to alice",
            Some("only its owner or an administrator can"),
        ),
        path if path.contains("gone") => not_found(),
        _ => Reply::Whole(
            200,
            json!({"tag": "mine:1", "digest": format!("sha256:{HEX}"), "remaining": []})
                .to_string(),
        ),
    });
    let ran = Site::served(&munged, &server).imgctl("rm theirs:1 gone:1 mine:1");
    assert_eq!(ran.code, Some(4));
    assert_eq!(ran.stdout, format!("removed mine:1 (sha256:{HEX}); its file is gone\n"));
    assert_eq!(
        ran.stderr,
        "imgctl: cannot remove docker:theirs:1: it belongs to alice\n\
         hint: only its owner or an administrator can\n\
         imgctl: image not found\n"
    );
    assert!(server.lines().iter().all(|line| line.starts_with("DELETE /api/image/c1/docker/")));
}

#[test]
fn resolve_prints_one_line_and_asks_nobody_about_a_digest() {
    let site = Site::new(None, &[closed_url()], "");
    site.imgctl(&format!("resolve id:{HEX}")).prints(&format!("sha256:{HEX}"));
    // Not even a configuration is needed.
    let mut command = site.command(env!("CARGO_BIN_EXE_imgctl"));
    command.env("GANTRY_CONF", "/nonexistent").args(["resolve", "--pull", "--"]);
    Ran::of(command.arg(format!("id:sha256:{HEX}"))).prints(&format!("sha256:{HEX}"));
}

#[test]
fn resolve_with_pull_lets_the_gateway_look_for_a_moved_tag() {
    let munged = Munged::start();
    let server = Server::always(Reply::Whole(200, ready().to_string()));
    Site::served(&munged, &server).imgctl("resolve --pull a/b:1").prints(&format!("sha256:{HEX}"));
    assert_eq!(server.lines(), ["POST /api/pull/c1/docker/a%2Fb%3A1/"]);
}

#[test]
fn resolve_with_pull_uses_an_image_that_is_there_while_its_registry_is_away() {
    let munged = Munged::start();
    let said = "cannot pull docker:a/b:1: quay.io cannot be reached";
    for code in [Code::RegistryUnreachable, Code::RegistryBusy] {
        for there in [true, false] {
            let mut failed = record("FAILURE");
            failed["failure"] = serde_json::to_value(ErrorBody::new(code, said)).unwrap();
            let server = Server::start(move |_, request| match request.method.as_str() {
                "POST" => Reply::Whole(200, failed.to_string()),
                _ if there => Reply::Whole(200, ready().to_string()),
                _ => not_found(),
            });
            let ran = Site::served(&munged, &server).imgctl("resolve --pull a/b:1");
            if there {
                ran.prints(&format!("sha256:{HEX}"));
                let note = format!("imgctl: note: {said}; using the image that is there\n");
                assert_eq!(ran.stderr, note);
            } else {
                ran.fails(5, &format!("imgctl: {said}"));
            }
        }
    }
    // What the registry has decided is not overruled.
    let server = Server::start(|_, request| match request.method.as_str() {
        "POST" => error(Code::RegistryNotFound, "no such tag", None),
        _ => Reply::Whole(200, ready().to_string()),
    });
    Site::served(&munged, &server).imgctl("resolve --pull a/b:1").fails(5, "imgctl: no such tag");
}

#[test]
fn resolve_falls_back_to_the_published_names_when_no_gateway_answers() {
    let munged = Munged::start();
    let url = closed_url();
    let site = Site::new(Some(&munged), std::slice::from_ref(&url), "");
    symlink(HEX, site.images().join("names/docker%3Aa%2Fb%3A1")).unwrap();
    fs::write(site.images().join(format!("{HEX}.squashfs")), "").unwrap();
    for line in ["resolve a/b:1", "resolve --pull a/b:1"] {
        let ran = site.imgctl(line);
        ran.prints(&format!("sha256:{HEX}"));
        assert_eq!(
            ran.stderr,
            format!(
                "imgctl: note: the image gateway at {url} is down (connection refused); \
                 using the digest published in the image directory\n"
            )
        );
    }
    site.imgctl("resolve a/b:2").fails(
        6,
        &format!(
            "imgctl: cannot find docker:a/b:2: the image gateway at {url} is down (connection refused)\n\
             hint: `imgctl doctor` shows what is wrong; images that are already here still run"
        ),
    );
}

#[test]
fn a_gateway_that_decides_against_an_image_is_not_overruled_by_a_published_name() {
    let munged = Munged::start();
    let server = Server::start(|_, request| match request.path.contains("private") {
        true => error(Code::Forbidden, "you may not use docker:private:1", None),
        false => not_found(),
    });
    let site = Site::served(&munged, &server);
    for name in ["docker%3Aprivate%3A1", "docker%3Agone%3A1"] {
        symlink(HEX, site.images().join("names").join(name)).unwrap();
    }
    fs::write(site.images().join(format!("{HEX}.squashfs")), "").unwrap();
    site.imgctl("resolve private:1").fails(4, "imgctl: you may not use docker:private:1");
    site.imgctl("resolve gone:1").fails(
        3,
        "imgctl: docker:gone:1 has not been pulled, or you may not use it\n\
         hint: `imgctl pull docker:gone:1` pulls it",
    );
}

#[test]
fn mistakes_on_the_command_line_are_one_sentence_and_a_hint() {
    let site = Site::new(None, &[], "");
    for (line, sentence, hint) in [
        ("", "no command was given", "`imgctl --help` shows what there is"),
        ("pul a", "unrecognized subcommand 'pul'", "a similar subcommand exists: 'pull'"),
        (
            "rm",
            "the following required arguments were not provided: <IMAGE>...",
            "`imgctl --help` shows what there is",
        ),
        (
            "pull Ubuntu",
            "`Ubuntu` is not an image reference: `Ubuntu` has capital letters, which repository names cannot have",
            "write [docker:][registry/]name[:tag], such as docker:ubuntu:24.04",
        ),
        (
            "pull custom:a:1",
            "cannot pull custom:a:1: only docker images come from a registry",
            "leave out `custom:` or `id:`, or use `imgctl inspect`",
        ),
    ] {
        site.imgctl(line).fails(2, &format!("imgctl: {sentence}\nhint: {hint}"));
    }
    let help = site.imgctl("--help");
    assert!(help.code == Some(0) && help.stdout.contains("Exit codes:") && help.stderr.is_empty());
}

#[test]
fn a_terminal_gets_bars_and_a_clean_last_line() {
    let munged = Munged::start();
    let server = Server::start(|_, request| match request.path.contains("/events/") {
        true => Reply::Stream(
            (0..8)
                .map(|step| event("PULLING", step << 17))
                .chain([event("PULLING", 1 << 20), event("READY", 1 << 20)])
                .collect(),
        ),
        false => Reply::Whole(200, record("INIT").to_string()),
    });
    let site = Site::served(&munged, &server);
    // script(1) gives the command a terminal of its own.
    let mut command = site.command("script");
    let line = format!("{} pull a/b:1", env!("CARGO_BIN_EXE_imgctl"));
    let ran = Ran::of(command.env("TERM", "xterm").args(["-qec", &line, "/dev/null"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("abababababab [") && ran.stdout.contains("1.00 MiB"), "{ran:?}");
    let last = ran.stdout.trim_end().rsplit('\n').next().unwrap();
    assert!(last.contains(&format!("sha256:{HEX} 512 MiB in ")), "{last:?}");
}
