//! An OCI image layout (OCI image specification, "Image Layout") as a tar archive.
//!
//! Everything in it has a digest, and the image is the one that a registry would give: same manifest, same identity. What
//! `docker save` writes today is one too, with `manifest.json` beside it for older readers; that is not looked at.

use std::collections::BTreeMap;

use image_ref::Digest;
use oci_documents::{
    CONFIG_LIMIT, Flaw, INDEX_LIMIT, MANIFEST_LIMIT, ManifestKind, RawDescriptor, choose,
    parse_config, parse_json, parse_kind, parse_manifest,
};
use serde::Deserialize;

use crate::error::{ArchiveError, shown};
use crate::layer::Layer;
use crate::members::Members;
use crate::{Format, Planned, Wanted};

/// The member that says that it is a layout.
pub(crate) const MARKER: &str = "oci-layout";
/// The member that lists its images.
pub(crate) const INDEX: &str = "index.json";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(flatten)]
    descriptor: RawDescriptor,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    platform: Option<serde_json::Value>,
}

impl Entry {
    /// What it is called: by containerd and docker in full, by others by a tag or whatever they like.
    fn name(&self) -> Option<&str> {
        NAMES.iter().find_map(|key| self.annotations.get(*key)).map(String::as_str)
    }

    fn is_called(&self, wanted: &str) -> bool {
        let mut names = NAMES.iter().filter_map(|key| self.annotations.get(*key));
        names.any(|name| name == wanted) || self.descriptor.digest.to_string() == wanted
    }

    fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
    }
}

/// Plans the one image of the layout, or the one that is asked for.
pub(crate) fn plan(members: &Members, wanted: &Wanted) -> Result<Planned, ArchiveError> {
    let marker: Marker = parse(MARKER, &members.document(MARKER, 4096)?)?;
    if !marker.image_layout_version.starts_with("1.") {
        let reason = format!("it is of version {}", shown(marker.image_layout_version.as_bytes()));
        return Err(ArchiveError::Document { name: MARKER.to_owned(), reason });
    }
    let (mut digest, mut size, kind) = find_image(members, wanted)?;
    if kind.is_index() {
        let name = blob(&digest);
        let bytes = read(members, digest, size, kind)?;
        let entry = choose(&bytes, &wanted.platform)
            .map_err(|why| ArchiveError::unchosen(&name, why, &wanted.platform))?;
        (digest, size) = (entry.digest, entry.size);
        return plan_manifest(members, wanted, digest, &read(members, digest, size, entry.kind)?);
    }
    plan_manifest(members, wanted, digest, &read(members, digest, size, kind)?)
}

/// Digest, size and kind of the manifest or index that is meant.
fn find_image(
    members: &Members,
    wanted: &Wanted,
) -> Result<(Digest, u64, ManifestKind), ArchiveError> {
    let bytes = members.document(INDEX, MANIFEST_LIMIT)?;
    let index: Index = parse(INDEX, &bytes)?;
    if index.manifests.len() > INDEX_LIMIT {
        let count = index.manifests.len();
        let why = format!("its {INDEX} lists {count} manifests, more than {INDEX_LIMIT}");
        return Err(ArchiveError::Limit(why));
    }
    let mut entries: Vec<Entry> =
        index.manifests.into_iter().filter(|entry| !entry.is_attestation()).collect();
    let images = entries.iter().map(|entry| {
        let digest = entry.descriptor.digest.to_string();
        entry.name().map_or(digest, |name| shown(name.as_bytes()))
    });
    let images: Vec<String> = images.collect();
    if let Some(name) = &wanted.image {
        entries.retain(|entry| entry.is_called(name));
    }
    let error = ArchiveError::Choose { wanted: wanted.image.clone(), images };
    let Some(first) = entries.first() else { return Err(error) };
    if entries.iter().all(|entry| entry.descriptor.digest == first.descriptor.digest) {
        let kind = ManifestKind::parse(&first.descriptor.media_type)
            .map_err(|why| ArchiveError::document(INDEX, Flaw::Invalid(why)))?;
        return Ok((first.descriptor.digest, first.descriptor.size, kind));
    }
    if wanted.image.is_none() && is_one_image(&entries) {
        let entry = choose(&bytes, &wanted.platform)
            .map_err(|why| ArchiveError::unchosen(INDEX, why, &wanted.platform))?;
        return Ok((entry.digest, entry.size, entry.kind));
    }
    Err(error)
}

/// Tells whether entries are one image for several platforms: one name or none, and each a platform of its own.
fn is_one_image(entries: &[Entry]) -> bool {
    let platforms = || entries.iter().map(|entry| &entry.platform);
    entries.iter().all(|entry| entry.name() == entries.first().and_then(Entry::name))
        && platforms().all(Option::is_some)
        && platforms().enumerate().all(|(at, one)| platforms().skip(at + 1).all(|two| one != two))
}

/// A manifest or index that turns out to be of the kind that led to it.
fn read(
    members: &Members,
    digest: Digest,
    size: u64,
    kind: ManifestKind,
) -> Result<Vec<u8>, ArchiveError> {
    let name = blob(&digest);
    let bytes = members.checked_document(&name, MANIFEST_LIMIT, digest, Some(size))?;
    parse_kind(&bytes, Some(kind.media_type()))
        .map_err(|flaw| ArchiveError::document(&name, flaw))?;
    Ok(bytes)
}

fn plan_manifest(
    members: &Members,
    wanted: &Wanted,
    digest: Digest,
    bytes: &[u8],
) -> Result<Planned, ArchiveError> {
    let manifest = parse_manifest(bytes, digest, &wanted.platform)
        .map_err(|flaw| ArchiveError::document(&blob(&digest), flaw))?;
    let name = blob(&manifest.config.digest);
    let (config_digest, size) = (manifest.config.digest, manifest.config.size);
    let bytes = members.checked_document(&name, CONFIG_LIMIT, config_digest, Some(size))?;
    let config = parse_config(&bytes, manifest.layers.len())
        .map_err(|flaw| ArchiveError::document(&name, flaw))?;
    if !wanted.platform.accepts(&config.platform) {
        let (wanted, offered) = (wanted.platform.clone(), vec![config.platform]);
        return Err(ArchiveError::NoPlatform { wanted, offered });
    }
    let layers = manifest.layers.iter().zip(&config.diff_ids).map(|(layer, diff_id)| {
        let name = blob(&layer.digest);
        let place = members.place(&name)?;
        if place.size != layer.size {
            let (expected, found) = (layer.size, place.size);
            return Err(ArchiveError::Size { name, expected, found });
        }
        Ok(Layer::of_member(members, place, layer.digest, *diff_id, layer.compression))
    });
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    Ok(Planned { digest, format: Format::OciLayout, config, layers })
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, ArchiveError> {
    parse_json(bytes).map_err(|why| ArchiveError::document(name, Flaw::Invalid(why)))
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
