//! A server that says whatever a test wants: one thread and one request per connection, all requests remembered.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use image_ref::{Digest, Platform, Version};
use oci_registry::{Connections, Credentials, Endpoint, Session, Timeouts, Url};
use serde_json::{Value, json};
use sha2::Digest as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Path and query.
    pub path: String,
    headers: Vec<(String, String)>,
    /// How many requests for the same path came before.
    pub earlier: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What is sent back, and what becomes of the connection then.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub then: Then,
}

/// What happens behind the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// The length was announced, and the connection is closed.
    #[default]
    Close,
    /// That many more bytes were announced, but the connection is closed.
    CloseEarly(usize),
    /// That many more bytes were announced, but nothing comes.
    Stall(usize),
    /// Nothing was announced, and more comes until the other side has enough.
    Endless,
}

pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
    Reply { status: 200, body: body.into(), ..Reply::default() }
}

pub fn status(status: u16) -> Reply {
    Reply { status, ..Reply::default() }
}

impl Reply {
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }

    fn send(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let missing = match self.then {
            Then::Close => Some(0),
            Then::CloseEarly(bytes) | Then::Stall(bytes) => Some(bytes),
            Then::Endless => None,
        };
        if let Some(missing) = missing {
            head += &format!("content-length: {}\r\n", self.body.len() + missing);
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(&self.body)?;
        match self.then {
            Then::Close | Then::CloseEarly(_) => {}
            // Until the other side hangs up.
            Then::Stall(_) => drop(std::io::Read::read(stream, &mut [0])?),
            Then::Endless => loop {
                stream.write_all(&[7; 65_536])?;
            },
        }
        Ok(())
    }
}

/// A server on a free port of loopback; its thread ends with the test program.
#[derive(Clone)]
pub struct Server {
    pub port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), seen: Arc::default() };
        let (seen, answer) = (server.seen.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    if let Some(request) = receive(&stream, &seen) {
                        let _ = answer(&request).send(&mut stream); // the client may have had enough
                    }
                });
            }
        });
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    pub fn endpoint(&self) -> Endpoint {
        let mut endpoint =
            Endpoint::new("registry.example.org", Url::parse(&self.url("")).unwrap());
        endpoint.internal = true;
        endpoint
    }

    pub fn session(&self) -> Session {
        session(&self.endpoint(), None)
    }

    /// A session of user `bob` with password `secret`.
    pub fn session_of_bob(&self) -> Session {
        session(&self.endpoint(), Some(bob()))
    }
}

fn receive(stream: &TcpStream, seen: &Mutex<Vec<Request>>) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.split_once(':').map(|(k, v)| (k.to_lowercase(), v.trim().to_owned()))
        })
        .collect();
    let mut seen = seen.lock().unwrap();
    let earlier = seen.iter().filter(|request| request.path == path).count();
    let request = Request { path, headers, earlier };
    seen.push(request.clone());
    Some(request)
}

pub fn bob() -> Credentials {
    Credentials { user: "bob".into(), password: "secret".into() }
}

/// `Basic` and what it makes of bob's login.
pub const BASIC_OF_BOB: &str = "Basic Ym9iOnNlY3JldA==";

/// A session in repository `org/app` that loses patience soon.
pub fn session(endpoint: &Endpoint, credentials: Option<Credentials>) -> Session {
    let timeouts = Timeouts {
        connect: Duration::from_secs(2),
        idle: Duration::from_millis(400),
        tries: 3,
        pause: Duration::from_millis(5),
        longest_pause: Duration::from_secs(2),
    };
    Session::new(&Connections::default(), endpoint, "org/app", credentials, timeouts).unwrap()
}

pub fn tag() -> Version {
    Version::Tag("1.0".into())
}

pub fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(sha2::Sha256::digest(bytes).into())
}

/// A manifest of a configuration and that many equal layers.
pub fn manifest(layers: usize) -> Value {
    let digest = digest_of(b"layer").to_string();
    let layer =
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": 5});
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 5},
        "layers": vec![layer; layers],
    })
}

/// A manifest as a registry gives it out.
pub fn manifest_reply(manifest: &Value) -> Reply {
    ok(manifest.to_string()).with("content-type", OCI_MANIFEST)
}

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
