//! Which image is chosen from an index.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn entry(fill: char, platform: Option<&str>) -> Value {
    let mut entry = json!({
        "mediaType": ManifestKind::OciManifest.media_type(),
        "digest": format!("sha256:{}", fill.to_string().repeat(64)), "size": 100,
    });
    if let Some(platform) = platform {
        let mut parts = platform.split('/');
        entry["platform"] = json!({"os": parts.next(), "architecture": parts.next()});
        if let Some(variant) = parts.next() {
            entry["platform"]["variant"] = json!(variant);
        }
    }
    entry
}

fn index(entries: &[Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "manifests": entries}).to_string().into_bytes()
}

fn chosen(entries: &[Value], platform: &str) -> Result<char, Unchosen> {
    let entry = choose(&index(entries), &platform.parse().unwrap())?;
    Ok(entry.digest.hex().to_string().chars().next().unwrap())
}

#[test]
fn the_image_for_the_platform_is_chosen_and_attestations_never() {
    let entries = [
        entry('a', Some("unknown/unknown")),
        entry('b', Some("linux/arm64/v8")),
        entry('c', Some("linux/amd64")),
        entry('d', Some("windows/amd64")),
    ];
    assert_eq!(chosen(&entries, "linux/amd64"), Ok('c'));
    assert_eq!(chosen(&entries, "linux/arm64"), Ok('b'));
    assert_eq!(chosen(&entries, "linux/arm64/v8"), Ok('b'));
    let Err(Unchosen::NoPlatform(offered)) = chosen(&entries, "linux/ppc64le") else { panic!() };
    let offered: Vec<String> = offered.iter().map(Platform::to_string).collect();
    assert_eq!(offered, ["linux/arm64/v8", "linux/amd64", "windows/amd64"]);
}

#[test]
fn the_plain_variant_is_preferred_to_one_that_the_node_may_lack() {
    let entries = [
        entry('a', Some("linux/amd64/v4")),
        entry('b', Some("linux/amd64/v3")),
        entry('c', Some("linux/amd64")),
    ];
    assert_eq!(chosen(&entries, "linux/amd64"), Ok('c'));
    assert_eq!(chosen(&entries, "linux/amd64/v3"), Ok('b'));
    assert_eq!(chosen(&entries, "linux/amd64/v2"), Ok('c'));
    assert_eq!(chosen(&entries[..2], "linux/amd64"), Ok('a'));
}

#[test]
fn an_entry_without_platform_is_the_last_resort() {
    let entries = [entry('a', None), entry('b', Some("linux/amd64"))];
    assert_eq!(chosen(&entries, "linux/amd64"), Ok('b'));
    assert_eq!(chosen(&entries, "linux/arm64"), Ok('a'));
    assert_eq!(chosen(&[], "linux/amd64"), Err(Unchosen::NoPlatform(vec![])));
}

#[test]
fn hostile_entries_are_refused() {
    let flaw = |entries: &[Value]| match chosen(entries, "linux/amd64") {
        Err(Unchosen::Flaw(flaw)) => format!("{flaw:?}"),
        other => panic!("{other:?}"),
    };
    let mut nested = entry('a', Some("linux/amd64"));
    nested["mediaType"] = json!(ManifestKind::OciIndex.media_type());
    assert!(flaw(&[nested]).contains("another index"));
    let mut elsewhere = entry('a', Some("linux/amd64"));
    elsewhere["urls"] = json!(["http://169.254.169.254/"]);
    assert!(flaw(&[elsewhere]).contains("elsewhere"));
    let mut odd = entry('a', Some("linux/amd64"));
    odd["digest"] = json!("sha256:..");
    assert!(flaw(&[odd]).contains("digest"));
    assert!(flaw(&vec![entry('a', None); INDEX_LIMIT + 1]).contains("257 manifests"));
}

proptest! {
    #[test]
    fn no_bytes_make_the_choice_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = choose(&bytes, &"linux/amd64".parse().unwrap());
    }
}

#[test]
fn a_platform_that_is_none_by_its_spelling_is_passed_over_and_not_repeated() {
    let forged = "linux/arm64\nINFO pulled docker:evil:1 by root";
    let long = format!("linux/{}", "a".repeat(200_000));
    let entries =
        [entry('a', Some(forged)), entry('b', Some(&long)), entry('c', Some("linux/s390x"))];
    let Err(Unchosen::NoPlatform(offered)) = chosen(&entries, "linux/amd64") else { panic!() };
    assert_eq!(offered, ["linux/s390x".parse().unwrap()]);
    let many: Vec<Value> = (0..100).map(|n| entry('a', Some(&format!("linux/cpu{n}")))).collect();
    let Err(Unchosen::NoPlatform(offered)) = chosen(&many, "linux/amd64") else { panic!() };
    assert_eq!(offered.len(), OFFERED_LIMIT);
}
