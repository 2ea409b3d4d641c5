//! What a user is told when a registry does not give an image.

use crate::Asked;
use image_ref::{Digest, Platform};
use std::time::Duration;

/// Why something could not be had from a registry.
///
/// Each is a sentence for the person who asked; [`RegistryError::hint`] says what they can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// What the configuration says of the registry cannot be used.
    #[error("registry {registry} cannot be used: {reason}")]
    Setup {
        /// The registry, as the user knows it.
        registry: String,
        /// What is wrong with its configuration.
        reason: String,
    },
    /// There was no answer, or it broke off and could not be resumed.
    #[error("cannot get {asked}: {reason}")]
    Unreachable {
        /// What was asked.
        asked: Box<Asked>,
        /// What the network said last.
        reason: String,
    },
    /// The answer would have led where requests must not go.
    #[error("cannot get {asked}: {reason}")]
    NotAllowed {
        /// What was asked.
        asked: Box<Asked>,
        /// Where it would have led.
        reason: String,
    },
    /// The registry wants credentials, or other ones.
    #[error("{}", unauthorized(asked, user.as_deref()))]
    Unauthorized {
        /// What was asked.
        asked: Box<Asked>,
        /// The user whose credentials were refused; `None` where there were none.
        user: Option<String>,
    },
    /// The registry has no such repository.
    #[error("{} has no repository {}", asked.registry, asked.repository)]
    NoRepository {
        /// What was asked.
        asked: Box<Asked>,
    },
    /// The repository has no such tag, manifest or blob.
    #[error("{} has no {} in repository {}", asked.registry, asked.wanted, asked.repository)]
    NotFound {
        /// What was asked.
        asked: Box<Asked>,
        /// Tags that there are, the most similar first; empty where it was no tag or they are not known.
        similar: Vec<String>,
    },
    /// The registry asks to come back later.
    #[error("{} asks to slow down and does not give {} of repository {}", asked.registry, asked.wanted, asked.repository)]
    Busy {
        /// What was asked.
        asked: Box<Asked>,
        /// When to come back, where it says so.
        retry_after: Option<Duration>,
    },
    /// The registry answered with an error of its own or with nonsense.
    #[error("{} gives no usable answer for {} of repository {}: {reason}", asked.registry, asked.wanted, asked.repository)]
    BadAnswer {
        /// What was asked.
        asked: Box<Asked>,
        /// What is wrong with the answer.
        reason: String,
    },
    /// What came is not what its digest says.
    #[error("{} sent something else for {} of repository {}: its digest is {found}", asked.registry, asked.wanted, asked.repository)]
    DigestMismatch {
        /// What was asked.
        asked: Box<Asked>,
        /// The digest of what came.
        found: Digest,
    },
    /// The image is not made for the platform.
    #[error("{} of repository {} at {} is not made for {platform}; it is made for {}", asked.wanted, asked.repository, asked.registry, list(offered))]
    NoPlatform {
        /// What was asked.
        asked: Box<Asked>,
        /// The platform that was looked for.
        platform: Platform,
        /// The platforms there are.
        offered: Vec<Platform>,
    },
    /// The image is malformed, or of a kind that cannot be run.
    #[error("{} of repository {} at {} is no image that can be used: {reason}", asked.wanted, asked.repository, asked.registry)]
    Invalid {
        /// What was asked.
        asked: Box<Asked>,
        /// What is wrong with it.
        reason: String,
    },
    /// The image exceeds a limit.
    #[error("{} of repository {} at {} exceeds a limit: {reason}", asked.wanted, asked.repository, asked.registry)]
    Limit {
        /// What was asked.
        asked: Box<Asked>,
        /// Which limit.
        reason: String,
    },
}

impl RegistryError {
    /// What the person who asked can do, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unauthorized { asked, user: None } => Some(format!(
                "log in with `docker login {0}` or `podman login {0}`, which imgctl reads",
                asked.login
            )),
            Self::Unauthorized { asked, user: Some(_) } => Some(format!(
                "log in again with `docker login {0}` or `podman login {0}`, or ask for access to {1}",
                asked.login, asked.repository
            )),
            Self::NotFound { similar, .. } if !similar.is_empty() => {
                Some(format!("its tags include {}", similar.join(", ")))
            }
            Self::Busy { retry_after: Some(pause), .. } => {
                Some(format!("try again in {} s", pause.as_secs().max(1)))
            }
            Self::Busy { retry_after: None, .. } => Some("try again in a few minutes".to_owned()),
            _ => None,
        }
    }
}

fn unauthorized(asked: &Asked, user: Option<&str>) -> String {
    let Asked { registry, repository, .. } = asked;
    match user {
        // Registries do not tell strangers which repositories there are.
        None => format!("{registry} has no public repository {repository}"),
        Some(user) => {
            format!("{registry} does not let user {user} pull from repository {repository}")
        }
    }
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "no platform at all".to_owned();
    }
    platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")
}
