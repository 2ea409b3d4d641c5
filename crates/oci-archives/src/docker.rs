//! The archive that `docker save` wrote for ten years: `manifest.json`, configurations, and a tar archive a layer.
//!
//! Its manifest names files, not digests: the digest of a layer that is not compressed is its diff_id, which the
//! configuration names; that of a compressed one is computed. In the older form layers that are there twice are links.

use image_ref::Digest;
use oci_documents::{
    CONFIG_LIMIT, Flaw, LAYER_LIMIT, LayerCompression, MANIFEST_LIMIT, parse_config, parse_json,
};
use serde::Deserialize;

use crate::error::{ArchiveError, shown};
use crate::layer::{Layer, hash, hash_bytes};
use crate::members::Members;
use crate::upload::Packing;
use crate::{Format, Planned, Wanted, canonical};

/// The member that makes a tar archive such an archive.
pub(crate) const MANIFEST: &str = "manifest.json";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Entry {
    fn names(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }
}

/// Plans the one image of the archive, or the one that is asked for.
pub(crate) fn plan(members: &Members, wanted: &Wanted) -> Result<Planned, ArchiveError> {
    let bytes = members.document(MANIFEST, MANIFEST_LIMIT)?;
    let entries: Vec<Entry> =
        parse_json(&bytes).map_err(|why| ArchiveError::document(MANIFEST, Flaw::Invalid(why)))?;
    let entry = choose(entries, wanted.image.as_deref())?;
    if entry.layers.len() > LAYER_LIMIT {
        let count = entry.layers.len();
        return Err(ArchiveError::Limit(format!("it has {count} layers, more than {LAYER_LIMIT}")));
    }
    let config_bytes = match named_digest(&entry.config) {
        Some(digest) => members.checked_document(&entry.config, CONFIG_LIMIT, digest, None)?,
        None => members.document(&entry.config, CONFIG_LIMIT)?,
    };
    let config = parse_config(&config_bytes, entry.layers.len())
        .map_err(|flaw| ArchiveError::document(&shown(entry.config.as_bytes()), flaw))?;
    if !wanted.platform.accepts(&config.platform) {
        let (wanted, offered) = (wanted.platform.clone(), vec![config.platform]);
        return Err(ArchiveError::NoPlatform { wanted, offered });
    }
    let layers = entry.layers.iter().zip(&config.diff_ids);
    let layers = layers
        .map(|(name, diff_id)| plan_layer(members, name, *diff_id))
        .collect::<Result<Vec<_>, _>>()?;
    let digest = canonical::manifest(hash_bytes(&config_bytes), config_bytes.len(), &layers);
    Ok(Planned { digest, format: Format::DockerArchive, config, layers })
}

fn choose(mut entries: Vec<Entry>, wanted: Option<&str>) -> Result<Entry, ArchiveError> {
    let images = entries.iter().enumerate().map(|(at, entry)| match entry.names() {
        [] => format!("an image without a name (the {}.)", at + 1),
        names => shown(names.join(" = ").as_bytes()),
    });
    let error =
        ArchiveError::Choose { wanted: wanted.map(str::to_owned), images: images.collect() };
    if let Some(wanted) = wanted {
        entries.retain(|entry| entry.names().iter().any(|name| name == wanted));
    }
    match entries.pop() {
        Some(entry) if entries.is_empty() => Ok(entry),
        _ => Err(error),
    }
}

fn plan_layer(members: &Members, name: &str, diff_id: Digest) -> Result<Layer, ArchiveError> {
    let place = members.place(name)?;
    let upload = members.upload();
    let mut head = [0; 4];
    let mut stream = std::io::Read::take(upload.stream(place.offset)?, place.size);
    let explain = |error| upload.explain(error);
    let length = read_some(&mut stream, &mut head).map_err(explain)?;
    let compression = match Packing::of(head.get(..length).unwrap_or_default()) {
        Packing::None => LayerCompression::None,
        Packing::Gzip => LayerCompression::Gzip,
        Packing::Zstd => LayerCompression::Zstd,
    };
    let digest = if compression == LayerCompression::None {
        diff_id
    } else {
        let mut whole = std::io::Read::take(upload.stream(place.offset)?, place.size);
        hash(&mut whole).map_err(explain)?.0
    };
    Ok(Layer::of_member(members, place, digest, diff_id, compression))
}

/// Fills as much of `out` as there are bytes.
fn read_some(input: &mut dyn std::io::Read, out: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The digest that a file's name promises: `<digits>.json` or `blobs/sha256/<digits>`.
fn named_digest(name: &str) -> Option<Digest> {
    let last = name.rsplit('/').next()?;
    Digest::from_hex(last.strip_suffix(".json").unwrap_or(last)).ok()
}
