//! A real registry of our own: Debian's docker-registry on a free port of loopback, on a store in a temporary folder.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use image_ref::Digest;
use oci_registry::{Connections, Credentials, Endpoint, Session, Timeouts, Url};
use serde_json::{Value, json};
use sha2::Digest as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A registry that ends with the test.
pub struct Registry {
    process: Child,
    pub port: u16,
}

impl Registry {
    /// Starts a registry on the store in `directory`; `extra` is put below `http` and behind it in its configuration.
    pub fn start(directory: &Path, http: &str, extra: &str) -> Self {
        let port = free_port();
        let store = directory.join("store");
        let config = directory.join(format!("registry-{port}.yml"));
        let text = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{http}{extra}",
            store.display()
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(directory.join(format!("registry-{port}.log"))).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let registry = Self { process, port };
        wait_for_port(port);
        registry
    }

    /// A registry that asks for user `bob` with password `secret`.
    pub fn with_login(directory: &Path) -> Self {
        let path = directory.join("htpasswd");
        std::fs::write(&path, format!("bob:{BCRYPT_OF_SECRET}\n")).unwrap();
        let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display());
        Self::start(directory, "", &auth)
    }

    pub fn endpoint(&self, scheme: &str, host: &str) -> Endpoint {
        let base = Url::parse(&format!("{scheme}://{host}:{}", self.port)).unwrap();
        let mut endpoint = Endpoint::new("registry.example.org", base);
        endpoint.internal = true;
        endpoint
    }

    pub fn session(&self, repository: &str, login: Option<(&str, &str)>) -> Session {
        session(&self.endpoint("http", "127.0.0.1"), repository, login)
    }

    /// Uploads a blob (distribution specification, "POST then PUT").
    pub async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Value {
        let client = client();
        let start = format!("http://127.0.0.1:{}/v2/{repository}/blobs/uploads/", self.port);
        let answer = client.post(&start).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        let location = answer.headers()["location"].to_str().unwrap();
        let mut url = Url::parse(&start).unwrap().join(location).unwrap();
        url.query_pairs_mut().append_pair("digest", &digest_of(bytes).to_string());
        let answer = client.put(url).body(bytes.to_vec()).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        json!({"digest": digest_of(bytes).to_string(), "size": bytes.len()})
    }

    /// Uploads a manifest or an index under a tag.
    pub async fn push_manifest(&self, repository: &str, tag: &str, manifest: &Value) -> Value {
        let bytes = manifest.to_string().into_bytes();
        let media_type = manifest["mediaType"].as_str().unwrap();
        let url = format!("http://127.0.0.1:{}/v2/{repository}/manifests/{tag}", self.port);
        let request = client().put(url).header("content-type", media_type).body(bytes.clone());
        let answer = request.send().await.unwrap();
        let status = answer.status();
        assert_eq!(status, 201, "{}", answer.text().await.unwrap());
        json!({"mediaType": media_type, "digest": digest_of(&bytes).to_string(), "size": bytes.len()})
    }

    /// Uploads an image of one layer for a platform and returns its descriptor.
    pub async fn push_image(
        &self,
        repository: &str,
        tag: &str,
        architecture: &str,
        layer: &[u8],
    ) -> Value {
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Entrypoint": ["/bin/app"], "Cmd": null, "WorkingDir": "/w"},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer).to_string()]},
        });
        let mut config = self.push_blob(repository, config.to_string().as_bytes()).await;
        config["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
        let mut layer = self.push_blob(repository, layer).await;
        layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer],
        });
        self.push_manifest(repository, tag, &manifest).await
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A session of one try, so that failures show at once.
pub fn session(endpoint: &Endpoint, repository: &str, login: Option<(&str, &str)>) -> Session {
    let credentials =
        login.map(|(user, password)| Credentials { user: user.into(), password: password.into() });
    let timeouts = Timeouts { tries: 1, ..Timeouts::default() };
    Session::new(&Connections::default(), endpoint, repository, credentials, timeouts).unwrap()
}

pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(sha2::Sha256::digest(bytes).into())
}

/// A certificate authority and a certificate of it for `localhost`: their paths, and that of the key.
pub fn make_certificates(directory: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let script = "set -e; cd \"$1\"
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.pem
        openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:localhost' > extensions
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.pem";
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (directory.join("ca.pem"), directory.join("server.pem"), directory.join("server.key"))
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn wait_for_port(port: u16) {
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "nothing listens on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// `secret`, with the least cost that bcrypt has.
const BCRYPT_OF_SECRET: &str = "$2b$04$6S6ty2Uc1rJtK5M7K9DEyezEWSm046nO2EVikxBUqxKL.uHXQGyYe";
