//! Where a registry is and what the site says of it.

use reqwest::Url;
use std::path::PathBuf;

/// One registry of the site's configuration, or one that a user named.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// What users call it, such as `docker.io` or `registry.example.org:5000`.
    pub name: String,
    /// Where it answers; `http` only where the administrator wrote so.
    pub base: Url,
    /// Certificates in PEM form to trust beside the system's.
    pub ca: Option<PathBuf>,
    /// Whether requests may go to addresses that are not public, such as loopback and private ones.
    pub internal: bool,
    /// Hosts, as `host` or `host:port`, that may see credentials for this registry when it asks for a token from there.
    pub token_realms: Vec<String>,
    /// How credentials are shown.
    pub auth: AuthMethod,
}

/// How credentials are shown to a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMethod {
    /// As the registry asks: a bearer token where it takes one, otherwise user and password.
    #[default]
    Offered,
    /// User and password with each request (RFC 7617), whatever else the registry takes.
    Basic,
}

impl Endpoint {
    /// A registry with nothing special about it: the system's certificates, public addresses only.
    pub fn new(name: impl Into<String>, base: Url) -> Self {
        Self {
            name: name.into(),
            base,
            ca: None,
            internal: false,
            token_realms: Vec::new(),
            auth: AuthMethod::Offered,
        }
    }

    /// Docker Hub.
    pub fn docker_hub() -> Self {
        let base = Url::parse("https://registry-1.docker.io/");
        // A constant that parses, as the test below shows.
        Self::new("docker.io", base.unwrap_or_else(|_| unreachable!()))
    }

    /// Tells whether this is Docker Hub, under any of its names.
    pub fn is_docker_hub(&self) -> bool {
        self.base.host_str().is_some_and(is_docker_hub)
    }

    /// The repository's name at the registry for the name that users write: `library/ubuntu` for Docker Hub's `ubuntu`.
    pub fn repository(&self, written: &str) -> String {
        if self.is_docker_hub() && !written.contains('/') {
            format!("library/{written}")
        } else {
            written.to_owned()
        }
    }

    /// Tells whether credentials for this registry may be sent to `realm`, where it wants tokens to be fetched.
    pub(crate) fn trusts_realm(&self, realm: &Url) -> bool {
        let Some(host) = realm.host_str() else { return false };
        let with_port = realm.port_or_known_default().map(|port| format!("{host}:{port}"));
        let listed = |entry: &str| {
            Some(entry) == with_port.as_deref() || (entry == host && realm.port().is_none())
        };
        self.base.origin() == realm.origin()
            || self.token_realms.iter().any(|entry| listed(entry))
            || WELL_KNOWN_REALMS
                .iter()
                .any(|(registry, realm)| Some(*registry) == self.base.host_str() && listed(realm))
    }

    /// The base as requests use it: `docker.io` itself is no registry.
    pub(crate) fn request_base(&self) -> Url {
        match self.base.host_str() {
            Some("docker.io") => Self::docker_hub().base,
            _ => self.base.clone(),
        }
    }

    /// The name that `docker login` and `podman login` know the registry by: host and port.
    pub(crate) fn login_name(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        match self.base.port() {
            _ if is_docker_hub(host) => "docker.io".to_owned(),
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }
}

fn is_docker_hub(host: &str) -> bool {
    matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

/// Public registries whose tokens come from another host of the same operator.
const WELL_KNOWN_REALMS: &[(&str, &str)] = &[
    ("docker.io", "auth.docker.io"),
    ("index.docker.io", "auth.docker.io"),
    ("registry-1.docker.io", "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn at(base: &str) -> Endpoint {
        Endpoint::new("test", base.parse().unwrap())
    }

    #[test]
    fn official_images_have_a_prefix_on_docker_hub_alone() {
        assert_eq!(Endpoint::docker_hub().repository("ubuntu"), "library/ubuntu");
        assert_eq!(Endpoint::docker_hub().repository("org/app"), "org/app");
        assert_eq!(at("https://docker.io").repository("ubuntu"), "library/ubuntu");
        assert_eq!(at("https://registry.example.org").repository("ubuntu"), "ubuntu");
        let base = at("https://docker.io").request_base();
        assert_eq!(base.as_str(), "https://registry-1.docker.io/");
    }

    #[test]
    fn credentials_go_to_the_registry_itself_and_to_listed_realms_only() {
        let trusts =
            |endpoint: &Endpoint, realm: &str| endpoint.trusts_realm(&realm.parse().unwrap());
        let hub = Endpoint::docker_hub();
        assert!(trusts(&hub, "https://auth.docker.io/token"));
        assert!(!trusts(&hub, "https://auth.docker.io.evil.example/token"));
        assert!(!trusts(&hub, "https://auth.docker.io:8443/token"));
        let mut own = at("https://registry.example.org:5000");
        assert!(trusts(&own, "https://registry.example.org:5000/token"));
        assert!(!trusts(&own, "https://registry.example.org/token"));
        assert!(!trusts(&own, "https://auth.docker.io/token"));
        own.token_realms = vec!["gitlab.example.org".into(), "sso.example.org:8443".into()];
        assert!(trusts(&own, "https://gitlab.example.org/jwt/auth"));
        assert!(!trusts(&own, "https://gitlab.example.org:1/jwt/auth"));
        assert!(trusts(&own, "https://sso.example.org:8443/"));
        assert!(!trusts(&own, "https://sso.example.org/"));
    }
}
