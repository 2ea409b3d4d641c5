//! A root file system without anything said about it: one layer, and the shortest configuration that there can be.

use image_ref::{Digest, Platform};
use oci_documents::parse_config;

use crate::error::ArchiveError;
use crate::layer::{Layer, hash_bytes};
use crate::members::Members;
use crate::upload::{Section, Upload};
use crate::{Format, Planned, canonical};

/// A tar archive, compressed or not.
pub(crate) fn plan_tar(
    upload: &Upload,
    members: &Members,
    platform: &Platform,
) -> Result<Planned, ArchiveError> {
    if members.count() == 0 {
        return Err(ArchiveError::Empty);
    }
    let layer = Layer::of_tar(upload)?;
    let diff_id = layer.diff_id;
    plan(Format::RootFs, layer, diff_id, platform)
}

/// A squashfs that is the whole upload.
pub(crate) fn plan_squashfs(upload: &Upload, platform: &Platform) -> Result<Planned, ArchiveError> {
    plan_section(Format::Squashfs, upload, upload.section(0, upload.size()), platform)
}

/// A squashfs that is a part of the upload.
pub(crate) fn plan_section(
    format: Format,
    upload: &Upload,
    section: Section,
    platform: &Platform,
) -> Result<Planned, ArchiveError> {
    let layer = Layer::of_squashfs(section, upload.expanded_limit())?;
    // The identity must not depend on how we write a squashfs as a tar archive.
    let content = layer.digest;
    plan(format, layer, content, platform)
}

fn plan(
    format: Format,
    layer: Layer,
    content: Digest,
    platform: &Platform,
) -> Result<Planned, ArchiveError> {
    let bytes = canonical::config(platform, &content);
    let config =
        parse_config(&bytes, 1).map_err(|flaw| ArchiveError::document("platform", flaw))?;
    let layers = vec![layer];
    let digest = canonical::manifest(hash_bytes(&bytes), bytes.len(), &layers);
    Ok(Planned { digest, format, config, layers })
}
