//! What clients see of the gateway before any image is there: routes, credentials, errors, limits.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod site;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use gateway_api::Payload;
use serde_json::Value;
use site::{ADMIN, ALICE, Site};

#[test]
fn routes_answer_with_and_without_a_slash_at_the_end() {
    let site = Site::start();
    for path in ["/api/list/c1", "/api/list/c1/", "/api/queue/c1", "/api/queue/c1/"] {
        let reply = site.ask(ALICE, "GET", path);
        assert_eq!((reply.status, reply.text.as_str()), (200, r#"{"list":[]}"#), "{path}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.header("content-length"), Some("11"), "{reply:?}");
        assert_eq!(reply.header("transfer-encoding"), None);
    }
    for path in [
        "/api/lookup/c1/docker/a%2Fb%3A1/",
        "/api/lookup/c1/docker/a/b:1",
        "/api/lookup/c1/docker/a/b:1/",
    ] {
        let reply = site.ask(ALICE, "GET", path);
        assert_eq!(reply.status, 404, "{reply:?}");
        assert!(
            reply.json()["error"].as_str().unwrap().starts_with("image not found: docker:a/b:1"),
            "{reply:?}"
        );
    }
    let whoami = site.ask(ADMIN, "GET", "/api/whoami/c1/").json();
    assert_eq!((whoami["uid"].clone(), whoami["admin"].clone()), (ADMIN.into(), true.into()));
    assert_eq!(site.send(None, "GET", "/", "").text, "{lookup,pull,expire,list}");
}

#[test]
fn errors_have_shifters_keys_and_a_code() {
    let site = Site::start();
    for (method, path, status, code) in [
        ("GET", "/api/nothing", 404, "no-route"),
        ("GET", "/api/lookup/c1/docker", 404, "no-route"),
        ("GET", "/api/lookup/c1/docker/", 404, "no-route"),
        ("GET", "/api/list/other/", 404, "unknown-system"),
        ("GET", "/api/list/%00/", 404, "unknown-system"),
        ("GET", "/api/list/%ff/", 400, "bad-request"),
        ("GET", "/api/lookup/c1/docker/A/", 400, "bad-reference"),
        ("GET", "/api/lookup/c1/docker/..%2F..%2Fetc/", 400, "bad-reference"),
        ("GET", "/api/lookup/c1/local/a/", 400, "bad-request"),
        ("GET", "/api/lookup/c1/docker/none/", 404, "not-found"),
        ("GET", "/api/events/c1/docker/none/", 404, "not-found"),
        ("DELETE", "/api/image/c1/docker/none/", 404, "not-found"),
        ("POST", "/api/pull/c1/custom/none/", 400, "bad-request"),
        ("POST", "/api/lookup/c1/docker/none/", 405, "method"),
        ("DELETE", "/api/list/c1/", 405, "method"),
    ] {
        let reply = site.ask(ALICE, method, path);
        let body = reply.json();
        assert_eq!(
            (reply.status, body["code"].as_str()),
            (status, Some(code)),
            "{method} {path}: {reply:?}"
        );
        assert_eq!(body["status"], status, "{reply:?}");
        let message = body["message"].as_str().unwrap();
        assert!(message.ends_with(&site.url(path)), "{message}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
}

#[test]
fn nothing_but_health_and_version_is_told_to_strangers() {
    let site = Site::start();
    for (method, path) in [
        ("GET", "/api/list/c1/"),
        ("GET", "/api/queue/c1/"),
        ("GET", "/api/whoami/c1/"),
        ("GET", "/api/lookup/c1/docker/a/"),
        ("GET", "/api/inspect/c1/docker/a/"),
        ("GET", "/api/expire/c1/docker/a/"),
        ("GET", "/api/events/c1/docker/a/"),
        ("POST", "/api/pull/c1/docker/a/"),
        ("DELETE", "/api/image/c1/docker/a/"),
    ] {
        for credential in [None, Some(""), Some("MUNGE:AwQDAACk:"), Some("alice")] {
            let reply = site.send(credential, method, path, "");
            assert_eq!(
                (reply.status, reply.json()["code"].as_str()),
                (401, Some("unauthenticated")),
                "{method} {path}"
            );
        }
    }
    assert_eq!(site.send(None, "GET", "/api/version/", "").json()["name"], "gantry");
    let health = site.send(None, "GET", "/api/health", "");
    assert_eq!(
        (health.status, health.json()["ok"].clone()),
        (200, Value::Bool(true)),
        "{health:?}"
    );
}

#[test]
fn a_credential_serves_one_request_and_the_one_it_was_made_for() {
    let site = Site::start();
    let credential = site.credential(ALICE, "");
    let ask =
        |credential: &str, method, path, body| site.send(Some(credential), method, path, body);
    assert_eq!(ask(&credential, "GET", "/api/list/c1/", "").status, 200);
    let again = ask(&credential, "GET", "/api/list/c1/", "");
    assert_eq!(again.status, 401);
    assert!(again.json()["error"].as_str().unwrap().contains("already used"), "{again:?}");

    let bound = |method: &str, path: &str, body: &str| {
        let payload = Payload::bound(method, path, body.as_bytes(), Default::default()).to_bytes();
        site.credential(ALICE, std::str::from_utf8(&payload).unwrap())
    };
    let list = "/api/list/c1/";
    assert_eq!(ask(&bound("GET", list, ""), "GET", list, "").status, 200);
    for (credential, method, path, body) in [
        (bound("POST", list, ""), "GET", list, ""),
        (bound("GET", "/api/list/c1", ""), "GET", list, ""),
        (bound("GET", list, ""), "GET", "/api/list/c1/?x=1", ""),
        (bound("POST", "/api/pull/c1/docker/a/", "{}"), "POST", "/api/pull/c1/docker/a/", ""),
        (site.credential(ALICE, "not json"), "GET", list, ""),
    ] {
        let reply = ask(&credential, method, path, body);
        assert_eq!(reply.status, 401, "{method} {path} {body}: {reply:?}");
    }
}

#[test]
fn a_site_can_insist_on_bound_credentials() {
    let site = Site::with(|config| config["AcceptUnboundCredentials"] = false.into());
    assert_eq!(site.ask(ALICE, "GET", "/api/list/c1/").status, 401);
    assert_eq!(site.ask_bound(ALICE, "GET", "/api/list/c1/", &[]).status, 200);
}

#[test]
fn a_munged_that_is_away_is_named() {
    let site = Site::start();
    let credential = site.credential(ALICE, "");
    site.munged.kill();
    let reply = site.send(Some(&credential), "GET", "/api/list/c1/", "");
    let body = reply.json();
    assert_eq!((reply.status, body["code"].as_str()), (503, Some("unavailable")), "{reply:?}");
    let socket = site.munged.socket().display().to_string();
    assert!(body["error"].as_str().unwrap().contains(&socket), "{body}");
    let health = site.send(None, "GET", "/api/health/", "");
    assert_eq!(
        (health.status, health.json()["ok"].clone()),
        (503, Value::Bool(false)),
        "{health:?}"
    );
}

#[test]
fn a_request_that_is_too_long_is_refused() {
    let site = Site::start();
    let path = "/api/pull/c1/docker/a/";
    let body = "x".repeat(65 << 10);
    let reply = site.send(Some(&site.credential(ALICE, "")), "POST", path, &body);
    assert_eq!(reply.status, 400, "{reply:?}");
    for body in ["{", "7", r#"{"allowed_uids":7}"#, r#"{"allowed_uids":"x"}"#] {
        let reply = site.send(Some(&site.credential(ALICE, "")), "POST", path, body);
        assert_eq!(
            (reply.status, reply.json()["code"].as_str()),
            (400, Some("bad-request")),
            "{body}"
        );
    }
    let mut stream = TcpStream::connect(site.url("").trim_start_matches("http://")).unwrap();
    let header = format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n", "y".repeat(300 << 10));
    // The gateway may close before it has read everything.
    let _ = stream.write_all(header.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(site.ask(ALICE, "GET", "/api/list/c1/").status, 200, "it goes on");
}

#[test]
fn it_does_not_run_as_root_or_with_a_file_that_others_may_write() {
    let site = Site::start();
    let output = site.program(0).arg("serve").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("gantry-gateway: the gateway does not run as root"), "{text}");

    let check = site.program(ALICE).arg("check").output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{check:?}");
    assert!(String::from_utf8(check.stdout).unwrap().contains("is valid"));
    std::fs::set_permissions(site.config(), PermissionsExt::from_mode(0o666)).unwrap();
    let output = site.program(65534).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("has mode 0666") && text.contains("hint: chmod go-w"), "{text}");
}
