//! What rides inside a MUNGE credential.
//!
//! Shifter's client puts nothing there, or its user's registry logins. Ours also binds the credential to the
//! request it was made for, so that whoever sees one cannot use it for another (MUNGE itself says who, not what).

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
    fn of(method: &str, path: &str, body: &[u8]) -> Self {
        let hash = Sha256::digest(body);
        let body = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { method: method.to_string(), path: path.to_string(), body }
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
        Self { authorized_locations, gantry: Some(Binding::of(method, path, body)) }
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
        let Some(binding) = &self.gantry else { return Ok(false) };
        let seen = Binding::of(method, path, body);
        if binding.method != seen.method {
            Err(BindingError::Method)
        } else if binding.path != seen.path {
            Err(BindingError::Path)
        } else if binding.body != seen.body {
            Err(BindingError::Body)
        } else {
            Ok(true)
        }
    }
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
