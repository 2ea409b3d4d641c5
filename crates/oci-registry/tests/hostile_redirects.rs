//! Registries that send requests, and hope to send credentials, to where they must not go.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod server;

use oci_registry::{Connections, Endpoint, RegistryError, Session, Timeouts, Url};
use serde_json::json;
use server::{
    BASIC_OF_BOB, Reply, Request, Server, bob, manifest, manifest_reply, ok, session, status, tag,
};

/// Asks for bob's login before `then` answers.
fn behind_login(request: &Request, then: impl Fn() -> Reply) -> Reply {
    match request.header("authorization") {
        Some(BASIC_OF_BOB) => then(),
        None => status(401).with("www-authenticate", "Basic realm=\"x\""),
        Some(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host_nor_come_back() {
    let stranger_port = std::sync::Arc::new(std::sync::OnceLock::<u16>::new());
    let port = stranger_port.clone();
    let registry = Server::start(move |request| {
        if request.path.starts_with("/back") {
            return manifest_reply(&manifest(1));
        }
        let location = format!("http://127.0.0.1:{}/stored", port.get().unwrap());
        behind_login(request, || status(307).with("location", location.clone()))
    });
    let back = registry.url("/back");
    let stranger = Server::start(move |_| status(302).with("location", back.clone()));
    stranger_port.set(stranger.port).unwrap();

    let session = registry.session_of_bob();
    session.resolve(&tag()).await.unwrap();
    assert!(session.used_credentials());
    let [seen] = &stranger.seen()[..] else { panic!() };
    assert_eq!(seen.header("authorization"), None);
    let shown: Vec<_> =
        registry.seen().iter().map(|r| r.header("authorization").is_some()).collect();
    assert_eq!(shown, [false, true, false]);
}

#[tokio::test]
async fn credentials_follow_a_redirect_within_the_host() {
    let registry = Server::start(|request| {
        behind_login(request, || match request.path.as_str() {
            "/moved" => manifest_reply(&manifest(1)),
            _ => status(308).with("location", "/moved"),
        })
    });
    registry.session_of_bob().resolve(&tag()).await.unwrap();
    assert_eq!(registry.seen().last().unwrap().path, "/moved");
}

#[tokio::test]
async fn a_login_asked_for_by_another_host_is_not_given() {
    let stranger = Server::start(|_| status(401).with("www-authenticate", "Basic realm=\"x\""));
    let stored = stranger.url("/stored");
    let registry = Server::start(move |_| status(307).with("location", stored.clone()));
    let error = registry.session_of_bob().resolve(&tag()).await.unwrap_err();
    assert!(matches!(error, RegistryError::BadAnswer { .. }), "{error}");
    assert!(error.to_string().contains("which says 401 Unauthorized"), "{error}");
    let all = [registry.seen(), stranger.seen()].concat();
    assert!(all.len() == 2 && all.iter().all(|r| r.header("authorization").is_none()), "{all:?}");
}

#[tokio::test]
async fn five_redirects_are_followed_and_six_are_not() {
    for (hops, works) in [(5, true), (6, false)] {
        let registry = Server::start(move |request| {
            let hop: u32 = request.path.strip_prefix("/hop").map_or(0, |n| n.parse().unwrap());
            if hop == hops {
                return manifest_reply(&manifest(1));
            }
            status(307).with("location", format!("/hop{}", hop + 1))
        });
        let result = registry.session().resolve(&tag()).await;
        assert_eq!(result.is_ok(), works, "{result:?}");
    }
}

#[tokio::test]
async fn redirects_to_odd_places_are_refused() {
    for (location, expected) in [
        ("file:///etc/passwd", "it leads to file://"),
        ("ftp://127.0.0.1/", "it leads to ftp://"),
        ("http://bob:secret@127.0.0.1/", "with a login of its own"),
        ("http://[", "redirects to nowhere"),
    ] {
        let registry = Server::start(move |_| status(307).with("location", location));
        let error = registry.session().resolve(&tag()).await.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("secret"), "{error}");
    }
    let error = Server::start(|_| status(307)).session().resolve(&tag()).await.unwrap_err();
    assert!(error.to_string().contains("redirects to nowhere"), "{error}");
}

#[tokio::test]
async fn addresses_inside_the_site_are_refused_unless_the_registry_is_internal() {
    let registry = Server::start(|_| manifest_reply(&manifest(1)));
    for host in ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]", "[::1]"] {
        let base = Url::parse(&format!("http://{host}:{}", registry.port)).unwrap();
        let endpoint = Endpoint::new("registry.example.org", base);
        let error = session(&endpoint, None).resolve(&tag()).await.unwrap_err();
        assert!(matches!(error, RegistryError::NotAllowed { .. }), "{host}: {error}");
        assert!(error.to_string().contains("which is not public"), "{host}: {error}");
    }
    assert!(registry.seen().is_empty());
    registry.session().resolve(&tag()).await.unwrap();
}

#[tokio::test]
async fn proxies_of_the_environment_are_not_asked() {
    // Set for this test program by the line that runs it again.
    if std::env::var_os("http_proxy").is_none() {
        let proxy = Server::start(|_| ok("proxy"));
        #[allow(clippy::disallowed_methods)]
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "proxies_of_the_environment_are_not_asked"])
            .env("http_proxy", proxy.url("/"))
            .env("ALL_PROXY", proxy.url("/"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(proxy.seen().is_empty());
        return;
    }
    let registry = Server::start(|_| manifest_reply(&manifest(1)));
    registry.session().resolve(&tag()).await.unwrap();
    assert_eq!(registry.seen().len(), 1);
}

/// A registry whose tokens come from `realm`.
fn with_token_service(realm: String) -> Server {
    Server::start(move |request| {
        match request.header("authorization") {
        Some("Bearer good") => manifest_reply(&manifest(1)),
        _ => status(401).with(
            "www-authenticate",
            format!("Basic realm=\"x\", Bearer realm=\"{realm}\",service=\"the registry\",scope=\"repository:other:pull,push\""),
        ),
    }
    })
}

/// A token service that knows bob; tokens for nobody are worth nothing.
fn token_service(word: &'static str) -> Server {
    Server::start(move |request| {
        let token =
            if request.header("authorization") == Some(BASIC_OF_BOB) { "good" } else { "useless" };
        ok(json!({word: token, "expires_in": 300}).to_string())
    })
}

#[tokio::test]
async fn a_listed_token_service_sees_the_login_and_only_after_nobody_was_refused() {
    for word in ["token", "access_token"] {
        let service = token_service(word);
        let registry = with_token_service(service.url("/token?x=1"));
        let mut endpoint = registry.endpoint();
        endpoint.token_realms = vec![format!("127.0.0.1:{}", service.port)];
        let session = session(&endpoint, Some(bob()));
        session.resolve(&tag()).await.unwrap();
        session.resolve(&tag()).await.unwrap();
        assert!(session.used_credentials());
        let seen = service.seen();
        let shown: Vec<_> = seen.iter().map(|r| r.header("authorization").is_some()).collect();
        assert_eq!(shown, [false, true]);
        // The scope is what is needed, whatever the registry proposes.
        assert_eq!(
            seen[1].path,
            "/token?x=1&service=the+registry&scope=repository%3Aorg%2Fapp%3Apull"
        );
        let sent: Vec<_> = registry
            .seen()
            .iter()
            .filter_map(|r| r.header("authorization").map(str::to_owned))
            .collect();
        assert_eq!(sent, ["Bearer useless", "Bearer good", "Bearer good"]);
    }
}

#[tokio::test]
async fn a_token_service_on_another_host_gets_no_credentials() {
    let service = token_service("token");
    let registry = with_token_service(service.url("/token"));
    let error = registry.session_of_bob().resolve(&tag()).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotAllowed { .. }), "{error}");
    assert!(
        error.to_string().contains("it wants the login to be sent to http://127.0.0.1:"),
        "{error}"
    );
    let all = [registry.seen(), service.seen()].concat();
    assert!(
        all.iter().all(|r| r.header("authorization").is_none_or(|a| a.starts_with("Bearer"))),
        "{all:?}"
    );

    let error = registry.session().resolve(&tag()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { user: None, .. }), "{error}");
}

#[tokio::test]
async fn a_tag_that_is_not_there_stays_so_when_the_login_may_not_be_shown() {
    let service = token_service("token");
    let realm = service.url("/token");
    let registry = Server::start(move |request| match request.header("authorization") {
        None => status(401).with("www-authenticate", format!("Bearer realm=\"{realm}\"")),
        Some(_) => status(404),
    });
    let error = registry.session_of_bob().resolve(&tag()).await.unwrap_err();
    assert_eq!(error.to_string(), "registry.example.org has no tag 1.0 in repository org/app");
}

#[tokio::test]
async fn a_registry_that_refuses_every_token_is_not_asked_forever() {
    let registry = Server::start(|request| {
        if request.path.starts_with("/token") {
            // Expired as soon as it comes.
            return ok(json!({"token": "x", "expires_in": 0}).to_string());
        }
        let realm = format!("http://{}/token", request.header("host").unwrap());
        status(401).with("www-authenticate", format!("Bearer realm=\"{realm}\""))
    });
    let error = registry.session_of_bob().resolve(&tag()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
    assert!(registry.seen().len() <= 12, "{} requests", registry.seen().len());
}

#[tokio::test]
async fn token_services_that_make_no_sense_are_refused() {
    for (answer, expected) in [
        (ok("{}"), "gives no token"),
        (ok("{\"token\":\"\"}"), "gives no token"),
        (ok("{\"token\":\"a\\r\\nx: y\"}"), "gives no token"),
        (ok("[".repeat(1_000)), "gives no token"),
        (ok(vec![b' '; 1 << 20]), "longer than"),
        (status(500), "500"),
        (status(404), "its token service does not help: it says 404 Not Found"),
    ] {
        let service = Server::start(move |_| answer.clone());
        let registry = with_token_service(service.url("/"));
        let error = registry.session().resolve(&tag()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    for realm in ["nonsense", "file:///etc/passwd", ""] {
        let registry = with_token_service(realm.to_owned());
        let error = registry.session().resolve(&tag()).await.unwrap_err().to_string();
        assert!(error.contains("token"), "{realm}: {error}");
    }
}

#[tokio::test]
async fn a_caller_helps_where_nobody_has_used_up_the_allowance() {
    let service = token_service("token");
    let registry = Server::start({
        let realm = service.url("/token");
        move |request| match request.header("authorization") {
            Some("Bearer good") => manifest_reply(&manifest(1)),
            Some(_) => status(429).with("retry-after", "3600"),
            None => status(401).with("www-authenticate", format!("Bearer realm=\"{realm}\"")),
        }
    });
    let mut endpoint = registry.endpoint();
    endpoint.token_realms = vec![format!("127.0.0.1:{}", service.port)];
    session(&endpoint, Some(bob())).resolve(&tag()).await.unwrap();
    let error = session(&endpoint, None).resolve(&tag()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Busy { .. }), "{error}");
}

#[tokio::test]
async fn nothing_shows_a_password() {
    let registry = Server::start(|request| behind_login(request, || manifest_reply(&manifest(1))));
    let session = registry.session_of_bob();
    session.resolve(&tag()).await.unwrap();
    let text = format!("{session:?}");
    assert!(!text.contains("secret") && !text.contains("Ym9iOnNlY3JldA"), "{text}");
    let Err(error) = Session::new(
        &Connections::default(),
        &registry.endpoint(),
        "../x",
        Some(bob()),
        Timeouts::default(),
    ) else {
        panic!()
    };
    assert_eq!(
        error.to_string(),
        "registry registry.example.org cannot be used: the repository's name is malformed"
    );
}
