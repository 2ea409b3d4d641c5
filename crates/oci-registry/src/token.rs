//! Fetching a bearer token (distribution specification, "Token Authentication").

use crate::Credentials;
use crate::failure::Failure;
use crate::transport::Transport;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use oci_documents::parse_json;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::Deserialize;
use std::time::{Duration, Instant};

/// A token as it is sent, and until when it should be good.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    pub(crate) good_until: Instant,
}

/// Asks `realm` for a token to pull from `repository`, as `login` or as nobody.
///
/// The scope is ours: one that the registry proposes could name what it should never see.
pub(crate) async fn fetch_token(
    transport: &Transport,
    realm: &Url,
    service: Option<&str>,
    repository: &str,
    login: Option<&Credentials>,
) -> Result<Token, Failure> {
    let mut url = realm.clone();
    url.set_fragment(None);
    url.query_pairs_mut()
        .extend_pairs(service.map(|service| ("service", service)))
        .append_pair("scope", &format!("repository:{repository}:pull"));
    let authorization = login.map(basic).transpose()?;
    let response = transport.get(&url, &HeaderMap::new(), authorization.as_ref()).await?;
    if !response.status().is_success() {
        let user = login.map(|login| login.user.as_str());
        let failure = Failure::from_response(response, user, transport.idle()).await;
        return Err(match &failure {
            Failure::Status(refusal) if refusal.is_about_caller() || failure.is_temporary() => {
                failure
            }
            // Not finding the token service is not the same as not finding the image.
            _ => Failure::BadAnswer(format!("its token service does not help: {failure}")),
        });
    }
    let bytes = transport.read(response, TOKEN_LIMIT).await?;
    let answer: Answer = parse_json(&bytes).map_err(|_| no_token())?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
    let lifetime = Duration::from_secs(answer.expires_in.unwrap_or(LIFETIME_SECONDS).min(86_400));
    Ok(Token {
        header: secret(format!("Bearer {}", token.ok_or_else(no_token)?))?,
        good_until: Instant::now() + lifetime,
    })
}

/// The header that shows user and password (RFC 7617).
pub(crate) fn basic(login: &Credentials) -> Result<HeaderValue, Failure> {
    if login.user.contains(':') {
        return Err(Failure::NotAllowed("the login's user name has a colon".to_owned()));
    }
    secret(format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{}:{}", login.user, login.password))
    ))
}

/// A header value that no Debug output shows.
fn secret(text: String) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(text).map_err(|_| no_token())?;
    value.set_sensitive(true);
    Ok(value)
}

fn no_token() -> Failure {
    Failure::BadAnswer("its token service gives no token".to_owned())
}

/// `token` is Docker's word, `access_token` that of OAuth 2.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// The longest answer; tokens of large sites have some kilobytes.
const TOKEN_LIMIT: u64 = 256 << 10;
/// How long a token is good where nothing is said (the specification's default).
const LIFETIME_SECONDS: u64 = 60;
