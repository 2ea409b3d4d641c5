//! One GET request, with its redirects followed by hand.
//!
//! Each hop is checked before it is taken: no way from https to http, no address that is not public, no credentials for
//! anybody but the one they were meant for (as in curl's CVE-2018-1000007). Proxies of the environment are not
//! asked.

use crate::address::{PublicResolver, check_literal};
use crate::failure::Failure;
use crate::{Endpoint, REDIRECT_LIMIT, RegistryError, Timeouts};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Certificate, Client, Response, Url, redirect};
use std::time::Duration;

/// The way to one registry and to wherever it sends us.
#[derive(Debug)]
pub(crate) struct Transport {
    client: Client,
    internal: bool,
    idle: Duration,
}

impl Transport {
    pub(crate) fn new(client: Client, endpoint: &Endpoint, timeouts: &Timeouts) -> Self {
        Self { client, internal: endpoint.internal, idle: timeouts.idle }
    }

    /// Gets `url`, or what it redirects to, whatever the status then is.
    ///
    /// `authorization` goes to the scheme, host and port of `url` only, and not even there once a redirect led away.
    pub(crate) async fn get(
        &self,
        url: &Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Failure> {
        let mut here = url.clone();
        let mut authorization = authorization;
        for _ in 0..=REDIRECT_LIMIT {
            self.check(&here)?;
            let mut request = self.client.get(here.clone()).headers(headers.clone());
            if let Some(value) = authorization {
                request = request.header(AUTHORIZATION, value);
            }
            let response = tokio::time::timeout(self.idle, request.send())
                .await
                .map_err(|_| Failure::silence(self.idle))?
                .map_err(|error| Failure::from_reqwest(&error))?;
            let Some(next) = redirect_target(&response)? else { return Ok(response) };
            if here.scheme() == "https" && next.scheme() != "https" {
                return Err(Failure::NotAllowed(format!(
                    "it redirects from https to {}",
                    brief(&next)
                )));
            }
            if next.origin() != url.origin() {
                authorization = None;
            }
            here = next;
        }
        Err(Failure::BadAnswer(format!("it redirects more than {REDIRECT_LIMIT} times")))
    }

    /// Gets `url` whole, if it is no longer than `limit` bytes.
    pub(crate) async fn read(
        &self,
        mut response: Response,
        limit: u64,
    ) -> Result<Vec<u8>, Failure> {
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(Failure::TooLong { limit });
        }
        let mut bytes = Vec::new();
        loop {
            let chunk = tokio::time::timeout(self.idle, response.chunk())
                .await
                .map_err(|_| Failure::silence(self.idle))?
                .map_err(|error| Failure::from_reqwest(&error))?;
            let Some(chunk) = chunk else { return Ok(bytes) };
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(Failure::TooLong { limit });
            }
        }
    }

    pub(crate) fn idle(&self) -> Duration {
        self.idle
    }

    fn check(&self, url: &Url) -> Result<(), Failure> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Failure::NotAllowed(format!("it leads to {}", brief(url))));
        }
        // reqwest would send them as credentials.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Failure::NotAllowed(format!(
                "it leads to {} with a login of its own",
                brief(url)
            )));
        }
        if self.internal {
            return Ok(());
        }
        check_literal(url).map_err(|refused| Failure::NotAllowed(refused.to_string()))
    }
}

/// Makes a client, which serves any endpoint with the same certificates, timeout and right to internal addresses.
pub(crate) fn client(endpoint: &Endpoint, timeouts: &Timeouts) -> Result<Client, RegistryError> {
    let setup = |reason: String| RegistryError::Setup { registry: endpoint.name.clone(), reason };
    let mut builder = Client::builder()
        .user_agent(concat!("gantry/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .connect_timeout(timeouts.connect)
        .http2_max_header_list_size(HEADER_BYTES_LIMIT);
    if !endpoint.internal {
        builder = builder.dns_resolver(PublicResolver);
    }
    if let Some(path) = &endpoint.ca {
        let name = path.display();
        let pem = std::fs::read(path)
            .map_err(|error| setup(format!("cannot read its certificates {name}: {error}")))?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .ok()
            .filter(|list| !list.is_empty())
            .ok_or_else(|| setup(format!("{name} holds no certificates in PEM form")))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| setup(Failure::from_reqwest(&error).to_string()))
}

/// Where an answer redirects to, if it does.
fn redirect_target(response: &Response) -> Result<Option<Url>, Failure> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let target = location.and_then(|text| response.url().join(text).ok());
    target.map(Some).ok_or_else(|| Failure::BadAnswer("it redirects to nowhere".to_owned()))
}

/// A URL without path and query, which may hold secrets, and without login.
pub(crate) fn brief(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

/// The most bytes of headers in one answer over HTTP/2; hyper bounds those of HTTP/1 itself.
const HEADER_BYTES_LIMIT: u32 = 64 << 10;
