//! `imgctl import` against a gateway that behaves, one that refuses and one that goes away.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use gateway_api::{ALREADY_THERE, Code, ErrorBody};
use serde_json::{Value, json};
use std::fs;
use support::Site;
use support::munged::Munged;
use support::server::{Reply, Server, closed_url};

const HEX: &str = "abababababababababababababababababababababababababababababababab";

fn event(status: &str, message: &str) -> String {
    let mut event = json!({
        "status": status, "message": message, "layers": [], "written": 1 << 20, "seconds": 1.0,
    });
    if status == "READY" {
        event["digest"] = format!("sha256:{HEX}").into();
    }
    format!("{event}\n")
}

fn ready(message: &'static str) -> Server {
    Server::start(move |_, _| {
        Reply::Stream(vec![event("CONVERSION", ""), "\n".into(), event("READY", message)])
    })
}

fn file(site: &Site, bytes: &[u8]) -> String {
    let path = site.path().join("app.tar");
    fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

#[test]
fn a_file_is_sent_whole_with_a_credential_for_just_these_bytes() {
    let munged = Munged::start();
    let server = ready("ready");
    let site = Site::served(&munged, &server);
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let file = file(&site, &bytes);
    let ran = site.imgctl(&format!("import {file} --name org/app:1 --allow-user 7 --from a:b"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let start = format!("sha256:{HEX} 1.0 MiB as custom:org/app:1, in ");
    assert!(ran.stdout.starts_with(&start), "{ran:?}");
    for line in ["imgctl: reading: ", "imgctl: uploading: ", "imgctl: converting"] {
        assert!(ran.stderr.contains(line), "{ran:?}");
    }
    let requests = server.requests();
    let path = "/api/import/c1/custom/org%2Fapp%3A1/?allowed_uids=7&image=a%3Ab";
    assert_eq!((requests.len(), requests[0].path.as_str()), (1, path));
    assert!(requests[0].body == bytes, "the file came changed");
    // Checks that it is bound to method, path and body.
    requests[0].payload(&munged.socket());
}

#[test]
fn what_was_there_is_said_and_json_and_quiet_are_as_with_a_pull() {
    let munged = Munged::start();
    let server = ready(ALREADY_THERE);
    let site = Site::served(&munged, &server);
    let file = file(&site, b"x");
    let line = |more: &str| site.imgctl(&format!("import {file} --name app {more}"));
    line("").prints(&format!(
        "sha256:{HEX} 1.0 MiB as custom:app:latest, already there, nothing was converted"
    ));
    let quiet = line("--quiet");
    quiet.prints(&format!("sha256:{HEX}"));
    assert_eq!(quiet.stderr, "");
    let json: Value = serde_json::from_str(&line("--json --public").stdout).unwrap();
    assert_eq!(
        (&json["was_there"], &json["reference"]),
        (&json!(true), &json!("custom:app:latest"))
    );
    assert!(server.lines().last().unwrap().ends_with("/?public=true"));
}

#[test]
fn refusals_and_failures_end_with_the_documented_codes() {
    let munged = Munged::start();
    for (reply, code, said) in [
        (Reply::Whole(409, body(Code::Busy, "another import")), 1, "imgctl: another import"),
        (Reply::Whole(403, body(Code::Forbidden, "not yours")), 4, "imgctl: not yours"),
        (
            Reply::Stream(vec![format!(
                "{}\n",
                json!({ "status": "FAILURE", "message": "", "layers": [], "written": 0, "seconds": 0.0,
                    "failure": ErrorBody::new(Code::ImageInvalid, "no image") })
            )]),
            7,
            "imgctl: no image",
        ),
        (
            Reply::BrokenStream(vec![event("CONVERSION", "")]),
            6,
            "imgctl: the image gateway went away before custom:app:1 was there",
        ),
    ] {
        let server = Server::always(reply);
        let site = Site::served(&munged, &server);
        let file = file(&site, b"x");
        let ran = site.imgctl(&format!("import {file} --name app:1 --progress none"));
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.stderr.starts_with(said), "{ran:?}");
    }
    let site = Site::new(Some(&munged), &[closed_url()], "");
    let file = file(&site, b"x");
    assert_eq!(site.imgctl(&format!("import {file} --name app:1")).code, Some(6));
    assert_eq!(site.imgctl("import /nonexistent --name app:1").code, Some(2));
    assert_eq!(site.imgctl(&format!("import {file} --name docker:app:1")).code, Some(2));
}

fn body(code: Code, text: &str) -> String {
    serde_json::to_string(&ErrorBody::new(code, text)).unwrap()
}
