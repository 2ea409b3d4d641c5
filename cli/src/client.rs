//! Talks to the image gateway as the calling user.
//!
//! One credential for each request, made for that request alone; every wait is bounded; gateways are tried in
//! order until one answers. Nothing is printed here, and nothing is retried that a gateway has decided.

mod error;
mod events;

pub use error::ClientError;
pub use events::Events;

use crate::site::Site;
use crate::upload::Upload;
use error::reason;
use gateway_api::{
    AUTHENTICATION_HEADER, CREDENTIAL_TTL_SECONDS, Details, ImportRequest, ListReply, Payload,
    PullRequest, Record, Removed, WhoAmI, routes,
};
use image_ref::{Digest, ImageRef};
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;
use ureq::http::{Method, Response};
use ureq::{Agent, Body, SendBody};

/// Registry logins: location to `user:password`.
pub type Logins = BTreeMap<String, String>;

/// A client of one system's gateways.
#[derive(Debug)]
pub struct Client {
    gateways: Vec<String>,
    system: String,
    munge_socket: Option<PathBuf>,
    /// The only account that may decode the credentials.
    gateway_account: Option<u32>,
    timeout: Duration,
    agent: Agent,
    /// Waits longer between two events than any reply may take.
    listener: Agent,
    /// The gateway that answered last: it knows of the pull that was begun there.
    preferred: Cell<usize>,
}

/// An answer that needed no credential.
#[derive(Clone, Debug)]
pub struct Public {
    /// The HTTP status.
    pub status: u16,
    /// The gateway's time, in HTTP's form.
    pub date: Option<String>,
    /// The body, where it is JSON.
    pub json: Option<serde_json::Value>,
}

/// One request, before a gateway and a credential are chosen for it.
#[derive(Clone, Copy, Debug)]
struct Request<'a> {
    method: &'a Method,
    route: &'a str,
    body: &'a [u8],
    logins: &'a Logins,
}

impl Client {
    /// A client for the gateways that `site` names.
    ///
    /// # Errors
    /// [`ClientError::NotConfigured`] where it names none, or no system; [`ClientError::BadUrl`].
    pub fn new(site: &Site) -> Result<Self, ClientError> {
        let gateways: Vec<String> =
            site.gateways.iter().map(|url| url.trim_end_matches('/').to_string()).collect();
        if gateways.is_empty() {
            return Err(ClientError::NotConfigured { key: "imageGateway", conf: site.conf_name() });
        }
        if let Some(url) = gateways.iter().find(|url| !is_plain_url(url)) {
            return Err(ClientError::BadUrl { url: url.clone() });
        }
        let system = site.system.clone().unwrap_or_default();
        if system.is_empty() || system.contains(|c: char| !is_word(c)) {
            return Err(ClientError::NotConfigured { key: "system", conf: site.conf_name() });
        }
        let timeout = site.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let agent = agent(timeout, timeout);
        let listener = agent_for_events(timeout);
        let munge_socket = site.munge_socket.clone();
        Ok(Self {
            gateways,
            system,
            munge_socket,
            gateway_account: site.gateway_account(),
            timeout,
            agent,
            listener,
            preferred: Cell::new(0),
        })
    }

    /// The system whose images this client sees.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// The gateways, as they are configured.
    pub fn gateways(&self) -> &[String] {
        &self.gateways
    }

    /// Tells whether logins can be sent: only where nobody but the gateway's account can read them.
    pub fn keeps_secrets(&self) -> bool {
        self.gateway_account.is_some()
    }

    /// The images that the caller may see.
    ///
    /// # Errors
    /// See [`ClientError`], here and for every other request.
    pub fn list(&self) -> Result<Vec<Record>, ClientError> {
        self.fetch(&Method::GET, &routes::list(&self.system)).map(|reply: ListReply| reply.list)
    }

    /// What `reference` stands for; an image that is not there is [`ClientError::Refused`].
    pub fn lookup(&self, reference: &ImageRef) -> Result<Record, ClientError> {
        self.fetch(&Method::GET, &routes::lookup(&self.system, reference))
    }

    /// Everything that is known of an image.
    pub fn inspect(&self, reference: &ImageRef) -> Result<Details, ClientError> {
        self.fetch(&Method::GET, &routes::inspect(&self.system, reference))
    }

    /// Removes what `reference` names.
    pub fn remove(&self, reference: &ImageRef) -> Result<Removed, ClientError> {
        self.fetch(&Method::DELETE, &routes::image(&self.system, reference))
    }

    /// Asks for a pull, or how it is going: the same request either way.
    ///
    /// The logins stay here unless [`Self::keeps_secrets`].
    pub fn pull(
        &self,
        reference: &ImageRef,
        request: &PullRequest,
        logins: &Logins,
    ) -> Result<Record, ClientError> {
        let body = if request == &PullRequest::default() {
            Vec::new()
        } else {
            serde_json::to_vec(request).unwrap_or_default()
        };
        let route = routes::pull(&self.system, reference);
        self.ask(Request { method: &Method::POST, route: &route, body: &body, logins })
            .and_then(|reply| reply.decode())
    }

    /// The events of a running pull, from the gateway that it was asked of.
    pub fn events(&self, reference: &ImageRef) -> Result<Events, ClientError> {
        let logins = Logins::new();
        let route = routes::events(&self.system, reference);
        let request = Request { method: &Method::GET, route: &route, body: &[], logins: &logins };
        let gateway = self.gateways.get(self.preferred.get()).cloned().unwrap_or_default();
        let response = self.send(&self.listener, &gateway, request)?;
        if response.status().is_success() {
            Ok(Events::new(gateway, response.into_body()))
        } else {
            Err(Reply::read(gateway, response, self.timeout)?.refusal())
        }
    }

    /// Sends a file to be an image, and gives the events of what becomes of it; `digest` is its SHA-256.
    ///
    /// `tell` hears how much was sent so far. A gateway is given up for the next only before anything was sent.
    pub fn import(
        &self,
        reference: &ImageRef,
        request: &ImportRequest,
        upload: &Upload,
        digest: &Digest,
        tell: &mut dyn FnMut(u64),
    ) -> Result<Events, ClientError> {
        let route = routes::import(&self.system, reference, request);
        let mut failures = Vec::new();
        for gateway in &self.gateways {
            let mut sent = 0;
            let mut reader = upload.reader(|bytes| {
                sent = bytes;
                tell(bytes);
            });
            let outcome = self.send_upload(gateway, &route, digest, upload.size(), &mut reader);
            drop(reader);
            match outcome {
                Err(error) if sent == 0 && error.is_worth_another_gateway() => failures.push(error),
                outcome => return outcome,
            }
        }
        Err(ClientError::none_answers(failures))
    }

    fn send_upload(
        &self,
        gateway: &str,
        route: &str,
        digest: &Digest,
        size: u64,
        reader: &mut dyn Read,
    ) -> Result<Events, ClientError> {
        let url = format!("{gateway}{route}");
        let bad_url = || ClientError::BadUrl { url: url.clone() };
        let uri: ureq::http::Uri = url.parse().map_err(|_| bad_url())?;
        let path = uri.path_and_query().map_or(route, |path| path.as_str());
        let payload = Payload::bound_to(Method::POST.as_str(), path, digest);
        let request = ureq::http::Request::builder()
            .method(Method::POST)
            .uri(&uri)
            .header(AUTHENTICATION_HEADER, self.credential(&payload)?)
            .header("content-type", "application/octet-stream")
            .header("content-length", size.to_string())
            // What can be refused without the file is refused before it is sent.
            .header("expect", "100-continue")
            .body(SendBody::from_reader(reader))
            .map_err(|_| bad_url())?;
        let waited = self.timeout.max(UPLOAD_TIMEOUT);
        let response = agent(waited, waited)
            .run(request)
            .map_err(|error| ClientError::transport(gateway, error, waited))?;
        if response.status().is_success() {
            Ok(Events::new(gateway.to_string(), response.into_body()))
        } else {
            Err(Reply::read(gateway.to_string(), response, self.timeout)?.refusal())
        }
    }

    /// Who the gateway at `gateway` takes the caller for.
    pub fn whoami(&self, gateway: &str) -> Result<WhoAmI, ClientError> {
        let logins = Logins::new();
        let route = routes::whoami(&self.system);
        let request = Request { method: &Method::GET, route: &route, body: &[], logins: &logins };
        self.ask_one(gateway, request)?.decode()
    }

    /// What the gateway at `gateway` serves to everybody under `route`.
    ///
    /// # Errors
    /// Where there is no answer; any status is one.
    pub fn public(&self, gateway: &str, route: &str) -> Result<Public, ClientError> {
        let response = self
            .agent
            .get(format!("{gateway}{route}"))
            .call()
            .map_err(|error| ClientError::transport(gateway, error, self.timeout))?;
        let date = response.headers().get("date").and_then(|date| date.to_str().ok());
        let date = date.map(str::to_string);
        let reply = Reply::read(gateway.to_string(), response, self.timeout)?;
        Ok(Public { status: reply.status, date, json: serde_json::from_slice(&reply.body).ok() })
    }

    /// Makes a credential as every request does: munged lets the gateway's account decode it and nobody else,
    /// where that account is known.
    ///
    /// # Errors
    /// [`ClientError::Munge`].
    pub fn credential(&self, payload: &Payload) -> Result<String, ClientError> {
        let context = || {
            let context = munge::Context::new()?
                .with_ttl(Duration::from_secs(u64::from(CREDENTIAL_TTL_SECONDS)))?;
            let context = match &self.munge_socket {
                Some(path) => context.with_socket(path)?,
                None => context,
            };
            match self.gateway_account {
                Some(uid) => context.with_uid_restriction(uid),
                None => Ok(context),
            }
        };
        context()
            .and_then(|context| context.encode(&payload.to_bytes()))
            .map_err(ClientError::Munge)
    }

    fn fetch<T: DeserializeOwned>(&self, method: &Method, route: &str) -> Result<T, ClientError> {
        let logins = Logins::new();
        self.ask(Request { method, route, body: &[], logins: &logins })?.decode()
    }

    /// Asks the gateways in order, the one that answered last first, until one decides.
    fn ask(&self, request: Request<'_>) -> Result<Reply, ClientError> {
        let mut failures = Vec::new();
        let count = self.gateways.len();
        for index in (0..count).map(|step| (self.preferred.get() + step) % count) {
            let Some(gateway) = self.gateways.get(index) else { continue };
            match self.ask_one(gateway, request) {
                Ok(reply) => {
                    self.preferred.set(index);
                    return Ok(reply);
                }
                Err(error) if error.is_worth_another_gateway() => failures.push(error),
                Err(error) => return Err(error),
            }
        }
        Err(ClientError::none_answers(failures))
    }

    fn ask_one(&self, gateway: &str, request: Request<'_>) -> Result<Reply, ClientError> {
        let response = self.send(&self.agent, gateway, request)?;
        let reply = Reply::read(gateway.to_string(), response, self.timeout)?;
        if reply.status == 200 { Ok(reply) } else { Err(reply.refusal()) }
    }

    fn send(
        &self,
        agent: &Agent,
        gateway: &str,
        request: Request<'_>,
    ) -> Result<Response<Body>, ClientError> {
        let Request { method, route, body, logins } = request;
        let url = format!("{gateway}{route}");
        let bad_url = || ClientError::BadUrl { url: url.clone() };
        let uri: ureq::http::Uri = url.parse().map_err(|_| bad_url())?;
        let path = uri.path_and_query().map_or(route, |path| path.as_str());
        let logins = if self.keeps_secrets() { logins.clone() } else { Logins::new() };
        let payload = Payload::bound(method.as_str(), path, body, logins);
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(&uri)
            .header(AUTHENTICATION_HEADER, self.credential(&payload)?);
        let sent = if body.is_empty() && method != Method::POST {
            request.body(()).map_err(|_| bad_url()).map(|request| agent.run(request))
        } else {
            request
                .header("content-type", "application/json")
                .body(body)
                .map_err(|_| bad_url())
                .map(|request| agent.run(request))
        };
        sent?.map_err(|error| ClientError::transport(gateway, error, self.timeout))
    }
}

/// What a gateway answered, read whole.
#[derive(Debug)]
struct Reply {
    gateway: String,
    status: u16,
    body: Vec<u8>,
}

impl Reply {
    fn read(
        gateway: String,
        response: Response<Body>,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let status = response.status().as_u16();
        let body = response
            .into_body()
            .into_with_config()
            .limit(REPLY_LIMIT)
            .read_to_vec()
            .map_err(|error| ClientError::transport(&gateway, error, timeout))?;
        Ok(Self { gateway, status, body })
    }

    fn decode<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| ClientError::Nonsense {
            gateway: self.gateway,
            status: self.status,
            what: reason(&error),
        })
    }

    fn refusal(self) -> ClientError {
        ClientError::refused(self.gateway, self.status, &self.body)
    }
}

/// An agent for which connecting and the head of a reply may take `timeout`, every further piece `between_reads`.
fn agent(timeout: Duration, between_reads: Duration) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("gantry/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(timeout.min(CONNECT_TIMEOUT)))
        .timeout_connect(Some(timeout.min(CONNECT_TIMEOUT)))
        .timeout_recv_response(Some(timeout))
        .timeout_per_read(Some(between_reads))
        .timeout_per_write(Some(timeout))
        .build()
        .new_agent()
}

/// The gateway sends an empty line every ten seconds where there is nothing to tell.
fn agent_for_events(timeout: Duration) -> Agent {
    agent(timeout, timeout.max(EVENT_TIMEOUT))
}

/// A URL of the form `http://host[:port][/prefix]`.
fn is_plain_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<ureq::http::Uri>() else { return false };
    uri.scheme_str() == Some("http")
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.query().is_none()
        && !url.contains('@')
}

/// What the name of a system may consist of: it is one segment of every route.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

/// Finding a gateway that is up takes no longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Where udiRoot.conf has no `gatewayTimeout`. Shifter waits for ever then.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream that is silent for so long is dead: the gateway's empty lines come every ten seconds.
const EVENT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a gateway may take for a piece of an upload, or to answer after it: its disk may be busy.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(90);

/// A list of a hundred thousand images has about 60 MB.
const REPLY_LIMIT: u64 = 256 << 20;
