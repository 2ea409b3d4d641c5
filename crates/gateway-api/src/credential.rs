//! What rides inside a MUNGE credential.
//!
//! Shifter's client puts nothing there, or its user's registry logins. Ours also binds the credential to the
//! request it was made for, so that whoever sees one cannot use it for another (MUNGE itself says who, not what).

use image_ref::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt;

/// The header that carries the credential: `authentication: MUNGE:...:`.
pub const AUTHENTICATION_HEADER: &str = "authentication";

/// How long our clients let a credential live.
pub const CREDENTIAL_TTL_SECONDS: u32 = 60;

/// The payload of a credential, as JSON; an empty payload is [`Payload::default`].
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// Registry logins: location to `user:password` (Shifter's form). Never logged.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub authorized_locations: BTreeMap<String, String>,
    /// The request that the credential is for; absent in Shifter's clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gantry: Option<Binding>,
}

/// The request that a credential is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The method, such as `GET`.
    pub method: String,
    /// Path and query as sent.
    pub path: String,
    /// SHA-256 of the body in hexadecimal digits.
    pub body: String,
}

impl Binding {
    fn of(method: &str, path: &str, body: &Digest) -> Self {
        let (method, path) = (method.to_string(), path.to_string());
        Self { method, path, body: body.hex().to_string() }
    }
}

impl Payload {
    /// The payload for one request with these registry logins.
    pub fn bound(
        method: &str,
        path: &str,
        body: &[u8],
        authorized_locations: BTreeMap<String, String>,
    ) -> Self {
        Self { authorized_locations, gantry: Some(Binding::of(method, path, &hash(body))) }
    }

    /// The payload for one request whose body is not held but streamed; `body` is its SHA-256.
    pub fn bound_to(method: &str, path: &str, body: &Digest) -> Self {
        let gantry = Some(Binding::of(method, path, body));
        Self { authorized_locations: BTreeMap::new(), gantry }
    }

    /// The bytes to encode.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A map of strings and a struct of strings always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads decoded bytes; Shifter's clients send none where there are no logins.
    ///
    /// # Errors
    /// [`BindingError::Malformed`] where there are bytes that are not such JSON.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BindingError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(bytes).map_err(|_| BindingError::Malformed)
    }

    /// Checks that the credential was made for this request; `Ok(false)` where it is bound to none.
    ///
    /// # Errors
    /// [`BindingError::Method`], [`BindingError::Path`] or [`BindingError::Body`], whichever differs.
    pub fn check(&self, method: &str, path: &str, body: &[u8]) -> Result<bool, BindingError> {
        match self.check_head(method, path)? {
            None => Ok(false),
            Some(expected) if expected == hash(body) => Ok(true),
            Some(_) => Err(BindingError::Body),
        }
    }

    /// Checks that the credential was made for a request with this head, and tells the SHA-256 that its body must
    /// turn out to have; `Ok(None)` where it is bound to none.
    ///
    /// # Errors
    /// [`BindingError::Method`] or [`BindingError::Path`], whichever differs; [`BindingError::Body`] where what it
    /// says of the body is no SHA-256.
    pub fn check_head(&self, method: &str, path: &str) -> Result<Option<Digest>, BindingError> {
        let Some(binding) = &self.gantry else { return Ok(None) };
        if binding.method != method {
            Err(BindingError::Method)
        } else if binding.path != path {
            Err(BindingError::Path)
        } else {
            Digest::from_hex(&binding.body).map(Some).map_err(|_| BindingError::Body)
        }
    }
}

fn hash(body: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(body).into())
}

/// Shows which locations have logins, never the logins.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload")
            .field("authorized_locations", &self.authorized_locations.keys())
            .field("gantry", &self.gantry)
            .finish()
    }
}

/// Why a payload does not fit its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingError {
    /// The payload is not JSON of the known form.
    Malformed,
    /// The credential was made for another method.
    Method,
    /// The credential was made for another path.
    Path,
    /// The credential was made for another body.
    Body,
}

impl fmt::Display for BindingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the credential's payload is malformed",
            Self::Method => "the credential was made for another method",
            Self::Path => "the credential was made for another path",
            Self::Body => "the credential was made for another body",
        })
    }
}

impl std::error::Error for BindingError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_credential_fits_its_request_and_no_other() {
        let sent = Payload::bound("POST", "/api/pull/c1/docker/a%3A1/", b"{}", BTreeMap::new());
        let payload = Payload::from_bytes(&sent.to_bytes()).unwrap();
        assert_eq!(payload.check("POST", "/api/pull/c1/docker/a%3A1/", b"{}"), Ok(true));
        assert_eq!(
            payload.check("GET", "/api/pull/c1/docker/a%3A1/", b"{}"),
            Err(BindingError::Method)
        );
        assert_eq!(
            payload.check("POST", "/api/pull/c1/docker/b%3A1/", b"{}"),
            Err(BindingError::Path)
        );
        assert_eq!(
            payload.check("POST", "/api/pull/c1/docker/a%3A1/", b""),
            Err(BindingError::Body)
        );
    }

    #[test]
    fn a_body_that_is_streamed_is_bound_by_its_digest() {
        let body = hash(b"a large file");
        let payload = Payload::bound_to("POST", "/api/import/c1/custom/a%3A1/", &body);
        let path = "/api/import/c1/custom/a%3A1/";
        assert_eq!(payload.check_head("POST", path), Ok(Some(body)));
        assert_eq!(payload.check_head("POST", "/"), Err(BindingError::Path));
        assert_eq!(payload.check("POST", path, b"a large file"), Ok(true));
        assert_eq!(payload.check("POST", path, b"another"), Err(BindingError::Body));
        assert_eq!(Payload::default().check_head("POST", path), Ok(None));
        let mut odd = payload;
        odd.gantry.as_mut().unwrap().body = "no digest".into();
        assert_eq!(odd.check_head("POST", path), Err(BindingError::Body));
    }

    #[test]
    fn shifters_payloads_are_read_and_bound_to_nothing() {
        assert_eq!(Payload::from_bytes(b"").unwrap().check("GET", "/", b""), Ok(false));
        let payload =
            Payload::from_bytes(br#"{"authorized_locations":{"default":"alice:p\"w:1"}}"#).unwrap();
        assert_eq!(payload.authorized_locations["default"], "alice:p\"w:1");
        assert_eq!(Payload::from_bytes(b"\xff"), Err(BindingError::Malformed));
    }

    #[test]
    fn logins_do_not_show_in_debug_output() {
        let logins = BTreeMap::from([("hub".to_string(), "bob:secret".to_string())]);
        let shown = format!("{:?}", Payload::bound("GET", "/", b"", logins));
        assert!(shown.contains("hub") && !shown.contains("secret"), "{shown}");
    }
}
