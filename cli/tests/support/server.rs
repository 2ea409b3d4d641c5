//! A gateway that says what the test wants it to say, or says nothing, or breaks off.

use gateway_api::{AUTHENTICATION_HEADER, Payload};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    /// `GET /api/list/c1/`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Decodes the credential, checks that it was made for this request, and returns its payload.
    pub fn payload(&self, munge_socket: &Path) -> Payload {
        let context = munge::Context::new().unwrap().with_socket(munge_socket).unwrap();
        let decoded = context.decode(&self.headers[AUTHENTICATION_HEADER]).unwrap();
        assert_eq!(decoded.uid, nix::unistd::getuid().as_raw());
        self.checked(&decoded.payload)
    }

    /// The same as another user, by unmunge(1); what it says where munged does not let that user decode it.
    pub fn payload_for(&self, uid: u32, munge_socket: &Path) -> Result<Payload, String> {
        let mut unmunge = Command::new("setpriv")
            .args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".into()])
            .args(["unmunge", "--metadata=/dev/null", "--socket"])
            .arg(munge_socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let credential = self.headers[AUTHENTICATION_HEADER].as_bytes();
        unmunge.stdin.take().unwrap().write_all(credential).unwrap();
        let output = unmunge.wait_with_output().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(self.checked(&output.stdout))
    }

    fn checked(&self, bytes: &[u8]) -> Payload {
        let payload = Payload::from_bytes(bytes).unwrap();
        assert_eq!(payload.check(&self.method, &self.path, &self.body), Ok(true));
        payload
    }
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answer with this status and body.
    Whole(u16, String),
    /// The same, with a content type of its own.
    Typed(u16, &'static str, String),
    /// Answer 200, announce more bytes than these, and close.
    CutShort(String),
    /// Answer 200 and send these pieces with a pause between, the end included.
    Stream(Vec<String>),
    /// The same without an end: the connection breaks.
    BrokenStream(Vec<String>),
    /// The same, and then silence.
    HangingStream(Vec<String>),
    /// Send a redirect.
    Redirect(String),
    /// Keep the connection and say nothing.
    Hang,
}

/// A listening server; it ends with the test program.
pub struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// A server that answers as `script` says, which also gets the number of the request, from 0.
    pub fn start(script: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                thread::spawn(move || serve(stream, &*script, &seen));
            }
        });
        Self { port, requests }
    }

    /// A server that answers everything with the same.
    pub fn always(reply: Reply) -> Self {
        Self::start(move |_, _| reply.clone())
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }
}

/// A URL where nobody listens.
pub fn closed_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port())
}

fn serve(
    mut stream: TcpStream,
    script: &(dyn Fn(usize, &Request) -> Reply + Send + Sync),
    seen: &Mutex<Vec<Request>>,
) {
    let Some(request) = read_request(&stream) else { return };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let mut send = |text: &str| {
        let _ = stream.write_all(text.as_bytes());
        let _ = stream.flush();
    };
    match script(number, &request) {
        Reply::Whole(status, body) => send(&whole(status, "application/json", &body)),
        Reply::Typed(status, kind, body) => send(&whole(status, kind, &body)),
        Reply::CutShort(body) => {
            send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len() + 100))
        }
        Reply::Redirect(to) => send(&format!(
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )),
        Reply::Stream(pieces) => {
            send_pieces(&mut send, &pieces);
            send("0\r\n\r\n");
        }
        Reply::BrokenStream(pieces) => send_pieces(&mut send, &pieces),
        Reply::HangingStream(pieces) => {
            send_pieces(&mut send, &pieces);
            thread::sleep(Duration::from_secs(600));
        }
        Reply::Hang => thread::sleep(Duration::from_secs(600)),
    }
}

fn send_pieces(send: &mut impl FnMut(&str), pieces: &[String]) {
    send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in pieces {
        send(&format!("{:x}\r\n{piece}\r\n", piece.len()));
        thread::sleep(Duration::from_millis(50));
    }
}

fn whole(status: u16, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.to_string()),
            None => break,
        };
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}
