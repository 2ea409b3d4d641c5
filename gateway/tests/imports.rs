//! Imports as the gateway takes them: who may, what is refused before a byte has come, and what is left of failures.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod site;

use std::io::{Read, Write};
use std::net::TcpStream;

use gateway_api::Payload;
use image_ref::Digest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use site::{ADMIN, ALICE, BOB, Reply, Site};

/// The tar archive of a root file system.
fn rootfs(text: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "etc/text", text.as_bytes()).unwrap();
    tar.into_inner().unwrap()
}

/// What `docker save` writes of an image with this configuration and one layer.
fn docker_archive(mut config: Value, layer: &[u8]) -> Vec<u8> {
    config["architecture"] = json!("amd64");
    config["os"] = json!("linux");
    config["rootfs"] = json!({ "type": "layers", "diff_ids": [digest(layer)] });
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": ["x:1"], "Layers": ["layer.tar"] }]);
    let mut tar = tar::Builder::new(Vec::new());
    let (manifest, config) = (manifest.to_string(), config.to_string());
    for (name, bytes) in [
        ("manifest.json", manifest.as_bytes()),
        ("config.json", config.as_bytes()),
        ("layer.tar", layer),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

fn route(name: &str) -> String {
    format!("/api/import/c1/custom/{name}/")
}

/// What goes in front of the body of a request that announces `announced`.
fn head(site: &Site, uid: u32, path: &str, announced: &[u8]) -> String {
    let payload = Payload::bound_to("POST", path, &digest(announced)).to_bytes();
    let credential = site.credential(uid, std::str::from_utf8(&payload).unwrap());
    let length = announced.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthentication: {credential}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    )
}

fn connect(site: &Site) -> TcpStream {
    let address = site.url("");
    let stream = TcpStream::connect(address.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    stream
}

/// Announces one file and sends another of the same length.
fn send(site: &Site, uid: u32, path: &str, announced: &[u8], sent: &[u8]) -> Reply {
    let mut stream = connect(site);
    stream.write_all(head(site, uid, path, announced).as_bytes()).unwrap();
    // A gateway that refuses without reading closes before everything is sent.
    let _ = stream.write_all(sent);
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, headers: Vec::new(), text: body.to_string() }
}

fn import(site: &Site, uid: u32, path: &str, file: &[u8]) -> Reply {
    send(site, uid, path, file, file)
}

/// The last event of an import.
fn last(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    let mut lines = reply.text.lines().filter(|line| line.starts_with('{'));
    let last = lines.next_back().unwrap_or_else(|| panic!("{reply:?}"));
    serde_json::from_str(last).unwrap()
}

fn nothing_left(site: &Site) {
    site.until(|| site.file_names("images/.partial").is_empty().then_some(()));
}

#[test]
fn a_file_becomes_an_image_of_its_importer_and_is_not_made_twice() {
    let site = Site::start();
    let file = rootfs("one");
    let ready = last(&import(&site, ALICE, &route("org%2Fapp%3A1"), &file));
    assert_eq!(
        (&ready["status"], &ready["message"]),
        (&json!("READY"), &json!("ready")),
        "{ready}"
    );
    nothing_left(&site);
    let details = site.ask(ALICE, "GET", "/api/inspect/c1/custom/org%2Fapp%3A1/").json();
    assert_eq!(details["digest"], ready["digest"]);
    assert_eq!(details["source"], "import of rootfs-tar");
    assert_eq!((&details["owner"], &details["private"]), (&json!(ALICE), &json!(true)));
    assert_eq!(details["layers"][0]["digest"], json!(digest(&file)));
    assert_eq!(site.ask(BOB, "GET", "/api/lookup/c1/custom/org%2Fapp%3A1/").status, 404);
    assert_eq!(site.file_names("images/names"), [""; 0], "private");

    let again = last(&import(&site, ALICE, &route("org%2Fapp%3A2"), &file));
    assert_eq!((&again["message"], &again["digest"]), (&json!("already there"), &ready["digest"]));
    // Who has the same file has the image too, and gives nobody else's away.
    let other = last(&import(&site, BOB, &route("mine%3A1"), &file));
    assert_eq!((&other["message"], &other["digest"]), (&json!("ready"), &ready["digest"]));
    assert_eq!(site.ask(BOB, "GET", "/api/lookup/c1/custom/mine%3A1/").status, 200);
    nothing_left(&site);
    // To open it to all takes the file, not only its digest.
    let open = last(&import(&site, ALICE, &(route("open%3A1") + "?public=true"), &file));
    assert_eq!((&open["message"], &open["digest"]), (&json!("ready"), &ready["digest"]));
    assert_eq!(site.ask(ADMIN, "GET", "/api/lookup/c1/custom/open%3A1/").get("private"), false);
    let removed = site.ask(
        ADMIN,
        "DELETE",
        &format!("/api/image/c1/id/{}/", details["id"].as_str().unwrap()),
    );
    assert_eq!(removed.status, 200, "{removed:?}");
}

#[test]
fn access_is_what_the_query_says() {
    let site = Site::start();
    let public =
        last(&import(&site, ALICE, &(route("open%3A1") + "?public=true"), &rootfs("open")));
    assert_eq!(public["status"], "READY", "{public}");
    assert_eq!(site.ask(BOB, "GET", "/api/lookup/c1/custom/open%3A1/").status, 200);
    assert_eq!(site.file_names("images/names"), ["custom%3Aopen%3A1"]);
    let path = route("shared%3A1") + &format!("?allowed_uids={BOB}");
    assert_eq!(last(&import(&site, ALICE, &path, &rootfs("shared")))["status"], "READY");
    assert_eq!(site.ask(BOB, "GET", "/api/lookup/c1/custom/shared%3A1/").status, 200);
    let reply = import(&site, ALICE, &(route("a%3A1") + "?publik=true"), &rootfs("x"));
    assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("bad-request")));
    let reply = import(&site, ALICE, &(route("a%3A1") + "?allowed_uids=x"), &rootfs("x"));
    assert_eq!(reply.status, 400, "{reply:?}");
}

#[test]
fn a_name_is_its_givers_and_moves_only_with_them_and_admins() {
    let site = Site::start();
    let path = route("org%2Fapp%3A1");
    let first = last(&import(&site, ALICE, &path, &rootfs("first")));
    let refused = import(&site, BOB, &path, &rootfs("second"));
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (403, &json!("forbidden")),
        "{refused:?}"
    );
    nothing_left(&site);
    let moved = last(&import(&site, ALICE, &path, &rootfs("second")));
    assert_ne!(moved["digest"], first["digest"]);
    let admins = last(&import(&site, ADMIN, &path, &rootfs("third")));
    assert_eq!(admins["status"], "READY", "{admins}");
    // The content was Alice's first; the name that Bob gave it is Bob's all the same.
    let own = route("bobs%3A1");
    assert_eq!(last(&import(&site, BOB, &own, &rootfs("second")))["status"], "READY");
    assert_eq!(last(&import(&site, BOB, &own, &rootfs("fourth")))["status"], "READY");
    assert_eq!(import(&site, ALICE, &own, &rootfs("fifth")).status, 403);
}

#[test]
fn who_gave_an_import_its_name_may_remove_that_name_and_no_other() {
    let site = Site::start();
    let remove =
        |uid, name: &str| site.ask(uid, "DELETE", &format!("/api/image/c1/custom/{name}/"));
    let file = rootfs("one");
    assert_eq!(last(&import(&site, ALICE, &route("hers%3A1"), &file))["status"], "READY");
    assert_eq!(last(&import(&site, BOB, &route("his%3A1"), &file))["status"], "READY");
    // The same image, which is Alice's.
    let owner = site.ask(BOB, "GET", "/api/inspect/c1/custom/his%3A1/").get("owner");
    assert_eq!(owner, ALICE);
    let refused = remove(BOB, "hers%3A1");
    assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("forbidden")));
    assert_eq!(remove(BOB, "his%3A1").status, 200);
    assert_eq!(site.ask(ALICE, "GET", "/api/lookup/c1/custom/his%3A1/").status, 404);
    assert_eq!(site.ask(ALICE, "GET", "/api/lookup/c1/custom/hers%3A1/").status, 200);
    // What the owner could always do: her image under any name, with the last of which it is gone.
    assert_eq!(last(&import(&site, BOB, &route("his%3A1"), &file))["status"], "READY");
    assert_eq!(remove(ALICE, "his%3A1").status, 200);
    assert_eq!(last(&import(&site, BOB, &route("his%3A1"), &file))["status"], "READY");
    assert_eq!(remove(ALICE, "hers%3A1").status, 200);
    assert_eq!(remove(BOB, "his%3A1").status, 200);
    assert_eq!(site.file_names("images"), [".partial", "names"]);
}

#[test]
fn a_file_that_is_not_what_was_announced_is_not_looked_at() {
    let site = Site::start();
    let path = route("app%3A1");
    let (file, other) = (rootfs("a"), rootfs("b"));
    let reply = send(&site, ALICE, &path, &file, &other);
    assert_eq!(
        (reply.status, &reply.json()["code"]),
        (502, &json!("digest-mismatch")),
        "{reply:?}"
    );
    nothing_left(&site);
    // A credential for another request, for none, and none.
    let credential = site.credential(ALICE, "");
    let text = std::str::from_utf8(&file).unwrap();
    for credential in [Some(credential.as_str()), None] {
        let reply = site.send(credential, "POST", &path, text);
        assert_eq!(reply.status, 401, "{reply:?}");
    }
    let moved = head(&site, ALICE, &route("b%3A1"), &file).replace("b%3A1", "app%3A1");
    let mut stream = connect(&site);
    stream.write_all(moved.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    nothing_left(&site);
    assert_eq!(site.file_names("images"), [".partial", "names"]);
}

#[test]
fn a_connection_that_is_cut_leaves_nothing_and_lets_the_next_import_begin() {
    let site = Site::start();
    let path = route("app%3A1");
    let file = rootfs(&"x".repeat(1 << 20));
    let mut stream = connect(&site);
    stream.write_all(head(&site, ALICE, &path, &file).as_bytes()).unwrap();
    stream.write_all(&file[..1 << 19]).unwrap();
    site.until(|| (!site.file_names("images/.partial").is_empty()).then_some(()));
    let busy = import(&site, ALICE, &route("other%3A1"), &rootfs("x"));
    assert_eq!((busy.status, &busy.json()["code"]), (409, &json!("busy")), "{busy:?}");
    let same = import(&site, BOB, &path, &rootfs("x"));
    assert_eq!((same.status, &same.json()["code"]), (409, &json!("busy")), "{same:?}");
    drop(stream);
    nothing_left(&site);
    let ready = site.until(|| {
        let reply = import(&site, ALICE, &path, &file);
        (reply.status != 409).then(|| last(&reply))
    });
    assert_eq!(ready["status"], "READY", "{ready}");
    nothing_left(&site);
}

#[test]
fn what_is_no_image_is_refused_with_the_reason_and_leaves_nothing() {
    let site = Site::start();
    for (file, why) in [
        (&b"hello"[..], "no image that is known"),
        (b"", "no image that is known"),
        (b"\xfd7zXZ\0", "compressed by xz"),
        (&rootfs("x")[..700], "cut short"),
    ] {
        let failed = last(&import(&site, ALICE, &route("app%3A1"), file));
        assert_eq!(failed["status"], "FAILURE", "{failed}");
        let failure = &failed["failure"];
        assert_eq!(failure["code"], "image-invalid", "{failure}");
        let error = failure["error"].as_str().unwrap();
        assert!(error.starts_with("cannot import custom:app:1: "), "{error}");
        assert!(error.contains(why), "{error}");
    }
    nothing_left(&site);
    assert_eq!(site.file_names("images"), [".partial", "names"]);
}

#[test]
fn a_configuration_that_is_too_large_is_a_failure_that_says_what_of_it() {
    let site = Site::start();
    let layer = rootfs("x");
    let long = "x".repeat(200_000);
    for (config, what) in [
        (json!({ "Labels": { "notes": long } }), "labels with 200005 bytes"),
        (json!({ "Env": [format!("A={long}")], "Cmd": ["sh"] }), "environment with 200002 bytes"),
        (json!({ "Cmd": vec![&long[..1000]; 200] }), "command with 200000 bytes"),
    ] {
        let file = docker_archive(json!({ "config": config }), &layer);
        let failed = last(&import(&site, ALICE, &route("org%2Fapp%3A1"), &file));
        assert_eq!(failed["failure"]["code"], "limit-exceeded", "{failed}");
        let error = failed["failure"]["error"].as_str().unwrap();
        let words =
            "cannot import custom:org/app:1: its configuration is too large, above all its ";
        assert!(error.starts_with(&format!("{words}{what}: ")), "{error}");
    }
    nothing_left(&site);
    assert_eq!(site.file_names("images"), [".partial", "names"]);
    let fits = json!({ "config": { "Labels": { "notes": &long[..150_000] } } });
    let ready = last(&import(&site, ALICE, &route("org%2Fapp%3A1"), &docker_archive(fits, &layer)));
    assert_eq!(ready["status"], "READY", "{ready}");
}

#[test]
fn the_site_decides_who_imports_and_how_much() {
    let site = Site::with(|config| {
        config["ImportUsers"] = json!([BOB]);
        config["Limits"] = json!({ "CompressedBytes": 4096 });
    });
    let refused = import(&site, ALICE, &route("app%3A1"), &rootfs("x"));
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (403, &json!("forbidden")),
        "{refused:?}"
    );
    assert_eq!(last(&import(&site, BOB, &route("app%3A1"), &rootfs("x")))["status"], "READY");
    assert_eq!(last(&import(&site, ADMIN, &route("app%3A2"), &rootfs("x")))["status"], "READY");
    let large = import(&site, BOB, &route("app%3A3"), &rootfs(&"x".repeat(8192)));
    assert_eq!((large.status, &large.json()["code"]), (422, &json!("limit-exceeded")), "{large:?}");
    for kind in ["docker", "id"] {
        let path = format!("/api/import/c1/{kind}/{}/", "a".repeat(64));
        let reply = import(&site, BOB, &path, &rootfs("x"));
        assert_eq!(reply.status, 400, "{reply:?}");
    }
    nothing_left(&site);
    let nobody = Site::with(|config| config["ImportUsers"] = json!("none"));
    assert_eq!(import(&nobody, ADMIN, &route("app%3A1"), &rootfs("x")).status, 403);
}

#[test]
fn a_gateway_that_is_killed_in_an_import_leaves_nothing() {
    let mut site = Site::start();
    let file = rootfs(&"x".repeat(1 << 20));
    let mut stream = connect(&site);
    stream.write_all(head(&site, ALICE, &route("app%3A1"), &file).as_bytes()).unwrap();
    stream.write_all(&file[..1 << 19]).unwrap();
    site.until(|| (!site.file_names("images/.partial").is_empty()).then_some(()));
    site.end_gateway("-KILL");
    site.start_gateway();
    nothing_left(&site);
    assert_eq!(site.ask(ALICE, "GET", "/api/lookup/c1/custom/app%3A1/").status, 404);
    assert_eq!(last(&import(&site, ALICE, &route("app%3A1"), &file))["status"], "READY");
}

#[test]
fn a_converter_that_dies_over_layers_of_other_images_is_tried_once_more_without_them() {
    let layer = rootfs("shared");
    // Too little memory for the threads that convert, and enough to see what the file holds.
    for (dies, state, ran) in [(0, "reused", 4), (3, "done", 5)] {
        let site = Site::with_script(&format!(
            "echo >> $STATE/runs\nif [ $(wc -l < $STATE/runs) = {dies} ]; then ulimit -d 5000; fi\n\
             exec $CONVERTER \"$@\""
        ));
        // The gateway has looked at its sandbox.
        std::fs::remove_file(site.path("state/runs")).unwrap();
        for tag in [1, 2] {
            let config = json!({ "config": { "Env": [format!("TAG={tag}")] } });
            let reply = import(
                &site,
                ALICE,
                &route(&format!("app%3A{tag}")),
                &docker_archive(config, &layer),
            );
            let ready = last(&reply);
            assert_eq!(ready["status"], "READY", "{ready}");
            let expected = if tag == 1 { "done" } else { state };
            assert_eq!(ready["layers"][0]["state"], expected, "{ready}");
        }
        assert_eq!(std::fs::read_to_string(site.path("state/runs")).unwrap().len(), ran);
        nothing_left(&site);
    }
}
