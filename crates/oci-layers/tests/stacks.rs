//! Random stacks of layers: the image must show what a simple model says, to every reader.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod archive;
mod image;
mod model;

use image::{FoundKind, Listing, convert_layers, layer, mount, unsquash};
use model::{Model, Op, archive};
use oci_layers::{BlockSize, Compression, Options};
use proptest::prelude::*;
use tempfile::NamedTempFile;

fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "c", "d", "e"]),
        1 => prop::sample::select(vec!["..", ".", "very-long-name-of-a-file", "f~", "a.b"]),
    ];
    let parts = prop::collection::vec(name, 1..4);
    (prop::sample::select(vec!["", "", "", "/", "./"]), parts)
        .prop_map(|(start, parts)| format!("{start}{}", parts.join("/")))
        .prop_filter("names something", |path| !matches!(path.rsplit('/').next(), Some("." | "..")))
}

fn op() -> impl Strategy<Value = Op> {
    let mode = prop::sample::select(vec![0o644, 0o755, 0o4711, 0o600, 0, 0o2770, 0o1777]);
    let mtime = 0_i64..0x1_0000_0000;
    let size = prop::sample::select(vec![0, 1, 10, 700, 4095, 4096, 4097, 9000, 12_288, 70_000]);
    let seed = 0_u8..4;
    let target = prop::sample::select(vec![
        "a",
        "b/c",
        "../b",
        "/c",
        "/a/../b",
        ".",
        "d/e",
        "../../../c",
        "/",
    ]);
    prop_oneof![
        4 => (path(), mode.clone(), mtime.clone())
            .prop_map(|(path, mode, mtime)| Op::Dir { path, mode, mtime }),
        6 => (path(), mode, mtime.clone(), seed, size)
            .prop_map(|(path, mode, mtime, seed, size)| Op::File { path, mode, mtime, seed, size }),
        2 => (path(), target, mtime).prop_map(|(path, target, mtime)| Op::Symlink {
            path,
            target: target.to_owned(),
            mtime
        }),
        3 => (path(), path()).prop_map(|(path, target)| Op::HardLink { path, target }),
        1 => path().prop_map(|path| Op::Fifo { path }),
        2 => path().prop_map(|path| Op::Whiteout { path }),
        1 => path().prop_map(|path| Op::Opaque { path }),
    ]
}

fn stack() -> impl Strategy<Value = Vec<Vec<Op>>> {
    prop::collection::vec(prop::collection::vec(op(), 0..24), 1..6)
}

/// Leaves out the entries that cannot be applied, such as hard links to nothing.
fn applied(stack: Vec<Vec<Op>>) -> (Vec<Vec<Op>>, Model) {
    let mut model = Model::new();
    let mut kept = Vec::new();
    for mut ops in stack {
        loop {
            let mut next = model.clone();
            match next.apply(&ops) {
                Ok(()) => {
                    model = next;
                    break;
                }
                Err(bad) => {
                    ops.remove(bad);
                }
            }
        }
        kept.push(ops);
    }
    (kept, model)
}

fn options() -> Options {
    let block_size = BlockSize::new(4096).unwrap();
    Options { block_size, workers: 3, readers: 2, ..Options::default() }
}

fn converted(stack: &[Vec<Op>]) -> NamedTempFile {
    let compressions = [Compression::None, Compression::Gzip, Compression::Zstd];
    let layers = stack.iter().zip(compressions.iter().cycle());
    let layers = layers.map(|(ops, compression)| layer(&archive(ops), *compression)).collect();
    convert_layers(layers, &options()).unwrap().0
}

fn without_directory_links(mut listing: Listing) -> Listing {
    for found in listing.values_mut() {
        if found.kind == FoundKind::Directory {
            found.links = 0;
        }
    }
    listing
}

fn assert_same(found: &Listing, expected: &Listing) {
    for (name, expected) in expected {
        let name = String::from_utf8_lossy(name);
        assert_eq!(found.get(name.as_bytes()), Some(expected), "{name}");
    }
    assert_eq!(found.len(), expected.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn unsquashfs_sees_what_the_layers_say(stack in stack()) {
        let (stack, model) = applied(stack);
        let image = converted(&stack);
        assert_same(&unsquash(image.path()), &without_directory_links(model.listing()));
    }

    #[test]
    fn privileged_the_kernel_sees_what_the_layers_say(stack in stack()) {
        let (stack, model) = applied(stack);
        let image = converted(&stack);
        assert_same(&mount(image.path()), &model.listing());
    }

    #[test]
    fn what_cannot_be_applied_is_an_error_that_names_its_layer(stack in stack()) {
        let mut model = Model::new();
        let wrong = stack.iter().position(|ops| model.apply(ops).is_err());
        let layers = stack.iter().map(|ops| layer(&archive(ops), Compression::None)).collect();
        match (convert_layers(layers, &options()), wrong) {
            (Ok(_), None) => {}
            (Err(error), Some(index)) => {
                let text = format!("layer {} ", index + 1);
                prop_assert!(error.to_string().starts_with(&text), "{error}");
            }
            (result, wrong) => prop_assert!(false, "{:?} but {wrong:?}", result.err()),
        }
    }

    #[test]
    fn the_same_layers_give_the_same_bytes_whatever_the_threads(stack in stack()) {
        let (stack, _) = applied(stack);
        let bytes = |workers, readers, budget| {
            let options = Options { workers, readers, budget, ..options() };
            let layers =
                stack.iter().map(|ops| layer(&archive(ops), Compression::Gzip)).collect();
            std::fs::read(convert_layers(layers, &options).unwrap().0.path()).unwrap()
        };
        let first = bytes(1, 1, 1);
        for (workers, readers, budget) in [(2, 1, 0), (8, 2, 64 << 20), (2, 8, 1 << 20)] {
            prop_assert!(bytes(workers, readers, budget) == first, "{workers} {readers} {budget}");
        }
    }
}
