//! From what a person wrote to the digest it stands for.
//!
//! Asks the gateway; where no gateway answers, the names published beside the images decide. A digest needs neither.

use crate::client::{Client, ClientError};
use crate::exit::{Exit, Failure};
use crate::names;
use crate::site::Site;
use image_ref::{Digest, ImageRef, Kind, Version};

/// A digest, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It was written as a digest.
    Written(Digest),
    /// The gateway said it.
    Told(Digest),
    /// No gateway answers, for this reason; the image directory has it under this name.
    Published(Digest, String),
}

impl Resolution {
    /// The digest.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Written(digest) | Self::Told(digest) | Self::Published(digest, _) => *digest,
        }
    }

    /// What the user should know, where no gateway was there to ask.
    pub fn note(&self) -> Option<String> {
        match self {
            Self::Published(_, why) => {
                Some(format!("{why}; using the digest published in the image directory"))
            }
            Self::Written(_) | Self::Told(_) => None,
        }
    }
}

/// Why there is no digest.
#[derive(Debug)]
pub enum LookupError {
    /// The gateway has no such image: it may be pulled.
    NotPulled(Failure),
    /// Anything else.
    Failed(Failure),
}

impl From<LookupError> for Failure {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::NotPulled(failure) | LookupError::Failed(failure) => failure,
        }
    }
}

/// Finds the digest of `reference`.
///
/// # Errors
/// See [`LookupError`].
pub fn find(site: &Site, reference: &ImageRef) -> Result<Resolution, LookupError> {
    if let (Kind::Id, Version::Digest(digest)) = (reference.kind(), reference.version()) {
        return Ok(Resolution::Written(*digest));
    }
    let asked = Client::new(site).and_then(|client| client.lookup(reference));
    match asked {
        Ok(record) => record
            .digest
            .or_else(|| Digest::from_hex(&record.id).ok())
            .map(Resolution::Told)
            .ok_or_else(|| LookupError::NotPulled(not_ready(reference))),
        Err(error) if error.is_away() || matches!(error, ClientError::NotConfigured { .. }) => {
            find_published(site, reference, &error.sentence()).ok_or_else(|| {
                LookupError::Failed(error.while_trying_to(&format!("find {reference}")))
            })
        }
        Err(error) if error.is_not_found() => {
            let told = error.while_trying_to(&format!("find {reference}"));
            Err(LookupError::NotPulled(not_pulled(reference, told)))
        }
        Err(error) => Err(LookupError::Failed(error.while_trying_to(&format!("find {reference}")))),
    }
}

/// Finds the digest of `reference` among the published names, where no gateway answers for the reason `why`.
pub fn find_published(site: &Site, reference: &ImageRef, why: &str) -> Option<Resolution> {
    let digest = names::published(site.image_path.as_ref()?, reference)?;
    Some(Resolution::Published(digest, why.to_string()))
}

/// The gateway's own sentence, unless it does not even say which image it means, as Shifter's does not.
fn not_pulled(reference: &ImageRef, told: Failure) -> Failure {
    if told.text.contains(&reference.tag_text()) {
        return told.with_hint("`imgctl list` shows what is there");
    }
    let text = format!("{reference} has not been pulled, or you may not use it");
    Failure::new(Exit::NotFound, text).with_hint(match reference.kind() {
        Kind::Docker => format!("`imgctl pull {reference}` pulls it"),
        Kind::Custom | Kind::Id => "`imgctl list` shows what is there".to_string(),
    })
}

fn not_ready(reference: &ImageRef) -> Failure {
    Failure::new(Exit::NotFound, format!("{reference} is not ready yet"))
        .with_hint(format!("`imgctl pull {reference}` waits for it"))
}
