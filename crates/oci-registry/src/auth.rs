//! Who we are to a registry: nobody at first, and the caller only if nobody is refused.
//!
//! That order tells which images are public: what came without the caller's credentials may be shared. Passes live in
//! one session and are never shown to another host.

use crate::challenge::{Challenge, parse_challenges};
use crate::failure::Failure;
use crate::token::{basic, fetch_token};
use crate::transport::{Transport, brief};
use crate::{AuthMethod, Credentials, Endpoint};
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue};
use std::time::Instant;
use tokio::sync::Mutex;

/// What goes with a request in place of a name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pass {
    pub(crate) header: Option<HeaderValue>,
    pub(crate) level: Level,
    good_until: Option<Instant>,
    /// Counts the passes of the session.
    serial: u32,
}

/// What a pass was got with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Level {
    /// There is none.
    #[default]
    Nobody,
    /// A token that anybody gets.
    Anonymous,
    /// The caller's credentials.
    Login,
}

/// Gets passes for one registry and repository.
#[derive(Debug)]
pub(crate) struct Authorizer {
    endpoint: Endpoint,
    repository: String,
    credentials: Option<Credentials>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pass: Pass,
    /// What the registry asked for first.
    challenge: Option<Challenge>,
}

impl Authorizer {
    pub(crate) fn new(
        endpoint: &Endpoint,
        repository: &str,
        credentials: Option<Credentials>,
    ) -> Self {
        Self {
            endpoint: endpoint.clone(),
            repository: repository.to_owned(),
            credentials,
            state: Mutex::default(),
        }
    }

    /// The best pass so far.
    pub(crate) async fn pass(&self) -> Pass {
        self.state.lock().await.pass.clone()
    }

    /// The user whose credentials are behind a pass.
    pub(crate) fn user(&self, pass: &Pass) -> Option<&str> {
        let credentials = self.credentials.as_ref().filter(|_| pass.level == Level::Login);
        credentials.map(|credentials| credentials.user.as_str())
    }

    /// Gets a better pass after the registry said 401 to `tried`; `None` where there is none.
    pub(crate) async fn answer(
        &self,
        transport: &Transport,
        headers: &HeaderMap,
        tried: &Pass,
    ) -> Result<Option<Pass>, Failure> {
        let mut state = self.state.lock().await;
        if state.pass.serial != tried.serial {
            return Ok(Some(state.pass.clone())); // another request has got one meanwhile
        }
        let challenge = self.pick(parse_challenges(headers));
        state.challenge = challenge.or(state.challenge.take());
        let renew = tried.good_until.is_some_and(|end| end <= Instant::now());
        let level = match tried.level {
            Level::Nobody => Level::Anonymous,
            level if renew => level,
            _ => Level::Login,
        };
        // A login whose token was refused while it was fresh is refused for good.
        if tried.level == Level::Login && !renew {
            return Ok(None);
        }
        self.get_pass(transport, &mut state, level).await
    }

    /// Gets a pass with the caller's credentials after less was not enough; `None` where that cannot help.
    ///
    /// For answers other than 401: registries also say "not found" for "not you" and "too many" for "nobody".
    pub(crate) async fn raise(
        &self,
        transport: &Transport,
        tried: &Pass,
    ) -> Result<Option<Pass>, Failure> {
        let mut state = self.state.lock().await;
        if state.pass.serial != tried.serial {
            return Ok(Some(state.pass.clone()));
        }
        if tried.level == Level::Login || state.challenge.is_none() || self.credentials.is_none() {
            return Ok(None);
        }
        self.get_pass(transport, &mut state, Level::Login).await
    }

    /// Prefers a token to a password, unless the site says otherwise.
    fn pick(&self, offered: Vec<Challenge>) -> Option<Challenge> {
        if self.endpoint.auth == AuthMethod::Basic {
            return Some(Challenge::Basic);
        }
        let bearer =
            offered.iter().position(|c| matches!(c, Challenge::Bearer { .. })).unwrap_or(0);
        offered.into_iter().nth(bearer)
    }

    async fn get_pass(
        &self,
        transport: &Transport,
        state: &mut State,
        level: Level,
    ) -> Result<Option<Pass>, Failure> {
        let serial = state.pass.serial + 1;
        let pass = match (&state.challenge, &self.credentials) {
            (None, _) | (Some(Challenge::Basic), None) => None,
            (Some(Challenge::Basic), Some(login)) => Some(Pass {
                header: Some(basic(login)?),
                level: Level::Login,
                good_until: None,
                serial,
            }),
            (Some(Challenge::Bearer { realm, service }), login) => {
                let realm = self.check_realm(realm)?;
                self.get_token(transport, &realm, service.as_deref(), login.as_ref(), level, serial)
                    .await?
            }
        };
        if let Some(pass) = &pass {
            state.pass = pass.clone();
        }
        Ok(pass)
    }

    /// Gets a token of that level, or of the next where the token service itself refuses to serve nobody.
    async fn get_token(
        &self,
        transport: &Transport,
        realm: &Url,
        service: Option<&str>,
        login: Option<&Credentials>,
        level: Level,
        serial: u32,
    ) -> Result<Option<Pass>, Failure> {
        let pass = |token: crate::token::Token, level| Pass {
            header: Some(token.header),
            level,
            good_until: Some(token.good_until),
            serial,
        };
        if level != Level::Login {
            match fetch_token(transport, realm, service, &self.repository, None).await {
                Ok(token) => return Ok(Some(pass(token, Level::Anonymous))),
                Err(Failure::Status(refusal)) if login.is_some() && refusal.is_about_caller() => {}
                Err(failure) => return Err(failure),
            }
        }
        let Some(login) = login else { return Ok(None) };
        if !self.endpoint.trusts_realm(realm) {
            return Err(Failure::NotAllowed(format!(
                "it wants the login to be sent to {}, which the site does not list as its token service",
                brief(realm)
            )));
        }
        let token = fetch_token(transport, realm, service, &self.repository, Some(login)).await?;
        Ok(Some(pass(token, Level::Login)))
    }

    /// Where tokens come from; never over http from a registry with https.
    fn check_realm(&self, realm: &str) -> Result<Url, Failure> {
        let url = Url::parse(realm).map_err(|_| {
            Failure::BadAnswer("it names a token service that is no URL".to_owned())
        })?;
        match (url.scheme(), self.endpoint.base.scheme()) {
            ("https", _) | ("http", "http") => Ok(url),
            _ => Err(Failure::NotAllowed(format!(
                "it wants a token to be fetched from {}",
                brief(&url)
            ))),
        }
    }
}
