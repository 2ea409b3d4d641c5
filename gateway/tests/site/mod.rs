//! A site of our own: a real munged, a registry, and the gateway as an unprivileged program.
//!
//! Needs to be root, to speak as several users.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

#[path = "../../../crates/munge/tests/munged/mod.rs"]
mod munged;
pub mod registry;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use gateway_api::Payload;
use munged::Munged;
use registry::Registry;
use serde_json::{Value, json};

/// The gateway's account: nobody.
const GATEWAY_UID: u32 = 65534;

pub const ALICE: u32 = 21001;
pub const BOB: u32 = 21002;
pub const ADMIN: u32 = 21099;

pub struct Site {
    pub munged: Munged,
    pub registry: Registry,
    pub directory: tempfile::TempDir,
    gateway: Option<Gateway>,
    /// What the gateway said at its latest start.
    pub said: String,
}

struct Gateway {
    child: Child,
    address: String,
}

/// One reply.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The JSON value at a key, of a reply that must be a success.
    pub fn get(&self, key: &str) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()[key].clone()
    }
}

impl Site {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// Starts after `edit` has changed the configuration.
    pub fn with(edit: impl FnOnce(&mut Value)) -> Self {
        let directory = tempfile::Builder::new().prefix("site.").tempdir_in("/tmp").unwrap();
        let (munged, registry) = (Munged::start(), Registry::start());
        let site = Self { munged, registry, directory, gateway: None, said: String::new() };
        std::fs::set_permissions(site.path(""), PermissionsExt::from_mode(0o755)).unwrap();
        for name in ["images", "state"] {
            std::fs::create_dir(site.path(name)).unwrap();
            std::os::unix::fs::chown(site.path(name), Some(GATEWAY_UID), Some(GATEWAY_UID))
                .unwrap();
        }
        let mut config = json!({
            "Listen": "127.0.0.1:0",
            "StorePath": site.path("state/store.sqlite"),
            "ConverterPath": converter(),
            "DefaultImageLocation": "reg",
            "Locations": { "reg": { "remotetype": "dockerv2", "url": site.registry.url() } },
            "Platforms": { "c1": {
                "mungeSocketPath": site.munged.socket(), "accesstype": "local", "admins": [ADMIN],
                "local": { "imageDir": site.path("images") }
            } }
        });
        edit(&mut config);
        std::fs::write(site.config(), config.to_string()).unwrap();
        let mut site = site;
        site.start_gateway();
        site
    }

    /// Has the gateway run this script where it would run the converter, whose path is `$CONVERTER`.
    pub fn with_script(body: &str) -> Self {
        Self::with(|config| {
            let state = Path::new(config["StorePath"].as_str().unwrap()).parent().unwrap();
            let path = state.join("converter");
            let (real, images) =
                (&config["ConverterPath"], &config["Platforms"]["c1"]["local"]["imageDir"]);
            let text = format!(
                "#!/bin/sh\nCONVERTER={}\nIMAGES={}\nSTATE={}\n{body}\n",
                real.as_str().unwrap(),
                images.as_str().unwrap(),
                state.display()
            );
            // Written by another process: a file that a child of this one has open for writing cannot be executed.
            let mut shell = Command::new("sh");
            shell
                .args(["-c", "printf %s \"$2\" > \"$1\"; chmod 755 \"$1\"", "sh"])
                .arg(&path)
                .arg(text);
            assert!(shell.status().unwrap().success());
            config["ConverterPath"] = json!(path);
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("imagemanager.json")
    }

    /// The program, as the gateway's account or another.
    pub fn program(&self, uid: u32) -> Command {
        let mut command = as_user(uid);
        command.arg(env!("CARGO_BIN_EXE_gantry-gateway")).arg("--config").arg(self.config());
        command
    }

    /// The gateway's process id.
    pub fn gateway_pid(&self) -> u32 {
        self.gateway.as_ref().unwrap().child.id()
    }

    /// The process ids of the gateway's converters.
    pub fn converters(&self) -> Vec<u32> {
        let parent = format!("PPid:\t{}\n", self.gateway_pid());
        std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
            .filter(|pid: &u32| {
                std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| {
                    status.starts_with("Name:\tgantry-convert\n") && status.contains(&parent)
                })
            })
            .collect()
    }

    pub fn start_gateway(&mut self) {
        let mut child = self.program(GATEWAY_UID).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let before = said.len();
            assert!(log.read_line(&mut said).unwrap() > 0, "the gateway ended:\n{said}");
            let line = said[before..].trim();
            if let Some((_, address)) = line.rsplit_once("listens on ") {
                break address.to_string();
            }
        };
        // Whoever debugs a test wants to see the rest; libtest does not capture what threads print here.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if std::env::var_os("GATEWAY_LOG").is_some() {
                    println!("gateway: {line}");
                }
            }
        });
        self.gateway = Some(Gateway { child, address });
        self.said = said;
    }

    /// Ends the gateway with this signal and waits until it is gone.
    pub fn end_gateway(&mut self, signal: &str) -> Option<i32> {
        let mut gateway = self.gateway.take().unwrap();
        let pid = gateway.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        gateway.child.wait().unwrap().code()
    }

    /// A credential of this user with this payload.
    pub fn credential(&self, uid: u32, payload: &str) -> String {
        let mut command = as_user(uid);
        command.arg("munge").arg("--socket").arg(self.munged.socket());
        // An empty string would have it read its input.
        if payload.is_empty() {
            command.arg("--no-input");
        } else {
            command.args(["--string", payload]);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    }

    /// A request as Shifter's client makes it.
    pub fn ask(&self, uid: u32, method: &str, path: &str) -> Reply {
        self.send(Some(&self.credential(uid, "")), method, path, "")
    }

    /// A request as Gantry's clients make it, with these logins as location and `user:password`.
    pub fn ask_bound(&self, uid: u32, method: &str, path: &str, logins: &[(&str, &str)]) -> Reply {
        let logins = logins.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let payload = Payload::bound(method, path, b"", logins).to_bytes();
        let credential = self.credential(uid, std::str::from_utf8(&payload).unwrap());
        self.send(Some(&credential), method, path, "")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway.as_ref().unwrap().address)
    }

    pub fn send(&self, credential: Option<&str>, method: &str, path: &str, body: &str) -> Reply {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .allow_non_standard_methods(true)
            .build()
            .into();
        let mut request = ureq::http::Request::builder().method(method).uri(self.url(path));
        if let Some(credential) = credential {
            request = request.header("authentication", credential);
        }
        let mut response = agent.run(request.body(body.to_string()).unwrap()).unwrap();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_string()))
            .collect();
        let status = response.status().as_u16();
        Reply { status, headers, text: response.body_mut().read_to_string().unwrap() }
    }

    /// Pulls as Shifter's client does, by asking again and again; returns the last record.
    pub fn pull(&self, uid: u32, tag: &str) -> Value {
        let path = format!("/api/pull/c1/docker/{tag}/");
        self.until(|| {
            let record = self.ask(uid, "POST", &path).json();
            (!running(&record)).then_some(record)
        })
    }

    /// Pulls as Gantry's client does: asks once and follows the events; returns the last one.
    pub fn pull_bound(&self, uid: u32, tag: &str, logins: &[(&str, &str)]) -> Value {
        let record = self.ask_bound(uid, "POST", &format!("/api/pull/c1/docker/{tag}/"), logins);
        assert_eq!(record.status, 200, "{record:?}");
        if !running(&record.json()) {
            return record.json();
        }
        let events = self.ask_bound(uid, "GET", &format!("/api/events/c1/docker/{tag}/"), &[]);
        let last = events.text.lines().rfind(|line| !line.is_empty()).unwrap();
        serde_json::from_str(last).unwrap()
    }

    pub fn lookup(&self, uid: u32, tag: &str) -> Reply {
        self.ask(uid, "GET", &format!("/api/lookup/c1/docker/{tag}/"))
    }

    /// Asks until there is an answer.
    pub fn until<T>(&self, ask: impl Fn() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(value) = ask() {
                return value;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "nothing came of it in a minute");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn file_names(&self, directory: &str) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.path(directory))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.gateway.is_some() {
            self.end_gateway("-KILL");
        }
    }
}

pub fn running(record: &Value) -> bool {
    !["READY", "FAILURE"].contains(&record["status"].as_str().unwrap_or_else(|| panic!("{record}")))
}

pub fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The converter, which no test of this package builds, as it is now.
fn converter() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // Beside the gateway's program: `target/debug/` or `target/release/`.
        let directory = Path::new(env!("CARGO_BIN_EXE_gantry-gateway")).parent().unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package=converter", "--bin=gantry-convert"]);
        build.arg("--target-dir").arg(directory.parent().unwrap());
        if directory.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the converter cannot be built");
        directory.join("gantry-convert")
    })
}

fn as_user(uid: u32) -> Command {
    let mut command = Command::new("setpriv");
    let id = uid.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    command
}
