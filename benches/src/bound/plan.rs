//! Which bytes of the layers' archives end up in the image, once each, and in which blocks: found before the clock runs.

use ::tests::images::Layer;
use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;

/// A layer and what of its archive is to be compressed.
#[derive(Clone, Debug)]
pub(crate) struct LayerPlan {
    /// The layer.
    pub(super) layer: Layer,
    /// In the order of the archive.
    pub(super) pieces: Vec<Piece>,
}

/// Bytes of an archive that are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where they begin in the archive.
    pub(super) offset: u64,
    /// How many there are, at most a block.
    pub(super) length: usize,
    /// Whether they share a block with others: the content of a file that is smaller than a block.
    pub(super) shared: bool,
}

/// Reads all layers, lowest first, and plans for each.
///
/// # Errors
/// Where a layer cannot be read.
pub(crate) fn plan(layers: &[Layer]) -> Result<Vec<LayerPlan>> {
    let mut contents = Vec::new();
    for layer in layers {
        let path = &layer.path;
        contents.push(read(path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    let mut hidden = Hidden::default();
    let mut seen = HashSet::new();
    let mut plans = Vec::new();
    for (layer, content) in layers.iter().zip(&contents).rev() {
        let live = content.files.values().filter(|file| !hidden.hides(&file.path));
        let mut pieces: Vec<Piece> =
            live.filter(|file| seen.insert(file.hash)).flat_map(Member::pieces).collect();
        pieces.sort_by_key(|piece| piece.offset);
        plans.push(LayerPlan { layer: layer.clone(), pieces });
        hidden.add(content);
    }
    plans.reverse();
    Ok(plans)
}

/// A regular file in an archive.
#[derive(Clone, Debug)]
struct Member {
    path: String,
    offset: u64,
    size: u64,
    hash: [u8; 32],
}

impl Member {
    fn pieces(&self) -> impl Iterator<Item = Piece> {
        let (offset, size) = (self.offset, self.size);
        let block = super::BLOCK as u64;
        (0..size.div_ceil(block)).map(move |number| {
            let begin = number * block;
            let length = usize::try_from(block.min(size - begin)).unwrap_or(super::BLOCK);
            Piece { offset: offset + begin, length, shared: size < block }
        })
    }
}

/// What one archive says.
#[derive(Debug, Default)]
struct Content {
    /// Files by path: of two with one path the last counts.
    files: BTreeMap<String, Member>,
    /// Everything that is there without being a directory, and what whiteouts name.
    replaced: HashSet<String>,
    /// Directories whose lower content is gone.
    opaque: HashSet<String>,
}

fn read(path: &Path) -> Result<Content> {
    let mut content = Content::default();
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(File::open(path)?)));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = path.trim_start_matches("./").trim_end_matches('/').to_string();
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if name == ".wh..wh..opq" {
            content.opaque.insert(directory.to_string());
            continue;
        }
        if let Some(name) = name.strip_prefix(".wh.") {
            content.replaced.insert(format!("{directory}/{name}").trim_start_matches('/').into());
            continue;
        }
        if entry.header().entry_type().is_dir() {
            continue;
        }
        content.replaced.insert(path.clone());
        if entry.header().entry_type().is_file() && entry.size() > 0 {
            let (offset, size) = (entry.raw_file_position(), entry.size());
            let mut hash = HashWriter(Sha256::new());
            io::copy(&mut entry, &mut hash)?;
            let hash = hash.0.finalize().into();
            content.files.insert(path.clone(), Member { path, offset, size, hash });
        }
    }
    Ok(content)
}

/// What the layers above hide. Hard links that outlive the file they were made of are not followed.
#[derive(Debug, Default)]
struct Hidden {
    replaced: HashSet<String>,
    opaque: HashSet<String>,
}

impl Hidden {
    fn add(&mut self, content: &Content) {
        self.replaced.extend(content.replaced.iter().cloned());
        self.opaque.extend(content.opaque.iter().cloned());
    }

    fn hides(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        self.replaced.contains(path)
            || above.clone().any(|parent| self.replaced.contains(parent))
            || above.chain([""]).any(|parent| self.opaque.contains(parent))
    }
}

struct HashWriter(Sha256);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::tests::images::{Packing, Tree};

    #[test]
    fn only_what_ends_up_in_the_image_is_planned_and_only_once() {
        let directory = std::env::temp_dir().join(format!("bench-plan-{}", std::process::id()));
        let mut lower = Tree::new();
        lower.file("a/kept", 0o644, b"kept").unwrap().file("a/gone", 0o644, b"gone!").unwrap();
        lower.file("b/below", 0o644, b"hidden by an opaque directory").unwrap();
        lower.file("c", 0o644, b"replaced").unwrap();
        let mut upper = Tree::new();
        upper.whiteout("a/gone").unwrap().opaque("b").unwrap().file("c", 0o644, b"new").unwrap();
        upper.file("again", 0o644, b"kept").unwrap();
        upper.file("large", 0o644, &vec![7; super::super::BLOCK + 5]).unwrap();
        let layers = [lower, upper]
            .map(|tree| Layer::pack(&directory, &tree.finish().unwrap(), Packing::Gzip).unwrap());
        let plans = plan(&layers).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        let lengths = |number: usize| -> Vec<usize> {
            plans[number].pieces.iter().map(|piece| piece.length).collect()
        };
        // The upper layer's copy of "kept" is the one that is counted.
        assert_eq!(lengths(0), Vec::<usize>::new());
        assert_eq!(lengths(1), [3, 4, super::super::BLOCK, 5]);
    }
}
