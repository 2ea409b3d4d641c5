//! One CDI specification file: its text as types. Opens nothing and knows no host.
//!
//! Fields that are not used here are skipped, so that files of later minor versions are read too.

use super::name::{is_device, is_kind};
use serde::Deserialize;

/// What a file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    cdi_version: String,
    /// `vendor.com/class` of every device in it.
    pub(super) kind: String,
    /// The devices.
    #[serde(default)]
    pub(super) devices: Vec<Device>,
    /// What any of them needs.
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// One device.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// How a container is to differ.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Edits {
    /// `NAME=VALUE`.
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<DeviceNode>,
    pub(super) mounts: Vec<Mount>,
    pub(super) hooks: Vec<Hook>,
    pub(super) additional_gids: Vec<u32>,
}

/// A device node.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeviceNode {
    pub(super) path: String,
    pub(super) host_path: Option<String>,
    /// Some of `rwm`.
    pub(super) permissions: Option<String>,
}

/// A file or directory of the host.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mount {
    pub(super) host_path: String,
    pub(super) container_path: String,
    #[serde(default)]
    pub(super) options: Vec<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

/// A program that another runtime would run as root.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hook {
    pub(super) path: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Yaml,
}

/// Parses the text of a file.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(super) fn parse(text: &str, format: Format) -> Result<Document, String> {
    let document: Document = match format {
        Format::Json => serde_json::from_str(text).map_err(|error| first_line(&error))?,
        Format::Yaml => serde_saphyr::from_str(text).map_err(|error| first_line(&error))?,
    };
    let Document { cdi_version: version, kind, devices, container_edits } = &document;
    // Every version so far is 0.N or 1.N, and minor versions only add fields.
    if !version.starts_with("0.") && !version.starts_with("1.") {
        return Err(format!("cdiVersion `{}` is not known", brief(version)));
    }
    if !is_kind(kind) {
        return Err(format!("kind `{}` is not of the form vendor.com/class", brief(kind)));
    }
    if let Some(device) = devices.iter().find(|device| !is_device(&device.name)) {
        return Err(format!("`{}` cannot be a device's name", brief(&device.name)));
    }
    let edits = devices.iter().map(|device| &device.container_edits).chain([container_edits]);
    for item in edits.flat_map(|edits| &edits.env) {
        let is_setting = item.find('=').is_some_and(|at| at > 0) && !item.contains('\0');
        if !is_setting {
            return Err(format!("env `{}` is not of the form NAME=VALUE", brief(item)));
        }
    }
    Ok(document)
}

fn first_line(error: &impl ToString) -> String {
    brief(error.to_string().lines().next().unwrap_or_default())
}

/// Enough of what somebody else wrote to see what is meant.
pub(super) fn brief(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}
