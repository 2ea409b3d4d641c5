//! Images from a registry to the image directory and away again, through the real program.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod site;

use std::process::Command;
use std::thread;

use image_ref::{Access, Sidecar};
use serde_json::{Value, json};
use site::registry::Registry;
use site::{ADMIN, ALICE, BOB, Site, mode, running};

const LOGIN: &[(&str, &str)] = &[("reg", "bob:secret")];

fn push(site: &Site, repository: &str, tag: &str) -> String {
    let text = format!("{repository}:{tag}");
    site.registry.push(
        repository,
        tag,
        &[("bin/app", b"#!/bin/sh\n"), ("etc/name", text.as_bytes())],
    )
}

fn sidecar(site: &Site, hex: &str) -> Sidecar {
    Sidecar::decode(&std::fs::read(site.path(&format!("images/{hex}.gantry"))).unwrap()).unwrap()
}

#[test]
fn an_image_is_pulled_listed_inspected_and_deleted() {
    let site = Site::start();
    let hex = push(&site, "org/app", "1");
    assert_eq!(site.lookup(ALICE, "org/app:1").status, 404);
    let record = site.pull(ALICE, "org/app:1");
    assert_eq!(
        (record["status"].as_str(), record["id"].as_str()),
        (Some("READY"), Some(hex.as_str())),
        "{record}"
    );
    assert_eq!(record["tag"], json!(["org/app:1"]));
    assert_eq!(record["owner"], ALICE);

    let reply = site.lookup(BOB, "org%2Fapp%3A1");
    assert_eq!(reply.get("id"), hex.as_str());
    let (before, after) = reply.text.split_once("\"last_pull\":").unwrap();
    assert!(before.starts_with(r#"{"id":""#), "{before}");
    assert!(after.split(',').next().unwrap().contains('.'), "a decimal point: {after}");
    assert_eq!(reply.get("ENV"), json!(["PATH=/bin", "EVIL=1\nUSERACL: 0"]));
    assert_eq!(site.ask(BOB, "GET", "/api/list/c1/").get("list")[0]["id"], hex.as_str());
    assert_eq!(site.ask(BOB, "GET", "/api/queue/c1/").get("list"), json!([]));
    let details = site.ask(BOB, "GET", "/api/inspect/c1/docker/org/app:1/").json();
    assert_eq!(
        (details["source"].as_str(), details["cmd"].clone()),
        (Some("reg/org/app"), json!(["sh"]))
    );
    assert_eq!(details["layers"].as_array().unwrap().len(), 1);

    for name in ["squashfs", "gantry", "meta"] {
        assert_eq!(mode(&site.path(&format!("images/{hex}.{name}"))), 0o444, "{name}");
    }
    let listing = Command::new("unsquashfs")
        .arg("-lls")
        .arg(site.path(&format!("images/{hex}.squashfs")))
        .output()
        .unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    assert!(
        listing.contains("squashfs-root/bin/app") && listing.contains("root/root"),
        "{listing}"
    );
    let meta = std::fs::read_to_string(site.path(&format!("images/{hex}.meta"))).unwrap();
    assert_eq!(meta, "FORMAT: squashfs\nCMD: ['sh']\nWORKDIR: /w\nENV: PATH=/bin\n");
    assert_eq!(sidecar(&site, &hex).env[1], b"EVIL=1\nUSERACL: 0");
    let link = site.path("images/names/docker%3Aorg%2Fapp%3A1");
    assert_eq!(std::fs::read_link(&link).unwrap().to_str(), Some(hex.as_str()));

    let removed = site.ask(ALICE, "DELETE", "/api/image/c1/docker/org/app:1/").json();
    assert_eq!(
        (removed["tag"].as_str(), removed["remaining"].clone()),
        (Some("docker:org/app:1"), json!([]))
    );
    assert_eq!(site.file_names("images"), [".partial", "names"]);
    assert_eq!(site.file_names("images/names"), [""; 0]);
    assert_eq!(site.lookup(ALICE, "org/app:1").status, 404);
}

#[test]
fn ten_callers_at_once_cause_one_pull() {
    let site = Site::start();
    push(&site, "org/app", "1");
    site.registry.hold(true);
    thread::scope(|scope| {
        let pulls: Vec<_> = (0..10)
            .map(|n| {
                scope.spawn({
                    let site = &site;
                    move || site.pull_bound(21100 + n, "org/app:1", &[])
                })
            })
            .collect();
        site.until(|| (site.registry.most_fetched() > 0).then_some(()));
        site.registry.hold(false);
        for pull in pulls {
            assert_eq!(pull.join().unwrap()["status"], "READY");
        }
    });
    assert_eq!((site.registry.most_fetched(), site.registry.resolved()), (1, 1));
    site.pull(ALICE, "org/app:1");
    assert_eq!(site.registry.resolved(), 1, "fresh: nobody is asked");
}

#[test]
fn another_tag_of_the_same_image_costs_no_download() {
    let site = Site::start();
    let files: &[(&str, &[u8])] = &[("a", b"same")];
    let hex = site.registry.push("org/app", "1", files);
    assert_eq!(site.registry.push("org/app", "2", files), hex);
    site.pull(ALICE, "org/app:1");
    let record = site.pull(BOB, "org/app:2");
    assert_eq!(record["tag"], json!(["org/app:1", "org/app:2"]));
    assert_eq!((record["owner"].clone(), site.registry.most_fetched()), (ALICE.into(), 1));
    let forbidden = site.ask(BOB, "DELETE", "/api/image/c1/docker/org/app:2/");
    assert_eq!((forbidden.status, forbidden.json()["code"].as_str()), (403, Some("forbidden")));
    let text = forbidden.json()["error"].as_str().unwrap().to_string();
    assert_eq!(
        text,
        "docker:org/app:2 belongs to user 21001; only its owner or an admin can delete it"
    );
    let removed = site.ask(ADMIN, "DELETE", "/api/image/c1/docker/org/app:1/").json();
    assert_eq!(removed["remaining"], json!(["docker:org/app:2"]));
    assert_eq!(site.lookup(BOB, "org/app:2").status, 200, "the image stays for its other tag");
}

#[test]
fn a_tag_that_moved_is_followed_once_its_time_is_over() {
    let site = Site::with(|config| config["PullUpdateTimeout"] = 0.into());
    let first = push(&site, "org/app", "1");
    assert_eq!(site.pull_bound(ALICE, "org/app:1", &[])["digest"], format!("sha256:{first}"));
    let second = site.registry.push("org/app", "1", &[("new", b"new")]);
    assert_eq!(site.pull_bound(ALICE, "org/app:1", &[])["digest"], format!("sha256:{second}"));
    assert_eq!(site.lookup(BOB, "org/app:1").get("id"), second.as_str());
    let old = site.ask(BOB, "GET", &format!("/api/lookup/c1/id/{first}/"));
    assert_eq!(old.get("tag"), json!([]), "queued jobs have the old digest");
}

#[test]
fn a_failure_says_why_and_is_not_remembered() {
    let site = Site::start();
    let record = site.pull(ALICE, "org/app:9");
    assert_eq!(record["status"], "FAILURE");
    assert_eq!(record["failure"]["code"], "registry-not-found", "{record}");
    let text = record["failure"]["error"].as_str().unwrap();
    assert!(text.starts_with("cannot pull docker:org/app:9: reg has no"), "{text}");
    assert_eq!(
        site.ask(ALICE, "GET", "/api/queue/c1/").get("list"),
        json!([{ "status": "FAILURE", "image": "org/app:9" }])
    );
    push(&site, "org/app", "9");
    assert_eq!(site.pull_bound(ALICE, "org/app:9", &[])["status"], "READY");

    site.registry.break_blobs(true);
    push(&site, "org/broken", "1");
    let failed = site.pull_bound(ALICE, "org/broken:1", &[]);
    assert_eq!(failed["failure"]["code"], "digest-mismatch", "{failed}");
    site.registry.break_blobs(false);
    assert_eq!(site.pull_bound(ALICE, "org/broken:1", &[])["status"], "READY");
    assert_eq!(site.file_names("images/.partial"), [""; 0]);
}

#[test]
fn a_registry_that_is_down_or_not_allowed_is_named() {
    let site = Site::with(|config| {
        config["Locations"]["down"] = json!({ "url": "http://127.0.0.1:9" });
        config["AllowUnlistedRegistries"] = false.into();
    });
    let failed = site.pull_bound(ALICE, "down/a:1", &[]);
    assert_eq!(failed["failure"]["code"], "registry-unreachable", "{failed}");
    assert!(failed["failure"]["error"].as_str().unwrap().contains("down"), "{failed}");
    let refused = site.ask(ALICE, "POST", "/api/pull/c1/docker/quay.io/a:1/");
    assert_eq!(
        (refused.status, refused.json()["code"].as_str()),
        (403, Some("registry-not-allowed"))
    );
}

#[test]
fn an_unlisted_registry_is_never_an_inner_one() {
    let site = Site::start();
    let unlisted = Registry::start();
    let host = unlisted.url().trim_start_matches("http://").to_string();
    let failed = site.pull_bound(ALICE, &format!("{host}/a:1"), &[]);
    assert_eq!(failed["failure"]["code"], "registry-not-allowed", "{failed}");
    assert_eq!(unlisted.resolved(), 0);
}

#[test]
fn a_private_image_is_for_those_who_can_read_it_themselves() {
    let site = Site::start();
    let hex = push(&site, "lab/app", "1");
    site.registry.make_private("lab/app");
    for logins in [&[][..], &[("reg", "bob:wrong")], &[("other", "bob:secret")]] {
        let failed = site.pull_bound(ALICE, "lab/app:1", logins);
        assert_eq!(failed["failure"]["code"], "registry-unauthorized", "{failed}");
    }
    assert_eq!(site.pull_bound(ALICE, "lab/app:1", LOGIN)["status"], "READY");
    let mine = site.lookup(ALICE, "lab/app:1");
    assert_eq!((mine.get("private"), mine.get("userACL")), (true.into(), json!([ALICE])));
    assert_eq!(sidecar(&site, &hex).access, Access::Listed { uids: vec![ALICE], gids: vec![] });
    assert_eq!(mode(&site.path(&format!("images/{hex}.squashfs"))), 0o400);
    assert_eq!(site.file_names("images/names"), [""; 0]);

    for path in ["docker/lab/app:1", &format!("id/{hex}")] {
        for verb in ["lookup", "inspect", "events"] {
            let reply = site.ask(BOB, "GET", &format!("/api/{verb}/c1/{path}/"));
            assert_eq!(
                (reply.status, reply.json()["code"].as_str()),
                (404, Some("not-found")),
                "{verb} {path}"
            );
        }
        assert_eq!(site.ask(BOB, "DELETE", &format!("/api/image/c1/{path}/")).status, 404);
    }
    assert_eq!(site.ask(BOB, "GET", "/api/list/c1/").get("list"), json!([]));
    assert_eq!(site.ask(ADMIN, "GET", "/api/list/c1/").get("list").as_array().unwrap().len(), 1);
    let refused = site.pull_bound(BOB, "lab/app:1", &[]);
    assert_eq!(refused["failure"]["code"], "registry-unauthorized");

    let fetched = site.registry.most_fetched();
    let joined = site.pull_bound(BOB, "lab/app:1", LOGIN);
    assert_eq!((joined["status"].as_str(), site.registry.most_fetched()), (Some("READY"), fetched));
    assert_eq!(site.lookup(BOB, "lab/app:1").get("userACL"), json!([ALICE, BOB]));
    assert!(sidecar(&site, &hex).admits(BOB, &[]));
    assert_eq!(site.ask(BOB, "DELETE", "/api/image/c1/docker/lab/app:1/").status, 403);
}

#[test]
fn an_image_whose_layers_need_a_login_is_private_though_its_manifest_is_not() {
    let site = Site::start();
    let hex = push(&site, "lab/app", "1");
    site.registry.make_layers_private("lab/app");
    assert_eq!(site.pull_bound(ALICE, "lab/app:1", LOGIN)["status"], "READY");
    assert_eq!(sidecar(&site, &hex).access, Access::Listed { uids: vec![ALICE], gids: vec![] });
    assert_eq!(site.file_names("images/names"), [""; 0]);
    assert_eq!(site.lookup(BOB, "lab/app:1").status, 404);
    let refused = site.pull_bound(BOB, "lab/app:1", &[]);
    assert_eq!(refused["failure"]["code"], "registry-unauthorized", "{refused}");
    assert!(!sidecar(&site, &hex).admits(BOB, &[]));
    assert_eq!(site.pull_bound(BOB, "lab/app:1", LOGIN)["status"], "READY");
    assert_eq!(site.lookup(BOB, "lab/app:1").get("userACL"), json!([ALICE, BOB]));
    assert!(sidecar(&site, &hex).access != Access::Public);
}

#[test]
fn who_may_not_read_an_image_is_told_which_logins_would_be_used() {
    let site = Site::start();
    push(&site, "lab/app", "1");
    site.registry.make_private("lab/app");
    let host = site.registry.url().trim_start_matches("http://").to_string();
    let failed = site.pull_bound(ALICE, "lab/app:1", &[]);
    assert_eq!(failed["failure"]["logins"], json!(["reg", host]), "{failed}");
    let hint = failed["failure"]["hint"].as_str().unwrap();
    assert!(hint.contains(&format!("docker login {host}")), "{hint}");
    let by_host = [(host.as_str(), "bob:secret")];
    for tag in ["lab/app:1", &format!("{host}/lab/app:1")] {
        assert_eq!(site.pull_bound(ALICE, tag, &by_host)["status"], "READY", "{tag}");
    }
    let failed = site.pull_bound(ALICE, "org/none:1", &[]);
    assert_eq!(failed["failure"].get("logins"), None, "{failed}");
}

#[test]
fn a_second_gateway_leaves_the_first_ones_unfinished_images_alone() {
    let site = Site::start();
    push(&site, "org/app", "1");
    site.registry.hold(true);
    site.ask(ALICE, "POST", "/api/pull/c1/docker/org/app:1/");
    let unfinished =
        site.until(|| Some(site.file_names("images/.partial")).filter(|names| !names.is_empty()));
    let second = site.program(65534).output().unwrap();
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another gateway uses"), "{said}");
    assert_eq!(site.file_names("images/.partial"), unfinished);
    site.registry.hold(false);
    assert_eq!(site.pull(ALICE, "org/app:1")["status"], "READY");
}

#[test]
fn the_owner_decides_who_else_may_use_a_private_image() {
    let site = Site::start();
    let hex = push(&site, "lab/app", "1");
    site.registry.make_private("lab/app");
    let path = "/api/pull/c1/docker/lab/app:1/";
    let pull = |uid, body: &str| {
        let login = [("reg".to_string(), "bob:secret".to_string())].into();
        let payload = gateway_api::Payload::bound("POST", path, body.as_bytes(), login).to_bytes();
        let credential = site.credential(uid, std::str::from_utf8(&payload).unwrap());
        site.send(Some(&credential), "POST", path, body).json()
    };
    let lists = format!(r#"{{"allowed_uids":"{BOB}"}}"#);
    site.until(|| (!running(&pull(ALICE, &lists))).then_some(()));
    assert_eq!(site.lookup(BOB, "lab/app:1").get("userACL"), json!([ALICE, BOB]));
    let lists = format!(r#"{{"allowed_uids":"{ADMIN}"}}"#);
    site.until(|| (!running(&pull(ALICE, &lists))).then_some(()));
    assert_eq!(site.lookup(BOB, "lab/app:1").status, 404);
    assert!(!sidecar(&site, &hex).admits(BOB, &[]));
}

#[test]
fn a_pull_goes_on_after_the_gateway_was_killed() {
    for (signal, code) in [("-KILL", None), ("-TERM", Some(0))] {
        let mut site = Site::start();
        let hex = push(&site, "org/app", "1");
        site.registry.hold(true);
        site.ask(ALICE, "POST", "/api/pull/c1/docker/org/app:1/");
        site.until(|| (site.registry.most_fetched() > 0).then_some(()));
        assert_eq!(site.end_gateway(signal), code, "{signal}");
        std::fs::write(site.path("images/.partial/leftover"), b"half").unwrap();
        site.registry.hold(false);
        site.start_gateway();
        // Nobody asks for it again.
        let found =
            site.until(|| Some(site.lookup(BOB, "org/app:1")).filter(|reply| reply.status == 200));
        assert_eq!(found.get("id"), hex.as_str());
        assert_eq!(site.file_names("images/.partial"), [""; 0]);
        assert_eq!(site.ask(ALICE, "GET", "/api/queue/c1/").get("list"), json!([]));
    }
}

#[test]
fn a_private_pull_that_was_killed_is_begun_by_its_user_again() {
    let mut site = Site::start();
    push(&site, "lab/app", "1");
    site.registry.make_private("lab/app");
    site.registry.hold(true);
    let path = "/api/pull/c1/docker/lab/app:1/";
    assert_eq!(site.ask_bound(ALICE, "POST", path, LOGIN).status, 200);
    site.until(|| (site.registry.most_fetched() > 0).then_some(()));
    assert_eq!(
        site.ask(BOB, "GET", "/api/queue/c1/").get("list"),
        json!([]),
        "not for others to see"
    );
    site.end_gateway("-KILL");
    site.registry.hold(false);
    site.start_gateway();
    // Its login was never written down.
    let queue = site.ask(ALICE, "GET", "/api/queue/c1/").get("list");
    assert_eq!(queue, json!([{ "status": "FAILURE", "image": "lab/app:1" }]));
    assert_eq!(site.lookup(ALICE, "lab/app:1").status, 404);
    assert_eq!(site.pull_bound(ALICE, "lab/app:1", LOGIN)["status"], "READY");
    let state = site.path("state");
    let mut grep = Command::new("grep");
    grep.args(["-rqa", "secret"]).args([&state, &site.path("images")]);
    assert_eq!(grep.status().unwrap().code(), Some(1), "no login is in any file");
}

#[test]
fn two_tags_of_one_image_at_once_share_the_download() {
    let site = Site::start();
    let files: &[(&str, &[u8])] = &[("a", b"same")];
    let hex = site.registry.push("org/app", "1", files);
    assert_eq!(site.registry.push("org/app", "2", files), hex);
    site.registry.hold(true);
    thread::scope(|scope| {
        let pull = |tag: &'static str| {
            let site = &site;
            scope.spawn(move || site.pull_bound(ALICE, tag, &[]))
        };
        let pulls = [pull("org/app:1"), pull("org/app:2")];
        site.until(|| {
            (site.registry.most_fetched() > 0 && site.registry.resolved() == 2).then_some(())
        });
        site.registry.hold(false);
        for pull in pulls {
            assert_eq!(pull.join().unwrap()["status"], "READY");
        }
    });
    assert_eq!(site.registry.most_fetched(), 1);
    assert_eq!(site.lookup(BOB, "org/app:1").get("tag"), json!(["org/app:1", "org/app:2"]));
}

#[test]
fn a_file_that_is_gone_is_noticed_and_brought_back() {
    let site = Site::start();
    let hex = push(&site, "org/app", "1");
    site.pull(ALICE, "org/app:1");
    std::fs::remove_file(site.path(&format!("images/{hex}.squashfs"))).unwrap();
    let reply = site.lookup(ALICE, "org/app:1");
    assert_eq!(reply.status, 404);
    assert!(
        reply.json()["error"].as_str().unwrap().contains("is gone from the image directory"),
        "{reply:?}"
    );
    let record = site.pull(ALICE, "org/app:1");
    assert_eq!(record["status"], "READY", "{record}");
    assert_eq!(site.lookup(ALICE, "org/app:1").status, 200);
}

#[test]
fn admins_expire_and_others_do_not() {
    let site = Site::start();
    push(&site, "org/app", "1");
    site.pull(ALICE, "org/app:1");
    let expire = |uid, tag: &str| {
        site.ask(uid, "GET", &format!("/api/expire/c1/docker/{tag}/")).get("status")
    };
    assert_eq!(expire(ALICE, "org/app:1"), Value::Bool(false));
    assert_eq!(expire(ADMIN, "org/none:1"), Value::Null);
    assert_eq!(expire(ADMIN, "org/app:1"), Value::Bool(true));
    assert_eq!(site.lookup(ALICE, "org/app:1").status, 404);
    assert_eq!(site.file_names("images"), [".partial", "names"]);
}

#[test]
fn events_tell_a_pull_from_its_layers_to_its_size() {
    let site = Site::start();
    let random: Vec<u8> =
        (0..2_000_000u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let hex = site.registry.push("org/app", "1", &[("data", &random)]);
    site.registry.hold(true);
    site.ask_bound(ALICE, "POST", "/api/pull/c1/docker/org/app:1/", &[]);
    let text = thread::scope(|scope| {
        let events =
            scope.spawn(|| site.ask_bound(ALICE, "GET", "/api/events/c1/docker/org/app:1/", &[]));
        site.until(|| (site.registry.most_fetched() > 0).then_some(()));
        site.registry.hold(false);
        events.join().unwrap().text
    });
    let events: Vec<Value> = text
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = events.last().unwrap();
    assert_eq!(
        (last["status"].as_str(), last["digest"].as_str()),
        (Some("READY"), Some(format!("sha256:{hex}").as_str()))
    );
    let size = std::fs::metadata(site.path(&format!("images/{hex}.squashfs"))).unwrap().len();
    assert_eq!(last["written"], size);
    assert!(
        events.iter().any(|event| event["layers"][0]["state"] == "pulling"
            || event["layers"][0]["state"] == "done"),
        "{text}"
    );
    let again = site.ask_bound(BOB, "GET", "/api/events/c1/docker/org/app:1/", &[]);
    assert_eq!(again.text.lines().count(), 1, "{again:?}");
}

#[test]
fn an_image_file_without_a_record_is_named_at_the_start_and_left_alone() {
    let mut site = Site::start();
    let hex = push(&site, "org/app", "1");
    site.pull(ALICE, "org/app:1");
    let there = |site: &Site| {
        let names = site.file_names("images").into_iter().filter(|name| name.starts_with(&hex));
        names.collect::<Vec<_>>()
    };
    let published = there(&site);
    assert_eq!(published.len(), 3, "{published:?}");
    // What is no image file of ours is nobody's business.
    for name in ["notes.txt", "x.squashfs", &format!("{}.squashfs", "A".repeat(64)), "names.d"] {
        std::fs::write(site.path(&format!("images/{name}")), b"x").unwrap();
    }
    let complaint = "that no record of this gateway speaks of";
    site.end_gateway("-TERM");
    site.start_gateway();
    assert!(!site.said.contains(complaint), "{}", site.said);

    site.end_gateway("-TERM");
    for name in site.file_names("state") {
        std::fs::remove_file(site.path(&format!("state/{name}"))).unwrap();
    }
    site.start_gateway();
    let words = format!("has 1 image files {complaint}, the first of them {hex}.squashfs");
    assert!(site.said.contains(&words), "{}", site.said);
    assert_eq!(there(&site), published, "nothing is removed");
    assert_eq!(site.lookup(ALICE, "org/app:1").status, 404, "and nothing is adopted");
    // The next pull takes its place.
    assert_eq!(site.pull(ALICE, "org/app:1")["status"], "READY");
    site.end_gateway("-TERM");
    site.start_gateway();
    assert!(!site.said.contains(complaint), "{}", site.said);
    assert_eq!(there(&site), published);
}
