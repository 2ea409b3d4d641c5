//! When a registry login leaves the user's files, under which name, and who can read it on its way.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use gateway_api::{Code, ErrorBody};
use serde_json::{Value, json};
use std::fs;
use support::Site;
use support::munged::Munged;
use support::server::{Reply, Request, Server};

const HEX: &str = "abababababababababababababababababababababababababababababababab";

/// The account of the gateway.
const GATEWAY: u32 = 21990;

fn record(status: &str) -> Value {
    json!({
        "id": HEX, "system": "c1", "itype": "docker", "tag": [], "status": status,
        "userACL": [], "groupACL": [], "ENV": "MISSING", "ENTRY": "MISSING", "WORKDIR": "MISSING",
        "LABELS": "MISSING", "last_pull": "MISSING", "status_message": "MISSING"
    })
}

/// What a gateway tells whose location `lab` has the URL `https://registry.lab.example`.
fn refusal() -> ErrorBody {
    let text = "cannot pull docker:priv:1: lab wants a login";
    ErrorBody::new(Code::RegistryUnauthorized, text)
        .with_hint("`podman login registry.lab.example`")
        .with_logins(vec!["lab".into(), "registry.lab.example".into()])
}

fn failed() -> Reply {
    let mut failed = record("FAILURE");
    failed["failure"] = serde_json::to_value(refusal()).unwrap();
    Reply::Whole(200, failed.to_string())
}

fn ready() -> Reply {
    Reply::Whole(200, record("READY").to_string())
}

/// A site of this server with logins for three registries in its home.
fn site(munged: &Munged, server: &Server, more: &str) -> Site {
    let site = Site::new(Some(munged), &[server.url()], more);
    fs::create_dir(site.home().join(".docker")).unwrap();
    // alice:secret, bob:other and carol:hub.
    let file = r#"{"auths":{
        "registry.lab.example":{"auth":"YWxpY2U6c2VjcmV0"},
        "b.org":{"auth":"Ym9iOm90aGVy"},
        "https://index.docker.io/v1/":{"auth":"Y2Fyb2w6aHVi"}}}"#;
    fs::write(site.home().join(".docker/config.json"), file).unwrap();
    site
}

fn logins(request: &Request, munged: &Munged) -> Vec<(String, String)> {
    let payload = request.payload_for(GATEWAY, &munged.socket()).unwrap();
    payload.authorized_locations.into_iter().collect()
}

#[test]
fn a_login_travels_only_after_the_registry_has_refused_without_one() {
    let munged = Munged::start();
    let over = json!({
        "status": "FAILURE", "message": "", "layers": [], "written": 0, "seconds": 1.0,
        "failure": refusal(),
    });
    let refused = Reply::Whole(403, serde_json::to_string(&refusal()).unwrap());
    let running = Reply::Whole(200, record("INIT").to_string());
    for before in
        [vec![failed()], vec![refused], vec![running, Reply::Stream(vec![format!("{over}\n")])]]
    {
        let count = before.len();
        let server =
            Server::start(move |number, _| before.get(number).cloned().unwrap_or_else(ready));
        let site = site(&munged, &server, &format!("imageOwner={GATEWAY}"));
        site.imgctl("resolve --pull priv:1").prints(&format!("sha256:{HEX}"));
        let requests = server.requests();
        assert_eq!(requests.len(), count + 1, "{:?}", server.lines());
        let (last, earlier) = requests.split_last().unwrap();
        assert!(earlier.iter().all(|request| logins(request, &munged).is_empty()));
        assert_eq!(logins(last, &munged), [("lab".to_string(), "alice:secret".to_string())]);
    }
}

#[test]
fn the_owner_of_a_private_image_asks_for_a_later_one_with_the_login() {
    let munged = Munged::start();
    let mut private = record("READY");
    private["private"] = true.into();
    private["owner"] = nix::unistd::getuid().as_raw().into();
    let mut details = private.clone();
    for (key, value) in [
        ("platform", json!("linux/amd64")),
        ("cmd", json!([])),
        ("created", json!(null)),
        ("source", json!("registry.lab.example/priv")),
        ("resolved_digest", json!(null)),
        ("layers", json!([])),
        ("entries", json!(1)),
        ("made_by", json!("")),
    ] {
        details[key] = value;
    }
    let server = Server::start(move |_, request| match request.path.contains("/inspect/") {
        true => Reply::Whole(200, details.to_string()),
        false => Reply::Whole(200, private.to_string()),
    });
    let name = "registry.lab.example".to_string();
    let site = site(&munged, &server, &format!("imageOwner={GATEWAY}"));
    site.imgctl("resolve --pull registry.lab.example/priv:1").prints(&format!("sha256:{HEX}"));
    let sent: Vec<_> = server.requests().iter().map(|r| logins(r, &munged)).collect();
    assert_eq!(sent, [vec![], vec![], vec![(name, "alice:secret".to_string())]]);
    // A digest never points at anything else.
    site.imgctl(&format!("resolve --pull registry.lab.example/priv@sha256:{HEX}"))
        .prints(&format!("sha256:{HEX}"));
    assert_eq!(server.lines().len(), 4);
}

#[test]
fn access_lists_are_told_again_also_where_a_pull_with_a_login_was_joined() {
    let munged = Munged::start();
    let over = json!({
        "status": "READY", "message": "", "layers": [], "written": 1, "seconds": 1.0,
        "digest": format!("sha256:{HEX}"),
    });
    let server = Server::start(move |number, _| match number {
        0 => failed(),
        1 => Reply::Whole(200, record("PULLING").to_string()),
        2 => Reply::Stream(vec![format!("{over}\n")]),
        _ => ready(),
    });
    let site = site(&munged, &server, &format!("imageOwner={GATEWAY}"));
    site.imgctl("pull --quiet --user=21001 priv:1").prints(&format!("sha256:{HEX}"));
    let requests = server.requests();
    assert_eq!(requests.len(), 4, "{:?}", server.lines());
    assert_eq!(logins(&requests[3], &munged).len(), 1);
}

#[test]
fn a_login_that_the_registry_refuses_too_is_told_and_not_tried_again() {
    let munged = Munged::start();
    let server = Server::always(failed());
    let ran = site(&munged, &server, &format!("imageOwner={GATEWAY}")).imgctl("pull priv:1");
    ran.fails(
        5,
        "imgctl: cannot pull docker:priv:1: lab wants a login\nhint: `podman login registry.lab.example`",
    );
    assert_eq!(server.lines().len(), 2);
}

#[test]
fn a_user_without_a_fitting_login_is_told_what_the_gateway_says() {
    let munged = Munged::start();
    let server = Server::always(failed());
    let site = Site::new(Some(&munged), &[server.url()], &format!("imageOwner={GATEWAY}"));
    site.imgctl("pull priv:1").fails(
        5,
        "imgctl: cannot pull docker:priv:1: lab wants a login\nhint: `podman login registry.lab.example`",
    );
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn no_credential_can_be_decoded_by_another_user_than_the_gateways() {
    let munged = Munged::start();
    let server = Server::always(ready());
    site(&munged, &server, &format!("imageOwner={GATEWAY}")).imgctl("pull priv:1");
    // Who owns the image directory is the gateway, where the configuration names nobody.
    let seen = site(&munged, &server, "");
    std::os::unix::fs::chown(seen.images(), Some(GATEWAY), None).unwrap();
    seen.imgctl("inspect priv:1");
    for request in server.requests() {
        let refused = request.payload_for(21001, &munged.socket()).unwrap_err();
        assert!(refused.contains("Unauthorized credential"), "{refused}");
        request.payload_for(GATEWAY, &munged.socket()).unwrap();
    }
    assert_eq!(server.lines().len(), 2);
}

#[test]
fn no_login_leaves_the_host_where_the_gateways_account_is_not_known() {
    let munged = Munged::start();
    // root owns the image directory, or is said to: no gateway runs as root.
    for more in ["", "imageOwner=0"] {
        let server = Server::start(|number, _| if number == 0 { failed() } else { ready() });
        let ran = site(&munged, &server, more).imgctl("pull --quiet priv:1");
        ran.fails(
            5,
            "imgctl: cannot pull docker:priv:1: lab wants a login\n\
             hint: your login for lab was not sent, because this host does not know which account runs \
             the gateway; an administrator can set `imageOwner` in udiRoot.conf",
        );
        assert_eq!(server.lines().len(), 1);
        assert!(server.requests()[0].payload(&munged.socket()).authorized_locations.is_empty());
    }
}
