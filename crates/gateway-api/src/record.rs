//! Images as the gateway tells of them.

use image_ref::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

use crate::{ErrorBody, PullEvent};

/// The states of an image, in Shifter's words.
///
/// Shifter's client polls on while it sees `INIT`, `PENDING`, `PULLING`, `EXAMINATION`, `CONVERSION`, `TRANSFER`
/// or `MISSING`, and takes every other word for the end: no further word may be shown while a pull is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Asked for.
    Init,
    /// Waiting for its turn.
    Pending,
    /// Layers are coming in.
    Pulling,
    /// The finished file is being checked.
    Examination,
    /// Layers are being turned into one squashfs.
    Conversion,
    /// The file is being published.
    Transfer,
    /// Published; jobs may use it.
    Ready,
    /// The pull failed; the record says why.
    Failure,
    /// Being removed.
    Expiring,
    /// Removed.
    Expired,
    /// Unknown to the gateway.
    Missing,
}

impl Status {
    /// Every state, in the order of a pull.
    pub const ALL: [Self; 11] = [
        Self::Init,
        Self::Pending,
        Self::Pulling,
        Self::Examination,
        Self::Conversion,
        Self::Transfer,
        Self::Ready,
        Self::Failure,
        Self::Expiring,
        Self::Expired,
        Self::Missing,
    ];

    /// The word on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Pending => "PENDING",
            Self::Pulling => "PULLING",
            Self::Examination => "EXAMINATION",
            Self::Conversion => "CONVERSION",
            Self::Transfer => "TRANSFER",
            Self::Ready => "READY",
            Self::Failure => "FAILURE",
            Self::Expiring => "EXPIRING",
            Self::Expired => "EXPIRED",
            Self::Missing => "MISSING",
        }
    }

    /// The state that a word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Tells whether a pull in this state is still going on.
    pub const fn is_running(self) -> bool {
        matches!(
            self,
            Self::Init
                | Self::Pending
                | Self::Pulling
                | Self::Examination
                | Self::Conversion
                | Self::Transfer
        )
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A value that the gateway knows, or Shifter's word `"MISSING"` in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Known<T> {
    /// Not known; first, because the word would pass for a string value.
    Missing(MissingWord),
    /// The value.
    Value(T),
}

/// The string `"MISSING"` and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MissingWord {
    /// `"MISSING"`.
    #[serde(rename = "MISSING")]
    Missing,
}

impl<T> Known<T> {
    /// The word for a value that is not known.
    pub const MISSING: Self = Self::Missing(MissingWord::Missing);

    /// The value, where it is known.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Missing(_) => None,
        }
    }
}

impl<T> From<Option<T>> for Known<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::MISSING, Self::Value)
    }
}

/// One image or one pull: Shifter's thirteen keys, always all of them and in this order, then Gantry's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The digest in hexadecimal digits, or `MISSING`.
    pub id: String,
    /// The platform, such as the cluster's name.
    pub system: String,
    /// `docker` or `custom`.
    pub itype: String,
    /// Every tag of the image; empty during a pull.
    pub tag: Vec<String>,
    /// The state.
    pub status: Status,
    /// Users who may use the image; empty where it is public.
    #[serde(rename = "userACL")]
    pub user_acl: Vec<u32>,
    /// Groups who may use the image; empty where it is public.
    #[serde(rename = "groupACL")]
    pub group_acl: Vec<u32>,
    /// The environment, each `NAME=value`.
    #[serde(rename = "ENV")]
    pub env: Known<Option<Vec<String>>>,
    /// The entrypoint.
    #[serde(rename = "ENTRY")]
    pub entry: Known<Option<Vec<String>>>,
    /// The working directory.
    #[serde(rename = "WORKDIR")]
    pub workdir: Known<String>,
    /// The labels.
    #[serde(rename = "LABELS")]
    pub labels: Known<BTreeMap<String, String>>,
    /// When it was last pulled, in seconds since 1970; always with a decimal point.
    pub last_pull: Known<f64>,
    /// What is going on, in words.
    pub status_message: Known<String>,

    /// The digest the image is published under, once the reference is resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The size of the published file in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The user id of who pulled it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<u32>,
    /// Whether only its owner and the listed users and groups may use it.
    #[serde(default)]
    pub private: bool,
    /// How long the pull that made it took, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_seconds: Option<f64>,
    /// Why the pull failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ErrorBody>,
    /// How far the pull is, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<PullEvent>,
}

/// The body of a pull request; empty or absent means no access list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    /// User ids with commas between them, as Shifter's client writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_uids: Option<String>,
    /// Group ids with commas between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_gids: Option<String>,
}

/// What goes with an import, in the query of its route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// Whether everybody may use the image.
    #[serde(default)]
    pub public: bool,
    /// User ids with commas between them, who may use the image beside its owner.
    #[serde(default)]
    pub allowed_uids: Option<String>,
    /// Group ids with commas between them.
    #[serde(default)]
    pub allowed_gids: Option<String>,
    /// Which image of the file, by the name that it has there, where there are several.
    #[serde(default)]
    pub image: Option<String>,
}

/// The reply to a list request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListReply {
    /// The images.
    pub list: Vec<Record>,
}

/// The reply to an expire request: `true` queued, `false` not an admin, `null` no such image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// See above.
    pub status: Option<bool>,
}

/// One running or failed pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// The state.
    pub status: Status,
    /// The tag that was asked for.
    pub image: String,
}

/// The reply to a queue request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueReply {
    /// The pulls.
    pub list: Vec<QueueEntry>,
}

/// The reply to a removal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The tag that is gone.
    pub tag: String,
    /// The image it stood for.
    pub digest: Digest,
    /// The tags that the image still has; with none left its file is gone too.
    pub remaining: Vec<String>,
}

/// The reply to an inspect request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// The image.
    #[serde(flatten)]
    pub record: Record,
    /// `os/architecture`.
    pub platform: String,
    /// The default command.
    pub cmd: Vec<String>,
    /// When the image was built, as its configuration says.
    pub created: Option<String>,
    /// Where it was pulled from: registry and repository.
    pub source: String,
    /// What the registry calls the index or manifest that the tag pointed at.
    pub resolved_digest: Option<Digest>,
    /// The layers, lowest first.
    pub layers: Vec<LayerDetail>,
    /// How many of them were taken from images that were there.
    #[serde(default)]
    pub reused_layers: u64,
    /// Files, directories and links in the image.
    pub entries: u64,
    /// What made the file: program, version and options.
    pub made_by: String,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDetail {
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
}

/// The reply to a who-am-I request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoAmI {
    /// The caller's user id as MUNGE says.
    pub uid: u32,
    /// The caller's primary group.
    pub gid: u32,
    /// Whether the caller is an admin of the system.
    pub admin: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Record {
        Record {
            id: "MISSING".into(),
            system: "systemb".into(),
            itype: "docker".into(),
            tag: vec![],
            status: Status::Init,
            user_acl: vec![],
            group_acl: vec![],
            env: Known::MISSING,
            entry: Known::MISSING,
            workdir: Known::MISSING,
            labels: Known::MISSING,
            last_pull: Known::MISSING,
            status_message: Known::MISSING,
            digest: None,
            size: None,
            owner: None,
            private: false,
            pull_seconds: None,
            failure: None,
            progress: None,
        }
    }

    #[test]
    fn a_fresh_record_has_shifters_keys_in_shifters_order() {
        let json = serde_json::to_string(&fresh()).unwrap();
        assert!(json.starts_with(concat!(
            r#"{"id":"MISSING","system":"systemb","itype":"docker","tag":[],"status":"INIT","userACL":[],"#,
            r#""groupACL":[],"ENV":"MISSING","ENTRY":"MISSING","WORKDIR":"MISSING","LABELS":"MISSING","#,
            r#""last_pull":"MISSING","status_message":"MISSING""#
        )), "{json}");
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), fresh());
    }

    #[test]
    fn a_whole_second_keeps_its_decimal_point() {
        let record = Record { last_pull: Known::Value(1_700_000_000.0), ..fresh() };
        assert!(serde_json::to_string(&record).unwrap().contains(r#""last_pull":1700000000.0"#));
    }

    #[test]
    fn every_status_is_known_by_its_word() {
        for status in Status::ALL {
            assert_eq!(Status::from_word(status.as_str()), Some(status));
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
        }
    }
}
