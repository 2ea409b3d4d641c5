//! Registries behind TLS with a certificate authority of the site.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod registry;

use image_ref::Version;
use oci_registry::{Connections, Endpoint, RegistryError, Url};
use registry::{Registry, free_port, make_certificates, session, wait_for_port};
use std::process::{Command, Stdio};
use tempfile::TempDir;

#[tokio::test]
async fn the_sites_own_authority_is_trusted_where_it_is_configured_only() {
    let directory = TempDir::new().unwrap();
    let (ca, certificate, key) = make_certificates(directory.path());
    let open = Registry::start(directory.path(), "", "");
    open.push_image("app", "1.0", "amd64", b"x").await;
    let tls =
        format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
    let registry = Registry::start(directory.path(), &tls, "");
    let version = Version::Tag("1.0".into());

    let mut endpoint = registry.endpoint("https", "localhost");
    let error = session(&endpoint, "app", None).resolve(&version).await.unwrap_err();
    assert!(error.to_string().contains("certificate verify failed"), "{error}");

    endpoint.ca = Some(ca.clone());
    session(&endpoint, "app", None).resolve(&version).await.unwrap();

    // The certificate is for localhost, not for its address.
    let mut endpoint = registry.endpoint("https", "127.0.0.1");
    endpoint.ca = Some(ca);
    let error = session(&endpoint, "app", None).resolve(&version).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");

    // Plain text where TLS is expected, and the other way round.
    let error = session(&open.endpoint("https", "localhost"), "app", None)
        .resolve(&version)
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
    let error = session(&registry.endpoint("http", "localhost"), "app", None)
        .resolve(&version)
        .await
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::BadAnswer { .. } | RegistryError::Unreachable { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_certificate_file_that_is_none_is_named() {
    let mut endpoint = Endpoint::new("r.example", Url::parse("https://localhost").unwrap());
    let new = |endpoint: &Endpoint| {
        oci_registry::Session::new(
            &Connections::default(),
            endpoint,
            "app",
            None,
            oci_registry::Timeouts::default(),
        )
        .unwrap_err()
        .to_string()
    };
    endpoint.ca = Some("/nonexistent/ca.pem".into());
    assert_eq!(
        new(&endpoint),
        "registry r.example cannot be used: cannot read its certificates /nonexistent/ca.pem: \
         No such file or directory (os error 2)"
    );
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ca.pem");
    std::fs::write(&path, "not a certificate").unwrap();
    endpoint.ca = Some(path);
    assert!(new(&endpoint).ends_with("ca.pem holds no certificates in PEM form"));
}

#[tokio::test]
async fn no_redirect_leads_from_https_to_http() {
    let directory = TempDir::new().unwrap();
    let (ca, certificate, key) = make_certificates(directory.path());
    let open = Registry::start(directory.path(), "", "");
    open.push_image("app", "1.0", "amd64", b"x").await;
    // `-HTTP` sends files as they are, header and all.
    let files = directory.path().join("v2/app/manifests");
    std::fs::create_dir_all(&files).unwrap();
    let answer = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:{}/v2/app/manifests/1.0\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n",
        open.port
    );
    std::fs::write(files.join("1.0"), answer).unwrap();
    let port = free_port();
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-HTTP", "-accept"])
        .arg(format!("127.0.0.1:{port}"))
        .arg("-cert")
        .arg(certificate)
        .arg("-key")
        .arg(key)
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_port(port);
    let mut endpoint = Endpoint::new(
        "registry.example.org",
        Url::parse(&format!("https://localhost:{port}")).unwrap(),
    );
    endpoint.internal = true;
    endpoint.ca = Some(ca);
    let result = session(&endpoint, "app", None).resolve(&Version::Tag("1.0".into())).await;
    server.kill().unwrap();
    server.wait().unwrap();
    let error = result.unwrap_err();
    assert!(matches!(error, RegistryError::NotAllowed { .. }), "{error}");
    assert!(error.to_string().contains("it redirects from https to http://127.0.0.1:"), "{error}");
}
