//! Stacks of layers show what a simple model says, in which nothing is shared with the converter.
//!
//! Layers are read and merged in memory, without an image, so that very many stacks are tried. The modules are private
//! to their crate, so that their files are compiled in here, as is the model of its tests.
#![no_main]
#![allow(dead_code, unfulfilled_lint_expectations, reason = "a part of these files is used")]

macro_rules! compiled_in {
    ($($name:ident = $path:literal;)*) => { $( #[rustfmt::skip] #[path = $path] mod $name; )* };
}

compiled_in! {
    archive = "../../crates/oci-layers/tests/archive/mod.rs";
    blob = "../../crates/oci-layers/src/blob.rs";
    changeset = "../../crates/oci-layers/src/changeset.rs";
    content = "../../crates/oci-layers/src/content.rs";
    error = "../../crates/oci-layers/src/error.rs";
    gzip = "../../crates/oci-layers/src/gzip.rs";
    image = "../../crates/oci-layers/tests/image/mod.rs";
    layer = "../../crates/oci-layers/src/layer.rs";
    limits = "../../crates/oci-layers/src/limits.rs";
    merge = "../../crates/oci-layers/src/merge.rs";
    model = "../../crates/oci-layers/tests/model/mod.rs";
    path = "../../crates/oci-layers/src/path.rs";
    tar = "../../crates/oci-layers/src/tar/mod.rs";
}

use blob::{Expected, Source};
use content::{BlockSink, Claim, Owner};
use error::LayerError;
use image::FoundKind;
use layer::LayerIndex;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use limits::{Limits, Usage};
use merge::{MergedKind, MergedTree};
use model::{Model, Op, PART};
use squashfs::BlockSize;
use std::collections::BTreeMap;

/// Blocks are looked at by nobody.
struct Unwritten;

impl BlockSink for Unwritten {
    fn submit(&mut self, _: Owner, _: Claim, _: Vec<u8>) -> std::result::Result<(), LayerError> {
        Ok(())
    }
}

fn path(bytes: &mut Unstructured<'_>) -> Result<String> {
    let names =
        ["a", "b", "c", "d", "a", "b", "c", "..", ".", "f~", "a.b", "very-long-name-of-a-file"];
    let start = *bytes.choose(&["", "", "", "/", "./"])?;
    let last = *bytes.choose(&["a", "b", "c", "d", "e"])?;
    let mut path = start.to_owned();
    for _ in 0..bytes.int_in_range(0..=3)? {
        path = path + *bytes.choose(&names)? + "/";
    }
    Ok(path + last)
}

fn op(bytes: &mut Unstructured<'_>) -> Result<Op> {
    let which = bytes.int_in_range(0..=19_u8)?;
    let path = path(bytes)?;
    Ok(match which {
        0..=3 => Op::Dir { path, mode: bytes.arbitrary::<u16>()?.into(), mtime: mtime(bytes)? },
        4..=8 => Op::File {
            path,
            mode: u32::from(bytes.arbitrary::<u16>()?) & 0o7777,
            mtime: mtime(bytes)?,
            seed: bytes.int_in_range(0..=3)?,
            size: bytes.int_in_range(0..=20)?,
        },
        9 => {
            let parts: Vec<u64> = (0..bytes.int_in_range(0..=4_u64)?).map(|at| at * 1000).collect();
            let size = parts.last().map_or(0, |last| last + PART as u64) + 50;
            Op::Sparse { path, form: bytes.int_in_range(0..=3)?, seed: 1, size, parts }
        }
        10..=12 => {
            let targets = ["a", "b/c", "../b", "/c", "/a/../b", ".", "d/e", "../../../c", "/"];
            Op::Symlink { path, target: (*bytes.choose(&targets)?).into(), mtime: mtime(bytes)? }
        }
        13..=15 => Op::HardLink { path, target: self::path(bytes)? },
        16 => Op::Special { path, kind: *bytes.choose(b"346")? },
        17..=18 => Op::Whiteout { path },
        _ => Op::Opaque { path },
    })
}

fn mtime(bytes: &mut Unstructured<'_>) -> Result<i64> {
    Ok(bytes.arbitrary::<u32>()?.into())
}

fn stack(bytes: &mut Unstructured<'_>) -> Result<Vec<Vec<Op>>> {
    let mut layers = Vec::new();
    for _ in 0..bytes.int_in_range(1..=4)? {
        let count = bytes.int_in_range(0..=12)?;
        layers.push((0..count).map(|_| op(bytes)).collect::<Result<_>>()?);
    }
    Ok(layers)
}

fn read(ops: &[Op]) -> std::result::Result<LayerIndex, LayerError> {
    let archive = model::archive(ops);
    let digest = image::digest(&archive);
    let size = archive.len() as u64;
    let watch = |_| true;
    let source = Source::new(Box::new(std::io::Cursor::new(archive)), size, &watch);
    let limits = Limits::default();
    let expected = Expected { digest, diff_id: digest, size };
    let block_size = BlockSize::new(4096).expect("it is a power of two");
    layer::read_layer(source, expected, &Usage::new(&limits), block_size, Unwritten)
        .map(|(index, _)| index)
}

/// What the tree shows: kind, mode and time by path.
fn shown(tree: &MergedTree) -> BTreeMap<Vec<u8>, (String, u32, i64)> {
    let mut shown = BTreeMap::new();
    let mut open = vec![(Vec::new(), MergedTree::ROOT)];
    while let Some((name, index)) = open.pop() {
        let node = tree.node(index).expect("it is in the tree");
        let kind = match &node.kind {
            MergedKind::Special(_) => continue,
            MergedKind::Symlink(target) => format!("link to {}", target.escape_ascii()),
            MergedKind::File { .. } => "file".to_owned(),
            MergedKind::Directory(directory) => {
                for (child, node) in &directory.children {
                    let separator: &[u8] = if name.is_empty() { b"" } else { b"/" };
                    open.push(([&name, separator, child].concat(), *node));
                }
                "directory".to_owned()
            }
        };
        shown.insert(name, (kind, node.mode.into(), node.mtime.into()));
    }
    shown
}

fn expected(model: &Model) -> BTreeMap<Vec<u8>, (String, u32, i64)> {
    let listing = model.listing().into_iter();
    let kind = |kind: FoundKind| match kind {
        FoundKind::Directory => "directory".to_owned(),
        FoundKind::File(..) => "file".to_owned(),
        FoundKind::Symlink(target) => format!("link to {}", target.escape_ascii()),
        FoundKind::Other => "something else".to_owned(),
    };
    listing.map(|(name, found)| (name, (kind(found.kind), found.mode, found.mtime))).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(stack) = stack(&mut Unstructured::new(bytes)) else { return };
    let mut tree = MergedTree::new(1024);
    let mut model = Model::new();
    for (number, ops) in stack.iter().enumerate() {
        let index = read(ops).expect("the archive is well-formed");
        let applied = tree.apply(number, &index.changeset);
        let modelled = model.apply(ops);
        assert_eq!(applied.is_ok(), modelled.is_ok(), "{applied:?} {ops:?}");
        if applied.is_err() {
            return;
        }
    }
    assert_eq!(shown(&tree), expected(&model));
});
