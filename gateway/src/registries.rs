//! Which registry a reference means, and with whose login it is asked.
//!
//! The one place that turns the configuration's `Locations` and a reference into an address. Makes no connection.

use std::path::PathBuf;

use image_ref::ImageRef;

use crate::config::Config;

/// The registries that the configuration knows, and the rule for the others.
#[derive(Debug)]
pub struct Registries {
    locations: Vec<Location>,
    default: Option<String>,
    allow_unlisted: bool,
}

#[derive(Clone, Debug)]
struct Location {
    name: String,
    url: String,
    ca: Option<PathBuf>,
    token_realms: Vec<String>,
    basic: bool,
}

/// One repository of one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The registry as the user knows it: the location's name, or host and port.
    pub registry: String,
    /// Where it is: scheme, host, port and perhaps a path.
    pub url: String,
    /// The certificates that sign its own, where they are not the system's.
    pub ca: Option<PathBuf>,
    /// Whether the administrator named it, so that it may lie in the site's own network.
    pub listed: bool,
    /// The repository as users write it.
    pub repository: String,
    /// Further hosts that may see a login when the registry sends there for a token.
    pub token_realms: Vec<String>,
    /// Whether the login is shown with each request instead.
    pub basic: bool,
    /// The names under which a login for it may be given, the best first.
    pub login_names: Vec<String>,
}

impl Source {
    /// The names under which its users keep a login for it, the best first.
    pub fn kept_logins(&self) -> Vec<String> {
        // `default` is a word of Shifter's clients: nobody logs in there.
        self.login_names.iter().filter(|name| *name != DEFAULT).cloned().collect()
    }
}

impl Registries {
    /// Takes over what the configuration says.
    pub fn new(config: &Config) -> Self {
        let locations = config
            .locations
            .iter()
            .map(|(name, location)| Location {
                name: name.clone(),
                url: location.url.clone().unwrap_or_else(|| format!("https://{name}")),
                ca: location.sslcacert.clone(),
                token_realms: location.token_realms.clone(),
                basic: location.auth_method.as_deref() == Some("basic"),
            })
            .collect();
        Self {
            locations,
            default: config.default_image_location.clone(),
            allow_unlisted: config.allow_unlisted_registries,
        }
    }

    /// Finds the registry that a reference means.
    ///
    /// The text before the first slash chooses a location by its key, or by the host and port of its URL. Otherwise,
    /// where it is a host, that host is meant, if the site allows it; where it is not, the default location.
    ///
    /// # Errors
    /// [`SourceError`], in words for the user.
    pub fn source(&self, reference: &ImageRef) -> Result<Source, SourceError> {
        let name = reference.name();
        if let Some((first, rest)) = name.split_once('/')
            && let Some(location) = self.location(first)
        {
            return Ok(self.at(location, rest));
        }
        if let Some(host) = reference.registry() {
            if !self.allow_unlisted {
                return Err(SourceError::NotAllowed(host.to_string()));
            }
            let host = if is_docker_hub(host) { DOCKER_HUB } else { host };
            let location = Location {
                name: host.into(),
                url: format!("https://{host}"),
                ca: None,
                token_realms: Vec::new(),
                basic: false,
            };
            return Ok(Source { listed: false, ..self.at(&location, reference.repository()) });
        }
        let default = self.default.as_deref().and_then(|default| self.location(default));
        let location = default.ok_or_else(|| SourceError::NoDefault(name.to_string()))?;
        Ok(self.at(location, name))
    }

    fn location(&self, name: &str) -> Option<&Location> {
        let find = |fits: &dyn Fn(&Location) -> bool| self.locations.iter().find(|l| fits(l));
        find(&|l| l.name == name)
            // Docker Hub has several names; a site lists one of them.
            .or_else(|| find(&|l| is_docker_hub(&l.name) && is_docker_hub(name)))
            .or_else(|| {
                find(&|l| {
                    let authority = authority(&l.url);
                    authority == name || is_docker_hub(authority) && is_docker_hub(name)
                })
            })
    }

    fn at(&self, location: &Location, repository: &str) -> Source {
        let authority = authority(&location.url);
        let mut login_names = vec![location.name.clone()];
        if authority != location.name {
            login_names.push(authority.to_string());
        }
        if is_docker_hub(authority) {
            let others = DOCKER_HUB_NAMES.iter().map(ToString::to_string);
            login_names.extend(others.filter(|name| *name != location.name && name != authority));
        }
        if self.default.as_deref() == Some(location.name.as_str()) {
            login_names.push(DEFAULT.to_string());
        }
        Source {
            registry: location.name.clone(),
            url: location.url.trim_end_matches('/').to_string(),
            ca: location.ca.clone(),
            listed: true,
            repository: repository.to_string(),
            token_realms: location.token_realms.clone(),
            basic: location.basic,
            login_names,
        }
    }
}

/// Host and port of a URL; without the port where it is the scheme's own, as users leave it out.
fn authority(url: &str) -> &str {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let own_port = if scheme == "http" { ":80" } else { ":443" };
    authority.strip_suffix(own_port).unwrap_or(authority)
}

fn is_docker_hub(host: &str) -> bool {
    DOCKER_HUB_NAMES.contains(&host)
}

/// What Shifter's clients call the default location in their logins.
const DEFAULT: &str = "default";
/// The host that serves Docker Hub's images.
const DOCKER_HUB: &str = "registry-1.docker.io";
/// The names that mean it.
const DOCKER_HUB_NAMES: &[&str] =
    &[DOCKER_HUB, "docker.io", "index.docker.io", "registry.hub.docker.com"];

/// Why a reference means no registry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The site lets images come from its listed registries alone.
    #[error("this site does not pull from {0}: it is not one of its registries")]
    NotAllowed(String),
    /// The reference names no registry and the site has no default.
    #[error("`{0}` names no registry and this site has no default one")]
    NoDefault(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(allow: bool) -> Registries {
        let location = |name: &str, url: &str| Location {
            name: name.into(),
            url: url.into(),
            ca: None,
            token_realms: vec![],
            basic: false,
        };
        Registries {
            locations: vec![
                location("registry-1.docker.io", "https://registry-1.docker.io"),
                location("127.0.0.1:5056", "http://127.0.0.1:5056/"),
                location("lab", "https://harbor.lab.example:8443/v"),
            ],
            default: Some("registry-1.docker.io".into()),
            allow_unlisted: allow,
        }
    }

    #[test]
    fn a_reference_means_one_registry() {
        for (text, registry, url, repository, listed) in [
            ("ubuntu", "registry-1.docker.io", "https://registry-1.docker.io", "ubuntu", true),
            ("org/app:1", "registry-1.docker.io", "https://registry-1.docker.io", "org/app", true),
            (
                "docker.io/ubuntu",
                "registry-1.docker.io",
                "https://registry-1.docker.io",
                "ubuntu",
                true,
            ),
            ("127.0.0.1:5056/small", "127.0.0.1:5056", "http://127.0.0.1:5056", "small", true),
            ("lab/org/app", "lab", "https://harbor.lab.example:8443/v", "org/app", true),
            (
                "harbor.lab.example:8443/org/app",
                "lab",
                "https://harbor.lab.example:8443/v",
                "org/app",
                true,
            ),
            ("quay.io/org/app", "quay.io", "https://quay.io", "org/app", false),
            ("localhost:99/a", "localhost:99", "https://localhost:99", "a", false),
        ] {
            let source = registries(true).source(&text.parse().unwrap()).unwrap();
            assert_eq!(
                (&*source.registry, &*source.url, &*source.repository, source.listed),
                (registry, url, repository, listed),
                "{text}"
            );
        }
    }

    #[test]
    fn a_site_can_keep_to_its_own_registries() {
        let source = |text: &str| registries(false).source(&text.parse().unwrap());
        assert_eq!(source("quay.io/a"), Err(SourceError::NotAllowed("quay.io".into())));
        assert!(source("ubuntu").is_ok() && source("lab/a").is_ok());
        let bare = Registries { default: None, ..registries(true) };
        assert_eq!(
            bare.source(&"ubuntu".parse().unwrap()),
            Err(SourceError::NoDefault("ubuntu".into()))
        );
    }

    #[test]
    fn the_word_default_is_a_login_for_the_default_location_alone() {
        let names =
            |text: &str| registries(true).source(&text.parse().unwrap()).unwrap().login_names;
        assert!(names("ubuntu").contains(&"default".to_string()));
        assert_eq!(names("lab/a"), ["lab", "harbor.lab.example:8443"]);
        assert_eq!(names("quay.io/a"), ["quay.io"]);
    }

    #[test]
    fn the_logins_that_users_keep_are_named_once_each_and_the_location_first() {
        let kept =
            |text: &str| registries(true).source(&text.parse().unwrap()).unwrap().kept_logins();
        assert_eq!(
            kept("ubuntu"),
            ["registry-1.docker.io", "docker.io", "index.docker.io", "registry.hub.docker.com"]
        );
        assert_eq!(kept("lab/a"), ["lab", "harbor.lab.example:8443"]);
        assert_eq!(authority("https://r.example:443/v"), "r.example");
        assert_eq!(authority("http://r.example:443"), "r.example:443");
    }
}
