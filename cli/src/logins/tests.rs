//! Files of logins, honest and hostile.

use super::*;
use proptest::prelude::*;
use std::fs;

/// What is found where the gateway takes the reference's own registry for the one that is meant.
fn find_text(text: &str, reference: &str) -> Found {
    let parsed: ImageRef = reference.parse().unwrap();
    let registry = parsed.registry().unwrap_or(DOCKER_HUB).to_string();
    find_named(text, reference, &[&registry])
}

fn find_named(text: &str, reference: &str, names: &[&str]) -> Found {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    fs::write(&path, text).unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    find_in(&[path], &reference.parse().unwrap(), &names)
}

fn auth(user_and_password: &str) -> String {
    format!(r#"{{"auth":"{}"}}"#, BASE64_STANDARD.encode(user_and_password))
}

fn login(text: &str, reference: &str) -> Option<(String, String)> {
    let mut logins = find_text(text, reference).logins.into_iter();
    let first = logins.next();
    assert!(logins.next().is_none(), "more than one login handed on");
    first
}

#[test]
fn only_the_login_of_the_references_registry_is_handed_on() {
    let text = format!(
        r#"{{"auths":{{"a.org":{},"b.org:5000":{},"https://index.docker.io/v1/":{}}}}}"#,
        auth("alice:one"),
        auth("bob:two:2"),
        auth("carol:three"),
    );
    let pair = |registry: &str, login: &str| Some((registry.to_string(), login.to_string()));
    assert_eq!(login(&text, "a.org/x"), pair("a.org", "alice:one"));
    assert_eq!(login(&text, "b.org:5000/x/y:1"), pair("b.org:5000", "bob:two:2"));
    assert_eq!(login(&text, "ubuntu"), pair("docker.io", "carol:three"));
    for other in ["b.org/x", "a.org:443/x", "a.organic.org/x", "xa.org/x"] {
        assert_eq!(login(&text, other), None, "{other}");
    }
}

#[test]
fn a_login_is_found_under_every_name_and_handed_on_under_the_first() {
    let text = format!(
        r#"{{"auths":{{"registry.lab.example":{},"https://index.docker.io/v1/":{}}}}}"#,
        auth("alice:one"),
        auth("carol:three"),
    );
    let lab = ["reg", "registry.lab.example"];
    let found = |reference: &str, names: &[&str]| {
        find_named(&text, reference, names).logins.into_iter().collect::<Vec<_>>()
    };
    let alice = [("reg".to_string(), "alice:one".to_string())];
    assert_eq!(found("reg/priv", &lab), alice);
    // A bare name means the site's default registry, and not Docker Hub unless the gateway says so.
    assert_eq!(found("priv", &lab), alice);
    let carol = [("hub".to_string(), "carol:three".to_string())];
    assert_eq!(found("priv", &["hub", "registry-1.docker.io", "docker.io"]), carol);
    assert_eq!(found("docker.io/library/priv", &["quay.io"]), []);
    assert_eq!(found("docker.io/library/priv", &[]), []);
}

#[test]
fn an_entry_for_a_part_of_a_registry_fits_whatever_the_registry_is_called() {
    let text =
        format!(r#"{{"auths":{{"a.org/team":{},"a.org":{}}}}}"#, auth("team:2"), auth("all:1"));
    for (reference, login) in
        [("reg/team/app", "team:2"), ("reg/app", "all:1"), ("a.org/team/app", "team:2")]
    {
        let found = find_named(&text, reference, &["reg", "a.org"]);
        assert_eq!(found.logins["reg"], login, "{reference}");
    }
}

#[test]
fn the_most_specific_entry_wins() {
    let text = format!(
        r#"{{"auths":{{"a.org":{},"a.org/team/app":{},"a.org/team":{}}}}}"#,
        auth("all:1"),
        auth("app:3"),
        auth("team:2"),
    );
    assert_eq!(login(&text, "a.org/team/app:v1").unwrap().1, "app:3");
    assert_eq!(login(&text, "a.org/team/apple").unwrap().1, "team:2");
    assert_eq!(login(&text, "a.org/other").unwrap().1, "all:1");
}

#[test]
fn separate_user_and_password_are_read_too() {
    let text = r#"{"auths":{"a.org":{"username":"u","password":"p","auth":""}},"credsStore":"x"}"#;
    assert_eq!(login(text, "a.org/x").unwrap().1, "u:p");
}

#[test]
fn hostile_and_broken_files_cost_a_note_and_no_login() {
    for (text, note) in [
        (String::new(), "not JSON"),
        ("7".to_string(), "not JSON"),
        (r#"{"auths":["a.org"]}"#.to_string(), "not JSON"),
        (format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)), "not JSON"),
        (r#"{"auths":{"a.org":{"auth":"%%%"}}}"#.to_string(), "not base64"),
        (r#"{"auths":{"a.org":{"auth":"/w=="}}}"#.to_string(), "not UTF-8"),
        (format!(r#"{{"auths":{{"a.org":{}}}}}"#, auth("nopassword")), "no `:`"),
        (format!(r#"{{"auths":{{"a.org":{}}}}}"#, auth(":x")), "user name is empty"),
        (format!(r#"{{"auths":{{"a.org":{}}}}}"#, auth("u:p\r\nX: y")), "control characters"),
        (r#"{"auths":{"a.org":{"identitytoken":"t"}}}"#.to_string(), "no password"),
        (" ".repeat(1 << 21), "exceeds"),
    ] {
        let found = find_text(&text, "a.org/x");
        assert!(found.logins.is_empty());
        assert!(found.notes.concat().contains(note), "{:?} lacks {note}", found.notes);
    }
}

#[test]
fn a_broken_entry_for_another_registry_is_not_looked_at() {
    let text = format!(r#"{{"auths":{{"b.org":{{"auth":"%"}},"a.org":{}}}}}"#, auth("u:p"));
    let found = find_text(&text, "a.org/x");
    assert_eq!(found.notes, Vec::<String>::new());
    assert_eq!(found.logins.len(), 1);
}

#[test]
fn a_directory_or_a_pipe_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let files = [directory.path().into(), pipe];
    let found = find_in(&files, &"a.org/x".parse().unwrap(), &["a.org".to_string()]);
    assert_eq!(found.notes.len(), 2);
    assert!(found.notes.iter().all(|note| note.ends_with("not a plain file")));
}

#[test]
fn files_are_looked_for_where_podman_and_docker_keep_them() {
    let variables = |name: &str| match name {
        "HOME" => Some("/home/u".into()),
        "XDG_RUNTIME_DIR" => Some("/run/user/1".into()),
        "REGISTRY_AUTH_FILE" => Some("".into()),
        _ => None,
    };
    let expected = [
        "/run/user/1/containers/auth.json",
        "/home/u/.config/containers/auth.json",
        "/home/u/.docker/config.json",
    ];
    assert_eq!(files(variables), expected.map(PathBuf::from));
    assert!(files(|_| None).is_empty());
}

#[test]
fn a_login_does_not_show_in_debug_output() {
    let text = format!(r#"{{"auths":{{"a.org":{}}}}}"#, auth("u:secret"));
    let shown = format!("{:?}", find_text(&text, "a.org/x"));
    assert!(shown.contains("a.org") && !shown.contains("secret"), "{shown}");
}

proptest! {
    #[test]
    fn no_file_makes_the_reader_panic(key in "\\PC{0,20}", value in "\\PC{0,40}") {
        let text = serde_json::json!({"auths": {key: {"auth": value}}}).to_string();
        let _ = find_text(&text, "a.org/x");
    }
}
