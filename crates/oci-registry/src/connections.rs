//! HTTP clients that sessions share, with the connections that they keep open.
//!
//! A client parses all certificates that the system trusts, which takes longer than most requests. It holds nobody's
//! login: each request brings its own.

use crate::{Endpoint, RegistryError, Timeouts, transport};
use reqwest::Client;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The clients of one program, one for each kind of endpoint.
#[derive(Debug, Default)]
pub struct Connections {
    clients: Mutex<HashMap<Kind, (Instant, Client)>>,
}

/// What clients differ in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    internal: bool,
    ca: Option<PathBuf>,
    connect: Duration,
}

impl Connections {
    /// The client for an endpoint, made where there is none that is young enough.
    ///
    /// # Errors
    /// [`RegistryError::Setup`] where the endpoint's certificates cannot be used.
    pub(crate) fn client(
        &self,
        endpoint: &Endpoint,
        timeouts: &Timeouts,
    ) -> Result<Client, RegistryError> {
        let Endpoint { internal, ca, .. } = endpoint;
        let kind = Kind { internal: *internal, ca: ca.clone(), connect: timeouts.connect };
        if let Some((_, client)) = self.kept().get(&kind) {
            return Ok(client.clone());
        }
        // Without the lock, for others may want theirs. Of two that are made at once one is kept.
        let client = transport::client(endpoint, timeouts)?;
        self.kept().insert(kind, (Instant::now(), client.clone()));
        Ok(client)
    }

    /// Makes the clients that need no certificates but the system's, so that nobody has to wait for them. Blocks.
    pub fn warm_up(&self) {
        for internal in [false, true] {
            let public = Endpoint { internal, ..Endpoint::docker_hub() };
            // What is wrong is told to whoever needs it.
            let _ = self.client(&public, &Timeouts::default());
        }
    }

    /// Those that are young enough.
    fn kept(&self) -> MutexGuard<'_, HashMap<Kind, (Instant, Client)>> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|_, (made, _)| made.elapsed() < AGE_LIMIT);
        clients
    }
}

/// Certificates that the site or the system has changed are trusted, or no longer trusted, after this time.
const AGE_LIMIT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(connections: &Connections) -> usize {
        connections.kept().len()
    }

    #[test]
    fn endpoints_of_a_kind_share_a_client_and_others_have_their_own() {
        let (connections, timeouts) = (Connections::default(), Timeouts::default());
        let endpoint = |base: &str| Endpoint::new("test", base.parse().unwrap());
        let mut one = endpoint("https://registry.example.org");
        connections.client(&one, &timeouts).unwrap();
        connections.client(&endpoint("https://registry.example.com"), &timeouts).unwrap();
        assert_eq!(kinds(&connections), 1);
        one.internal = true;
        connections.client(&one, &timeouts).unwrap();
        assert_eq!(kinds(&connections), 2);
        one.ca = Some("/none/ca.pem".into());
        assert!(connections.client(&one, &timeouts).is_err());
        assert_eq!(kinds(&connections), 2);
        connections.warm_up();
        assert_eq!(kinds(&connections), 2);
    }
}
