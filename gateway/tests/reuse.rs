//! What of an image is taken from others that are there, and what never is.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod site;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Value, json};
use site::registry::{Files, Registry};
use site::{ALICE, BOB, Site, mode};

const LOGIN: &[(&str, &str)] = &[("reg", "bob:secret")];

/// Large enough for several blocks, and nothing that compresses.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..700_000).map(next).collect()
});
static BASE: LazyLock<[(&str, &[u8]); 3]> =
    LazyLock::new(|| [("bin/sh", b"#!"), ("lib/data", &NOISE), ("etc/old", b"old")]);
const TOOLS: Files<'_> = &[("bin/tool", b"tool"), ("etc/old", b"newer")];
const APP: Files<'_> = &[("app/one", b"one")];
const OTHER: Files<'_> = &[("app/two", b"two")];

/// Two images that share their lower layers, of which the first is pulled.
fn two(site: &Site, repository: &str, logins: &[(&str, &str)]) -> (String, String) {
    let first = site.registry.push_image(repository, "1", &[&*BASE, TOOLS, APP]);
    let second = site.registry.push_image(repository, "2", &[&*BASE, TOOLS, OTHER]);
    let pulled = site.pull_bound(ALICE, &format!("{repository}:1"), logins);
    assert_eq!(pulled["status"], "READY", "{pulled}");
    (first, second)
}

fn image(site: &Site, hex: &str) -> PathBuf {
    site.path(&format!("images/{hex}.squashfs"))
}

/// The bytes of the image of these layers that a gateway makes which has no other.
fn cold(layers: &[Files<'_>]) -> Vec<u8> {
    let site = Site::start();
    let hex = site.registry.push_image("org/cold", "1", layers);
    assert_eq!(site.pull_bound(ALICE, "org/cold:1", &[])["status"], "READY");
    std::fs::read(image(&site, &hex)).unwrap()
}

/// Waits until what is written gets a later time than this file has: the kernel's clock for files moves in ticks, and a
/// change within the tick of the publication cannot be seen (see `ImageDir::open_image`).
fn wait_for_a_later_tick(site: &Site, file: &Path) {
    let written = |path: &Path| path.metadata().unwrap().modified().unwrap();
    let probe = site.path("probe");
    site.until(|| {
        std::fs::write(&probe, b"x").unwrap();
        (written(&probe) > written(file)).then_some(())
    });
}

fn states(event: &Value) -> Vec<&str> {
    let layers = event["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["state"].as_str().unwrap()).collect()
}

#[test]
fn layers_of_public_images_are_shared_by_all_and_fetched_once() {
    let site = Site::start();
    let (_, second) = two(&site, "org/app", &[]);
    let pulled = site.pull_bound(BOB, "org/app:2", &[]);
    assert_eq!(pulled["status"], "READY", "{pulled}");
    assert_eq!(states(&pulled), ["reused", "reused", "done"]);
    let fetched = [&*BASE, TOOLS, APP, OTHER].map(|files: Files<'_>| site.registry.fetched(files));
    assert_eq!(fetched, [1; 4]);
    let made = std::fs::read(image(&site, &second)).unwrap();
    assert!(made == cold(&[&*BASE, TOOLS, OTHER]), "the same file as without the other image");
    let details = site.ask(BOB, "GET", "/api/inspect/c1/docker/org/app:2/");
    assert_eq!((details.get("reused_layers"), details.get("private")), (2.into(), false.into()));
    // From another repository of another name just as well.
    let third = site.registry.push_image("any/thing", "1", &[TOOLS, &*BASE]);
    assert_eq!(states(&site.pull_bound(BOB, "any/thing:1", &[])), ["reused", "reused"]);
    assert!(std::fs::read(image(&site, &third)).unwrap() == cold(&[TOOLS, &*BASE]));
}

#[test]
fn a_registry_that_names_a_private_images_layer_does_not_get_its_content() {
    let evil = Registry::start();
    let site = Site::with(|config| {
        config["Locations"]["evil"] = json!({ "remotetype": "dockerv2", "url": evil.url() });
    });
    site.registry.make_private("lab/app");
    let (first, second) = two(&site, "lab/app", LOGIN);
    evil.pretend_to_have(&site.registry, "lab/app");
    // The very image, and another one of its layers; for a stranger, and for who may use it and is to be fooled.
    for (uid, tag) in [(BOB, "evil/lab/app:1"), (BOB, "evil/lab/app:2"), (ALICE, "evil/lab/app:2")]
    {
        let failed = site.pull_bound(uid, tag, &[]);
        assert_eq!(failed["status"], "FAILURE", "{tag}: {failed}");
        assert_eq!(failed["failure"]["code"], "registry-not-found", "{tag}: {failed}");
    }
    assert!(!image(&site, &second).exists());
    assert!(evil.fetched(&*BASE) > 0, "it was asked for what it named");
    assert_eq!(site.lookup(BOB, "lab/app:1").status, 404);
    assert_eq!(mode(&image(&site, &first)), 0o400);
}

#[test]
fn who_has_no_login_gets_no_layer_of_a_private_image() {
    let site = Site::start();
    site.registry.make_layers_private("lab/app");
    let (_, second) = two(&site, "lab/app", LOGIN);
    for logins in [&[][..], &[("reg", "bob:wrong")]] {
        let failed = site.pull_bound(BOB, "lab/app:2", logins);
        assert_eq!(failed["failure"]["code"], "registry-unauthorized", "{failed}");
    }
    site.registry.make_private("lab/app");
    for logins in [&[][..], &[("reg", "bob:wrong")]] {
        let failed = site.pull_bound(BOB, "lab/app:2", logins);
        assert_eq!(failed["failure"]["code"], "registry-unauthorized", "{failed}");
    }
    assert!(!image(&site, &second).exists());
}

#[test]
fn who_can_read_a_private_repository_reuses_what_another_pulled_from_it() {
    let site = Site::start();
    site.registry.make_private("lab/app");
    let (_, second) = two(&site, "lab/app", LOGIN);
    let pulled = site.pull_bound(BOB, "lab/app:2", LOGIN);
    assert_eq!(states(&pulled), ["reused", "reused", "done"], "{pulled}");
    assert_eq!((site.registry.fetched(&*BASE), site.registry.fetched(OTHER)), (1, 1));
    let record = site.lookup(BOB, "lab/app:2");
    assert_eq!((record.get("private"), record.get("userACL")), (true.into(), json!([BOB])));
    assert_eq!(site.lookup(ALICE, "lab/app:2").status, 404, "it is not hers");
    assert!(std::fs::read(image(&site, &second)).unwrap() == cold(&[&*BASE, TOOLS, OTHER]));
}

#[test]
fn a_private_image_of_which_the_caller_cannot_read_every_layer_serves_only_those_who_may_use_it() {
    let site = Site::start();
    site.registry.make_private("lab/app");
    two(&site, "lab/app", LOGIN);
    // A layer that was taken out of the registry: nobody can prove to have been given it.
    site.registry.forget(APP);
    let pulled = site.pull_bound(BOB, "lab/app:2", LOGIN);
    assert_eq!(states(&pulled), ["done"; 3], "{pulled}");
    site.registry.push_image("lab/app", "3", &[TOOLS, &*BASE]);
    let pulled = site.pull_bound(ALICE, "lab/app:3", LOGIN);
    assert_eq!(states(&pulled), ["reused"; 2], "{pulled}");
}

#[test]
fn a_private_image_of_another_repository_serves_only_those_who_may_use_it() {
    let site = Site::start();
    for repository in ["lab/app", "lab/next", "lab/last"] {
        site.registry.make_private(repository);
    }
    two(&site, "lab/app", LOGIN);
    site.registry.push_image("lab/next", "1", &[&*BASE, OTHER]);
    let pulled = site.pull_bound(BOB, "lab/next:1", LOGIN);
    assert_eq!(states(&pulled), ["done", "done"], "not on the list of the first: {pulled}");
    assert_eq!(site.registry.fetched(&*BASE), 2);
    site.registry.push_image("lab/last", "1", &[&*BASE, APP]);
    let pulled = site.pull_bound(ALICE, "lab/last:1", LOGIN);
    assert_eq!(states(&pulled), ["reused", "reused"], "{pulled}");
    assert_eq!(site.lookup(ALICE, "lab/last:1").get("private"), Value::Bool(true));
}

#[test]
fn an_image_of_nothing_but_a_private_images_layers_is_private() {
    let site = Site::start();
    site.registry.make_layers_private("lab/app");
    two(&site, "lab/app", LOGIN);
    // Its manifest and configuration are for everybody to read, and no layer is fetched.
    let hex = site.registry.push_image("lab/app", "3", &[&*BASE, TOOLS]);
    let before = site.registry.most_fetched();
    let pulled = site.pull_bound(ALICE, "lab/app:3", LOGIN);
    assert_eq!(states(&pulled), ["reused", "reused"], "{pulled}");
    assert_eq!(site.registry.most_fetched(), before);
    assert_eq!(site.lookup(ALICE, "lab/app:3").get("private"), Value::Bool(true));
    assert_eq!(site.lookup(BOB, "lab/app:3").status, 404);
    assert_eq!(mode(&image(&site, &hex)), 0o400);
    assert_eq!(site.file_names("images/names"), [""; 0]);
}

#[test]
fn a_source_that_is_removed_meanwhile_or_later_changes_nothing() {
    let site = Site::start();
    let (first, second) = two(&site, "org/app", &[]);
    site.registry.hold(true);
    site.ask_bound(BOB, "POST", "/api/pull/c1/docker/org/app:2/", &[]);
    site.until(|| (site.registry.fetched(OTHER) > 0).then_some(()));
    assert_eq!(site.ask(ALICE, "DELETE", "/api/image/c1/docker/org/app:1/").status, 200);
    assert!(!image(&site, &first).exists());
    site.registry.hold(false);
    let pulled = site.pull_bound(BOB, "org/app:2", &[]);
    assert_eq!(pulled["status"], "READY", "{pulled}");
    assert_eq!(site.registry.fetched(&*BASE), 1, "it was open already");
    let made = std::fs::read(image(&site, &second)).unwrap();
    assert!(made == cold(&[&*BASE, TOOLS, OTHER]));
}

#[test]
fn a_source_that_is_gone_or_damaged_is_read_from_the_registry_again() {
    let whole = cold(&[&*BASE, TOOLS, OTHER]);
    let flip = |path: &PathBuf, at: u64| {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut bytes = [0; 64];
        file.read_exact_at(&mut bytes, at).unwrap();
        file.write_all_at(&bytes.map(|byte| !byte), at).unwrap();
    };
    type Damage<'a> = (&'a str, &'a dyn Fn(&PathBuf, u64));
    let damages: [Damage<'_>; 7] = [
        ("removed", &|path, _| std::fs::remove_file(path).unwrap()),
        ("cut short", &|path, size| {
            OpenOptions::new().write(true).open(path).unwrap().set_len(size / 2).unwrap();
        }),
        ("empty", &|path, _| std::fs::write(path, b"").unwrap()),
        ("replaced by as many zeros", &|path, size| {
            std::fs::write(path, vec![0; size as usize]).unwrap();
        }),
        ("damaged at its end", &|path, size| flip(path, size - 64)),
        ("damaged in a block", &|path, size| flip(path, size / 2)),
        ("replaced by a directory", &|path, _| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        }),
    ];
    for (damage, inflict) in damages {
        let site = Site::start();
        let (first, second) = two(&site, "org/app", &[]);
        let path = image(&site, &first);
        wait_for_a_later_tick(&site, &path.with_extension("gantry"));
        inflict(&path, path.metadata().unwrap().len());
        let pulled = site.pull_bound(BOB, "org/app:2", &[]);
        assert_eq!(pulled["status"], "READY", "{damage}: {pulled}");
        assert_eq!(site.registry.fetched(&*BASE), 2, "{damage}");
        assert!(std::fs::read(image(&site, &second)).unwrap() == whole, "{damage}");
    }
}

#[test]
fn a_site_can_do_without_and_change_how_images_are_made() {
    let site = Site::with(|config| config["Conversion"] = json!({ "Reuse": false }));
    two(&site, "org/app", &[]);
    assert_eq!(states(&site.pull_bound(BOB, "org/app:2", &[])), ["done"; 3]);
    drop(site);

    let mut site = Site::start();
    let (first, _) = two(&site, "org/app", &[]);
    site.end_gateway("-TERM");
    let text = std::fs::read_to_string(site.config()).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["Conversion"] = json!({ "Compressor": "gzip:6", "BlockSize": 65536, "Workers": 1 });
    std::fs::write(site.config(), config.to_string()).unwrap();
    site.start_gateway();
    assert_eq!(site.lookup(BOB, "org/app:1").get("id"), first.as_str(), "it is as good as before");
    let pulled = site.pull_bound(BOB, "org/app:2", &[]);
    assert_eq!(states(&pulled), ["done"; 3], "{pulled}");
    let made_by = site.ask(BOB, "GET", "/api/inspect/c1/docker/org/app:2/").get("made_by");
    assert!(made_by.as_str().unwrap().contains("gzip:6, 65536 byte blocks"), "{made_by}");
    site.registry.push_image("org/app", "3", &[&*BASE, TOOLS]);
    assert_eq!(states(&site.pull_bound(BOB, "org/app:3", &[])), ["reused"; 2], "of the new ones");
}
