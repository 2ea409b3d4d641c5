//! What the gateway remembers, in the domain's words: images, tags and pulls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use gateway_api::{ErrorBody, Status};
use image_ref::{Access, Digest, ImageRef};
use serde::{Deserialize, Serialize};

use crate::config::SystemName;

/// A moment in seconds since 1970, as Shifter's database keeps it.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Moment(pub f64);

impl Moment {
    /// This moment by the host's clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(since.as_secs_f64())
    }

    /// Seconds from this moment until now; zero where the clock was set back.
    pub fn age(self) -> f64 {
        (Self::now().0 - self.0).max(0.0)
    }
}

/// A published image of one system.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The system it is for.
    pub system: SystemName,
    /// The digest of the manifest of the system's platform; names its files.
    pub digest: Digest,
    /// Every tag that stands for it; may be empty.
    pub tags: Vec<Tag>,
    /// The user who pulled it first.
    pub owner: u32,
    /// Who else may use it.
    pub access: Access,
    /// When it was last pulled or a tag of it was found unchanged.
    pub pulled_at: Moment,
    /// How long the pull that made it took.
    pub pull_seconds: f64,
    /// What was learned when it was made; never changes.
    pub content: Content,
}

/// A reference that stands for an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Tag {
    /// The reference.
    pub reference: ImageRef,
    /// When the registry was last asked what it points at.
    pub checked_at: Moment,
    /// The user whose pull or import it is; unknown of those of earlier versions.
    pub by: Option<u32>,
}

/// What an image holds and where it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The environment, each `NAME=value`.
    pub env: Vec<String>,
    /// The entrypoint.
    pub entrypoint: Vec<String>,
    /// The default command.
    pub cmd: Vec<String>,
    /// The working directory; empty where the image names none.
    pub workdir: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// When the image was built, as its configuration says.
    pub created: Option<String>,
    /// `os/architecture`.
    pub platform: String,
    /// Registry and repository; of an import, of what.
    pub source: String,
    /// The digest of the index or manifest that the reference named.
    pub resolved_digest: Option<Digest>,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
    /// How many of them were not downloaded but taken from images that were there.
    #[serde(default)]
    pub reused_layers: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// Size of the published file in bytes.
    pub size: u64,
    /// What made the file.
    pub made_by: String,
    /// With which options, as [`Conversion`] writes them; empty for an image of a version that did not say it.
    ///
    /// [`Conversion`]: crate::config::Conversion
    #[serde(default)]
    pub made_with: String,
}

/// One layer of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the blob.
    pub digest: Digest,
    /// Digest of the blob's content, the tar archive; unknown of images of earlier versions.
    #[serde(default)]
    pub diff_id: Option<Digest>,
    /// Size of the blob in bytes.
    pub size: u64,
}

impl Content {
    /// What [`Self::source`] says of an image that was made of an uploaded file of this format.
    pub fn imported_from(format: &str) -> String {
        format!("{IMPORTED}{format}")
    }

    /// Tells whether the image was made of an uploaded file, and never pulled.
    pub fn is_imported(&self) -> bool {
        self.source.starts_with(IMPORTED)
    }
}

/// No registry has such a name.
const IMPORTED: &str = "import of ";

impl Image {
    /// The image as it is after a pull: the one that is known with the grant merged in, or the new one.
    pub fn after_pull(known: Option<Self>, new: &Self, grant: &Grant) -> Self {
        match known {
            Some(mut known) => {
                known.admit(grant);
                known.content.clone_from(&new.content);
                known
            }
            None => Self { owner: grant.by, access: grant.first_access(), ..new.clone() },
        }
    }

    /// Tells whether a user with these groups may use the image.
    pub fn admits(&self, uid: u32, gids: &[u32]) -> bool {
        match &self.access {
            Access::Public => true,
            Access::Listed { uids, gids: listed } => {
                uid == self.owner
                    || uids.contains(&uid)
                    || gids.iter().any(|gid| listed.contains(gid))
            }
        }
    }

    /// Tells whether the image is open to listed users alone.
    pub fn is_private(&self) -> bool {
        self.access != Access::Public
    }

    /// The tag with this reference.
    pub fn tag(&self, reference: &ImageRef) -> Option<&Tag> {
        self.tags.iter().find(|tag| tag.reference == *reference)
    }

    /// Admits another user who has just read the image from its registry.
    ///
    /// Whoever could read it without credentials makes it public; nothing makes it private again. Its owner's or an
    /// admin's lists replace the earlier ones; any other user gets in alone, because only the owner decides whom
    /// else to let in.
    pub fn admit(&mut self, grant: &Grant) {
        let Access::Listed { uids, gids } = &mut self.access else { return };
        if grant.public {
            self.access = Access::Public;
        } else if grant.by == self.owner || grant.admin {
            if !grant.uids.is_empty() || !grant.gids.is_empty() {
                *uids = grant.uids.iter().copied().collect();
                *gids = grant.gids.iter().copied().collect();
            }
        } else if !uids.contains(&grant.by) {
            uids.push(grant.by);
        }
    }
}

/// What one finished pull says about who may use the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The user who asked.
    pub by: u32,
    /// Whether that user is an admin of the system.
    pub admin: bool,
    /// Whether the image could be read without credentials.
    pub public: bool,
    /// Users that the image is to be open to, if it is private.
    pub uids: BTreeSet<u32>,
    /// Groups that the image is to be open to, if it is private.
    pub gids: BTreeSet<u32>,
}

impl Grant {
    /// The access of an image that nobody had pulled before.
    pub fn first_access(&self) -> Access {
        if self.public {
            return Access::Public;
        }
        let mut uids = self.uids.clone();
        uids.insert(self.by);
        Access::Listed {
            uids: uids.into_iter().collect(),
            gids: self.gids.iter().copied().collect(),
        }
    }
}

/// What one pull is for: pulls with the same key are the same pull.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PullKey {
    /// The system.
    pub system: SystemName,
    /// The reference.
    pub reference: ImageRef,
    /// With whose eyes the registry is looked at.
    pub scope: Scope,
}

/// With whose eyes a registry is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Without credentials: what is found so, everybody may see.
    Anonymous,
    /// With the credentials of this user.
    User(u32),
}

/// A pull that runs, or one that failed and is still shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Pull {
    /// What it is for.
    pub key: PullKey,
    /// The state: never `READY`, because a pull that succeeded is gone.
    pub status: Status,
    /// What was asked for; `public` is not known yet.
    pub grant: Grant,
    /// When it began.
    pub began_at: Moment,
    /// When its state last changed.
    pub changed_at: Moment,
    /// Why it failed, where it did.
    pub failure: Option<ErrorBody>,
}

/// The right to carry on one pull; lost to whoever claims it later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// What the pull is for.
    pub key: PullKey,
    /// Grows with every claim of the key, so that a claim that was taken over is noticed.
    pub fence: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(by: u32, public: bool, uids: &[u32]) -> Grant {
        let uids = uids.iter().copied().collect();
        Grant { by, admin: false, public, uids, gids: BTreeSet::new() }
    }

    fn image(owner: u32, access: Access) -> Image {
        Image {
            system: SystemName::try_from("c1".to_string()).unwrap(),
            digest: Digest::from_bytes([1; 32]),
            tags: vec![],
            owner,
            access,
            pulled_at: Moment(0.0),
            pull_seconds: 0.0,
            content: Content::default(),
        }
    }

    #[test]
    fn the_first_pull_decides_who_may_use_a_private_image() {
        assert_eq!(grant(1, true, &[2]).first_access(), Access::Public);
        assert_eq!(
            grant(1, false, &[2]).first_access(),
            Access::Listed { uids: vec![1, 2], gids: vec![] }
        );
    }

    #[test]
    fn only_owner_and_admin_replace_the_lists_and_others_get_in_alone() {
        let private = || image(1, grant(1, false, &[]).first_access());
        let mut other = private();
        other.admit(&grant(2, false, &[3]));
        assert!(other.admits(1, &[]) && other.admits(2, &[]) && !other.admits(3, &[]));
        let mut owners = private();
        owners.admit(&grant(1, false, &[4]));
        assert!(owners.admits(1, &[]) && owners.admits(4, &[]) && !owners.admits(2, &[]));
        owners.admit(&grant(1, false, &[]));
        assert!(owners.admits(4, &[]), "no list is no wish to change it");
        let mut admins = private();
        admins.admit(&Grant { admin: true, ..grant(9, false, &[5]) });
        assert!(admins.admits(5, &[]) && !admins.admits(9, &[]));
    }

    #[test]
    fn what_can_be_read_without_credentials_is_public_and_stays_so() {
        let mut image = image(1, grant(1, false, &[]).first_access());
        assert!(!image.admits(7, &[7]));
        image.admit(&grant(2, true, &[]));
        assert!(image.admits(7, &[7]));
        image.admit(&grant(1, false, &[1]));
        assert!(!image.is_private());
    }
}
