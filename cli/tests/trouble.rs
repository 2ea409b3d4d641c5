//! `imgctl` when something is away, broken or hostile: one clear sentence, a bounded wait, the documented exit code.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use gateway_api::{Code, ErrorBody};
use serde_json::json;
use std::net::TcpListener;
use support::Site;
use support::munged::Munged;
use support::server::{Reply, Server, closed_url};

const DOCTOR: &str =
    "hint: `imgctl doctor` shows what is wrong; images that are already here still run";

#[test]
fn a_gateway_that_is_down_is_named() {
    let munged = Munged::start();
    let url = closed_url();
    let site = Site::new(Some(&munged), std::slice::from_ref(&url), "");
    let why = format!("the image gateway at {url} is down (connection refused)\n{DOCTOR}");
    site.imgctl("list").fails(6, &format!("imgctl: cannot list images: {why}"));
    site.imgctl("pull a").fails(6, &format!("imgctl: cannot pull docker:a:latest: {why}"));
    site.imgctl("rm a").fails(6, &format!("imgctl: cannot remove docker:a:latest: {why}"));
    let ran = site.imgctl("list --gateway http://gateway.invalid:5000");
    assert_eq!(ran.code, Some(6));
    assert!(
        ran.stderr.contains("http://gateway.invalid:5000 is down (its name is not known)"),
        "{ran:?}"
    );
}

#[test]
fn a_gateway_that_hangs_costs_the_configured_time_and_no_more() {
    let munged = Munged::start();
    for reply in [Reply::Hang, Reply::CutShort("{".repeat(10))] {
        let server = Server::always(reply);
        let ran = Site::served(&munged, &server).imgctl("list");
        assert_eq!(ran.code, Some(6), "{ran:?}");
        assert!(ran.took.as_secs_f64() < 3.0, "{ran:?}");
    }
    // Nobody accepts: the kernel does, up to the backlog.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let ran = Site::new(Some(&munged), std::slice::from_ref(&url), "").imgctl("list");
    ran.fails(
        6,
        &format!(
            "imgctl: cannot list images: the image gateway at {url} does not answer (waited 1 s)\n{DOCTOR}"
        ),
    );
    assert!(ran.took.as_secs_f64() < 3.0, "{ran:?}");
}

#[test]
fn the_next_gateway_is_asked_where_one_is_away() {
    let munged = Munged::start();
    let server = Server::always(Reply::Whole(200, json!({"list": []}).to_string()));
    let broken = Server::always(Reply::Typed(502, "text/html", "<h1>Bad Gateway</h1>".into()));
    let away = error(Code::Unavailable, "munged is away on this gateway");
    let unavailable = Server::always(away);
    let closed = closed_url();
    let site = Site::new(
        Some(&munged),
        &[closed.clone(), broken.url(), unavailable.url(), server.url()],
        "",
    );
    assert_eq!(site.imgctl("list").code, Some(0));
    assert_eq!(server.lines().len(), 1);
    let site = Site::new(Some(&munged), &[closed.clone(), broken.url()], "");
    let ran = site.imgctl("list");
    assert_eq!(ran.code, Some(6));
    assert!(
        ran.stderr.starts_with("imgctl: cannot list images: none of 2 image gateways answers: "),
        "{ran:?}"
    );
    assert!(ran.stderr.contains(&closed) && ran.stderr.contains("<h1>Bad Gateway</h1>"), "{ran:?}");
}

#[test]
fn refusals_are_shown_as_they_are_and_decide_the_exit_code() {
    let munged = Munged::start();
    for (code, exit) in [
        (Code::Unauthenticated, 4),
        (Code::Forbidden, 4),
        (Code::NotFound, 3),
        (Code::RegistryUnreachable, 5),
        (Code::RegistryUnauthorized, 5),
        (Code::LimitExceeded, 7),
        (Code::Unavailable, 6),
        (Code::StorageFull, 1),
    ] {
        let server = Server::always(error(code, "the sentence"));
        let site = Site::served(&munged, &server);
        site.imgctl("list").fails(exit, "imgctl: the sentence\nhint: the hint");
        site.imgctl("pull a").fails(exit, "imgctl: the sentence\nhint: the hint");
    }
    let shifter = r#"{"status":404,"error":"Bad session or system","message":"Not Found: x"}"#;
    let server = Server::always(Reply::Whole(404, shifter.into()));
    Site::served(&munged, &server).imgctl("list").fails(3, "imgctl: Bad session or system");
}

#[test]
fn what_is_no_gateway_is_called_that() {
    let munged = Munged::start();
    for (reply, what) in [
        (
            Reply::Typed(500, "text/html", "<html><title>Oops</title></html>".into()),
            "status 500, \"<html><title>Oops</title></html>\"",
        ),
        (Reply::Typed(404, "text/plain", "\n\n".into()), "status 404, an empty page"),
        (Reply::Redirect("http://127.0.0.1:1/".into()), "status 302, an empty page"),
        (
            Reply::Whole(200, r#"{"list":[{"id":"#.into()),
            "status 200, EOF while parsing a value at line 1 column 15",
        ),
        (Reply::Whole(200, "[".repeat(100_000)), "status 200, "),
    ] {
        let server = Server::always(reply);
        let ran = Site::served(&munged, &server).imgctl("list");
        assert_eq!(ran.code, Some(6), "{ran:?}");
        let sentence = format!(
            "imgctl: cannot list images: what answers at {} is no image gateway of this version ({what}",
            server.url()
        );
        assert!(ran.stderr.starts_with(&sentence), "{ran:?}");
        assert!(ran.stderr.contains("\nhint: `imageGateway` in udiRoot.conf may name"), "{ran:?}");
    }
}

#[test]
fn nothing_that_a_server_says_reaches_the_terminal_as_a_control_sequence() {
    let munged = Munged::start();
    let hostile = "\x1b]0;owned\x07\r\nimgctl: fine\u{202e}";
    let mut record = json!({
        "id": "\x1b[2J", "system": "c1", "itype": "docker", "tag": ["a\x1b[31m:1\n"],
        "status": "READY", "userACL": [], "groupACL": [], "ENV": [hostile], "ENTRY": [hostile],
        "WORKDIR": hostile, "LABELS": {hostile: hostile}, "last_pull": 1.0, "status_message": hostile,
        "platform": hostile, "cmd": [hostile], "created": hostile, "source": hostile,
        "resolved_digest": null, "layers": [], "entries": 1, "made_by": hostile
    });
    let mut pages = vec![
        ("list", Reply::Whole(200, json!({"list": [record]}).to_string())),
        ("inspect a:1", Reply::Whole(200, record.to_string())),
        ("list", error(Code::Forbidden, hostile)),
        ("list", Reply::Typed(500, "text/html", hostile.into())),
    ];
    record["status"] = "FAILURE".into();
    pages.push(("pull a:1", Reply::Whole(200, record.to_string())));
    record["status"] = "PULLING".into();
    let event = json!({"status": "EXAMINATION", "message": hostile, "layers": [], "written": 0, "seconds": 0.0});
    record["progress"] = event;
    pages.push(("pull --progress=plain a:1", Reply::Whole(200, record.to_string())));
    for (line, reply) in pages {
        let server = Server::start(move |number, _| match number {
            0 => reply.clone(),
            _ => error(Code::Internal, "over"),
        });
        let ran = Site::served(&munged, &server).imgctl(line);
        for text in [&ran.stdout, &ran.stderr] {
            let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(bad), "{line}: {ran:?}");
            assert!(!text.contains("\nimgctl: fine"), "{line}: {ran:?}");
        }
    }
}

#[test]
fn a_munged_that_is_down_is_named_with_its_socket() {
    let munged = Munged::start();
    let server = Server::always(Reply::Whole(200, json!({"list": []}).to_string()));
    let site = Site::served(&munged, &server);
    assert_eq!(site.imgctl("list").code, Some(0));
    munged.kill();
    let ran = site.imgctl("pull a");
    ran.fails(
        6,
        &format!(
            "imgctl: cannot pull docker:a:latest: cannot talk to munged on {}: Connection refused\n\
             hint: an administrator can start it (`systemctl start munge`)",
            munged.socket().display()
        ),
    );
    assert!(ran.took.as_secs_f64() < 3.0, "{ran:?}");
}

#[test]
fn an_incomplete_configuration_says_which_key_is_missing() {
    let munged = Munged::start();
    let site = Site::new(Some(&munged), &[], "");
    let conf = site.conf();
    site.imgctl("list").fails(
        1,
        &format!(
            "imgctl: cannot list images: `imageGateway` is not set in {}\n\
             hint: set it to the gateway's URL, or give `--gateway http://host:port`",
            conf.display()
        ),
    );
    for url in ["https://a", "gateway:5000", "http://user@host/", "ftp://x"] {
        let ran = site.imgctl(&format!("list --gateway={url}"));
        assert_eq!(ran.code, Some(1));
        assert!(
            ran.stderr.contains(
                "is not the URL of an image gateway\nhint: it is written http://host:port"
            ),
            "{ran:?}"
        );
    }
    let ran = site.imgctl("list --conf /nonexistent/conf");
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.starts_with("imgctl: cannot read /nonexistent/conf: No such file"),
        "{ran:?}"
    );
}

#[test]
fn doctor_names_each_fault_with_a_hint_and_fails() {
    let munged = Munged::start();
    let site = Site::new(Some(&munged), &[closed_url()], "gantrySuidPath=/nonexistent/suid");
    munged.kill();
    let ran = site.imgctl("doctor");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for part in [
        "FAIL  munge          cannot talk to munged on ",
        "FAIL  gateway        the image gateway at ",
        "FAIL  gantry-suid    /nonexistent/suid is not installed",
        "ok    images         ",
        "hint: start munged on this host",
    ] {
        assert!(ran.stdout.contains(part), "{part} is missing in {}", ran.stdout);
    }
    let json: serde_json::Value =
        serde_json::from_str(&site.imgctl("doctor --json").stdout).unwrap();
    assert!(json.as_array().unwrap().iter().any(|finding| finding["verdict"] == "fail"));
}

#[test]
fn doctor_tells_what_the_gateway_says_of_itself_and_of_the_caller() {
    let munged = Munged::start();
    let socket = munged.socket();
    let server = Server::start(move |_, request| {
        match request.path.as_str() {
        "/api/version/" => Reply::Whole(200, r#"{"version":"0.1.0"}"#.into()),
        "/api/health/" => Reply::Whole(
            503,
            r#"{"ok":false,"parts":[{"name":"store","ok":true},{"name":"images","ok":false,"why":"full"}]}"#.into(),
        ),
        "/api/whoami/c1/" => {
            request.payload(&socket);
            Reply::Whole(200, r#"{"uid":0,"gid":0,"admin":true}"#.into())
        }
        other => Reply::Typed(404, "text/plain", other.into()),
    }
    });
    let ran = Site::served(&munged, &server).imgctl("doctor");
    for line in [
        format!("ok    gateway        {} is up, version 0.1.0", server.url()),
        format!("ok    identity       {} knows you as root, an administrator", server.url()),
        format!("FAIL  gateway        {}: images: full\n", server.url()),
        "ok    munge          munged makes credentials for you".to_string(),
    ] {
        assert!(ran.stdout.contains(&line), "{line} is missing in {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("store"), "{}", ran.stdout);
}

fn error(code: Code, text: &str) -> Reply {
    let body = ErrorBody::new(code, text).with_hint("the hint");
    Reply::Whole(body.status, serde_json::to_string(&body).unwrap())
}
