//! Random stacks of layers: the image must show what a simple model says, to every reader.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod archive;
mod image;
mod model;

use image::{assert_same, convert_layers, layer, mount, unsquash, without_directory_links};
use model::{Model, Op, PART, archive};
use oci_layers::{BlockSize, Compression, Options};
use proptest::prelude::*;
use tempfile::NamedTempFile;

/// Few names, so that entries meet each other, and some that need headers of their own.
fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        24 => prop::sample::select(vec!["a", "b", "c", "d", "e"]).prop_map(str::to_owned),
        4 => prop::sample::select(vec!["..", ".", "f~", "a.b", "ü-\n"]).prop_map(str::to_owned),
        1 => (90..160_usize).prop_map(|length| "n".repeat(length)),
    ];
    let parts = prop::collection::vec(name, 1..4);
    (prop::sample::select(vec!["", "", "", "/", "./"]), parts)
        .prop_map(|(start, parts)| format!("{start}{}", parts.join("/")))
        .prop_filter("names something", |path| !matches!(path.rsplit('/').next(), Some("." | "..")))
}

/// Sizes around a block of 4096 bytes, what fills one together, and what needs many.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        prop::sample::select(vec![0, 1, 10, 700, 1365, 2047, 2048, 2049]),
        prop::sample::select(vec![4094, 4095, 4096, 4097, 8191, 8192, 8193, 12_288, 70_000]),
        0..9000_usize,
    ]
}

/// Offsets of parts that lie behind one another, at most as many as an old GNU header holds, and the size.
fn parts() -> impl Strategy<Value = (u64, Vec<u64>)> {
    let gaps = prop::collection::vec(prop_oneof![Just(0), 1..3000_u64, 4000..20_000_u64], 0..5);
    (gaps, prop_oneof![Just(0), 1..10_000_u64]).prop_map(|(gaps, rest)| {
        let mut end = 0;
        let mut parts = Vec::new();
        for gap in &gaps[..gaps.len().min(4)] {
            parts.push(end + gap);
            end += gap + PART as u64;
        }
        (end + rest, parts)
    })
}

fn op() -> impl Strategy<Value = Op> {
    let mode = prop::sample::select(vec![0o644, 0o755, 0o4711, 0o600, 0, 0o2770, 0o1777]);
    let mtime = 0_i64..0x1_0000_0000;
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
    let special = prop::sample::select(b"346".to_vec());
    prop_oneof![
        4 => (path(), mode.clone(), mtime.clone())
            .prop_map(|(path, mode, mtime)| Op::Dir { path, mode, mtime }),
        6 => (path(), mode, mtime.clone(), seed.clone(), size())
            .prop_map(|(path, mode, mtime, seed, size)| Op::File { path, mode, mtime, seed, size }),
        1 => (path(), 0..4_u8, seed, parts()).prop_map(|(path, form, seed, (size, parts))| {
            Op::Sparse { path, form, seed, size, parts }
        }),
        2 => (path(), target, mtime).prop_map(|(path, target, mtime)| Op::Symlink {
            path,
            target: target.to_owned(),
            mtime
        }),
        3 => (path(), path()).prop_map(|(path, target)| Op::HardLink { path, target }),
        1 => (path(), special).prop_map(|(path, kind)| Op::Special { path, kind }),
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

/// A failing stack is made smaller, but not for ever.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, max_shrink_iters: 2000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn unsquashfs_sees_what_the_layers_say(stack in stack()) {
        let (stack, model) = applied(stack);
        let image = converted(&stack);
        assert_same(&unsquash(image.path()), &without_directory_links(model.listing()));
    }
}

proptest! {
    #![proptest_config(cases(128))]

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
