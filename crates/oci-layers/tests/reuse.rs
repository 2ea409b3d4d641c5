//! Layers taken from other images: the same bytes as without, whatever the other images are.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod archive;
mod image;
mod model;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use archive::Tar;
use image::{Silent, convert_layers, digest, layer, limit_of, unsquash};
use model::{Model, Op, PART, archive};
use oci_layers::{
    BlockSize, Compression, Compressor, ConvertError, Layer, Limit, Limits, Options, Progress,
    Reused, Summary, convert,
};
use proptest::prelude::*;
use tempfile::NamedTempFile;

/// Remembers which layers were read and which were not.
#[derive(Debug, Default)]
struct Done(Mutex<Vec<(usize, bool)>>);

impl Progress for Done {
    fn layer(&self, _: usize, _: u64) {}
    fn layer_done(&self, index: usize, reused: bool) {
        self.0.lock().unwrap().push((index, reused));
    }
    fn written(&self, _: u64) {}
}

struct Made {
    file: NamedTempFile,
    summary: Summary,
    /// The layers that were not read, in order.
    reused: Vec<usize>,
}

impl Made {
    fn bytes(&self) -> Vec<u8> {
        fs::read(self.file.path()).unwrap()
    }

    fn open(&self) -> File {
        File::open(self.file.path()).unwrap()
    }
}

fn options() -> Options {
    let block_size = BlockSize::new(4096).unwrap();
    Options { block_size, workers: 2, readers: 1, ..Options::default() }
}

fn gzipped(tars: &[&[u8]]) -> Vec<Layer> {
    tars.iter().map(|tar| layer(tar, Compression::Gzip)).collect()
}

fn make_with(
    layers: Vec<Layer>,
    sources: Vec<File>,
    options: &Options,
) -> Result<Made, ConvertError> {
    let file = NamedTempFile::new().unwrap();
    let done = Done::default();
    let summary = convert(layers, sources, file.as_file(), options, &done)?;
    let done = done.0.into_inner().unwrap();
    let mut reused: Vec<usize> = done.iter().filter(|done| done.1).map(|done| done.0).collect();
    reused.sort_unstable();
    assert_eq!(summary.reused.layers, reused.len() as u64);
    Ok(Made { file, summary, reused })
}

fn make(tars: &[&[u8]], sources: &[&Made]) -> Made {
    let sources = sources.iter().map(|made| made.open()).collect();
    make_with(gzipped(tars), sources, &options()).unwrap()
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| step()).collect()
}

fn base() -> Vec<u8> {
    Tar::default()
        .dir("usr", 0o755)
        .dir("usr/lib", 0o755)
        .file("usr/lib/large", 0o644, &noise(1, 300_000))
        .file("usr/lib/small", 0o644, b"small")
        .file("usr/lib/zeros", 0o644, &[0; 9000])
        .symlink("lib", "usr/lib")
        .hard_link("usr/lib/again", "usr/lib/large")
        .file("usr/lib/copy", 0o644, &noise(1, 300_000))
        .file("usr/tail", 0o644, &noise(2, 20_000))
        .finish()
}

fn top(text: &str) -> Vec<u8> {
    Tar::default().dir("opt", 0o755).file("opt/app", 0o755, text.as_bytes()).finish()
}

#[test]
fn a_layer_that_another_image_has_is_not_opened_and_gives_the_same_bytes() {
    let (base, old, new) = (base(), top("old"), top("new"));
    let source = make(&[&base, &old], &[]);
    assert_eq!((source.reused.len(), source.summary.reused), (0, Reused::default()));
    let cold = make(&[&base, &new], &[]);
    let mut layers = gzipped(&[&base, &new]);
    layers[0].open = Box::new(|| panic!("this layer must not be read"));
    let warm = make_with(layers, vec![source.open()], &options()).unwrap();
    assert!(warm.bytes() == cold.bytes());
    assert_eq!(warm.reused, [0]);
    assert!((320_000..330_000).contains(&warm.summary.reused.bytes), "{:?}", warm.summary);
    assert_eq!(warm.summary.entries, cold.summary.entries);
    // A source that took the layer over itself is as good as one that read it, and all layers may come from there.
    let third = make(&[&base, &new], &[&warm]);
    assert_eq!(third.reused, [0, 1]);
    assert!(third.bytes() == cold.bytes());
    assert_eq!(third.summary.bytes, fs::metadata(third.file.path()).unwrap().len());
}

#[test]
fn an_image_stays_whole_when_its_source_is_gone() {
    let (base, old, new) = (base(), top("old"), top("new"));
    let source = make(&[&base, &old], &[]);
    let warm = make(&[&base, &new], &[&source]);
    source.file.as_file().set_len(0).unwrap();
    drop(source);
    let cold = make(&[&base, &new], &[]);
    assert_eq!(unsquash(warm.file.path()), unsquash(cold.file.path()));
}

#[test]
fn a_block_that_the_source_left_out_makes_the_layer_read_or_taken_from_the_next_source() {
    let base = base();
    let without = Tar::default().file("usr/lib/.wh.small", 0, b"").finish();
    let lacking = make(&[&base, &without], &[]);
    let full = make(&[&base], &[]);
    for (sources, reused) in [
        (vec![&lacking], vec![]),
        (vec![&lacking, &full], vec![0]),
        (vec![&lacking, &lacking], vec![]),
        (vec![&full], vec![0]),
    ] {
        let warm = make(&[&base], &sources);
        assert_eq!(warm.reused, reused);
        assert!(warm.bytes() == full.bytes());
    }
    // What was left out there may be left out here as well.
    let mut warm = make(&[&base, &without], &[&lacking]);
    assert_eq!(warm.reused, [0, 1]);
    assert!(warm.bytes() == lacking.bytes());
    warm = make(&[&base, &without], &[&full]);
    assert_eq!(warm.reused, [0]);
    assert!(warm.bytes() == lacking.bytes());
}

#[test]
fn layers_that_wait_for_room_do_not_keep_a_layer_from_being_read_after_all() {
    let base = base();
    let without = Tar::default().file("usr/lib/.wh.small", 0, b"").finish();
    let lower = Tar::default().file("huge", 0o644, &noise(7, 20 << 20)).finish();
    let source = make(&[&base, &without], &[]);
    let stack: [&[u8]; 3] = [&lower, &base, &top("app")];
    let options = Options { readers: 1, workers: 1, budget: 1, ..options() };
    let cold = make_with(gzipped(&stack), vec![], &options).unwrap();
    let warm = make_with(gzipped(&stack), vec![source.open()], &options).unwrap();
    assert_eq!(warm.reused, [0; 0]);
    assert!(warm.bytes() == cold.bytes());
}

#[test]
fn more_than_limbo_holds_is_written_by_both_ways_alike() {
    let files = |name: &str, seed| {
        let file =
            |tar: Tar, n| tar.file(&format!("d/{name}{n}"), 0o644, &noise(seed + n, 5 << 20));
        (0..8_u64).fold(Tar::default().dir("d", 0o755), file)
    };
    let lower = files("x", 50).file("kept", 0o644, &noise(9, 70_000)).finish();
    let hides = Tar::default().file("d/.wh..wh..opq", 0, b"").finish();
    let full = make(&[&lower], &[]);
    let cold = make(&[&lower, &hides], &[]);
    assert!(cold.summary.bytes > 30 << 20, "limbo was not full: {:?}", cold.summary);
    assert!(cold.summary.bytes < 40 << 20, "all is there: {:?}", cold.summary);
    for source in [&full, &cold] {
        let warm = make(&[&lower, &hides], &[source]);
        assert!(warm.reused.contains(&0));
        assert!(warm.bytes() == cold.bytes());
    }
}

#[test]
fn an_image_that_was_made_otherwise_is_of_no_use_and_no_error() {
    let base = base();
    let source = make(&[&base], &[]);
    let ways = [
        Options { block_size: BlockSize::new(8192).unwrap(), ..options() },
        Options { compressor: Compressor::zstd(4).unwrap(), ..options() },
        Options { compressor: Compressor::gzip(6).unwrap(), ..options() },
    ];
    for way in ways {
        let cold = make_with(gzipped(&[&base]), vec![], &way).unwrap();
        let warm = make_with(gzipped(&[&base]), vec![source.open()], &way).unwrap();
        assert_eq!(warm.reused, [0; 0]);
        assert!(warm.bytes() == cold.bytes());
        let again = make_with(gzipped(&[&base]), vec![source.open(), cold.open()], &way).unwrap();
        assert_eq!(again.reused, [0]);
        assert!(again.bytes() == cold.bytes());
    }
    let text = tempfile::tempfile().unwrap();
    text.write_all_at(b"no image at all", 0).unwrap();
    let directory = File::open("/").unwrap();
    assert_eq!(
        make_with(gzipped(&[&base]), vec![text, directory], &options()).unwrap().reused,
        [0; 0]
    );
}

#[test]
fn a_diff_id_alone_is_no_proof_but_an_archive_is() {
    let base = base();
    let source = make(&[&base], &[]);
    // As an archive of an image has it: the layer as it is.
    let plain = make_with(vec![layer(&base, Compression::None)], vec![source.open()], &options());
    assert_eq!(plain.unwrap().reused, [0]);
    // Another blob that is said to expand to the same.
    let other = layer(&base, Compression::Zstd);
    assert_eq!(make_with(vec![other], vec![source.open()], &options()).unwrap().reused, [0; 0]);
    let mut lie = layer(&top("mine"), Compression::Gzip);
    lie.diff_id = digest(&base);
    let error = make_with(vec![lie], vec![source.open()], &options()).err().unwrap();
    assert!(error.is_digest_mismatch(), "{error:?}");
    // The right blob with a wrong size.
    let mut wrong = gzipped(&[&base]).remove(0);
    wrong.size += 1;
    let error = make_with(vec![wrong], vec![source.open()], &options()).err().unwrap();
    assert!(error.is_digest_mismatch(), "{error:?}");
}

#[test]
fn limits_count_what_is_not_read() {
    let (base, new) = (base(), top("new"));
    let (source, both) = (make(&[&base], &[]), make(&[&base, &new], &[]));
    let expanded = (base.len() + new.len()) as u64;
    let at = |limits: Limits, sources| {
        make_with(gzipped(&[&base, &new]), sources, &Options { limits, ..options() })
    };
    let limit = |which, value| match which {
        Limit::Entries => Limits { entries: value, ..Limits::default() },
        Limit::FileBytes => Limits { file_bytes: value, ..Limits::default() },
        _ => Limits { expanded_bytes: value, ..Limits::default() },
    };
    let files = 300_000 * 2 + 5 + 9000 + 20_000 + 3;
    for (which, used) in
        [(Limit::Entries, 11), (Limit::FileBytes, files), (Limit::ExpandedBytes, expanded)]
    {
        assert_eq!(at(limit(which, used), vec![source.open()]).unwrap().reused, [0]);
        assert_eq!(at(limit(which, used), vec![both.open()]).unwrap().reused, [0, 1]);
        assert!(at(limit(which, used), vec![]).is_ok());
        for sources in [vec![], vec![source.open()], vec![both.open()]] {
            let error = at(limit(which, used - 1), sources).err().unwrap();
            assert_eq!(limit_of(&error), which);
        }
    }
    // Names that are too long now are read, so that the error is the same.
    let short = || Limits { name_bytes: 4, ..Limits::default() };
    assert_eq!(limit_of(&at(short(), vec![source.open()]).err().unwrap()), Limit::NameBytes);
}

/// An image whose index says, in due form, that its lowest layer has other counts.
fn claiming(made: &Made, counts: [u64; 3]) -> File {
    let mut bytes = made.bytes();
    let foot = bytes.len() - 128;
    let list = u64::from_le_bytes(bytes[foot + 32..foot + 40].try_into().unwrap()) as usize;
    let layers = u64::from_le_bytes(bytes[foot + 16..foot + 24].try_into().unwrap()) as usize;
    for (place, count) in counts.into_iter().enumerate() {
        bytes[list + 72 + 8 * place..][..8].copy_from_slice(&count.to_le_bytes());
    }
    let mut hash = blake3::Hasher::new();
    hash.update(&bytes[foot..foot + 72]).update(&bytes[list..list + 216 * layers]);
    bytes[foot + 72..foot + 104].copy_from_slice(hash.finalize().as_bytes());
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    file
}

#[test]
fn a_source_that_claims_more_than_a_limit_allows_is_passed_over() {
    let (base, new) = (base(), top("new"));
    let (source, cold) = (make(&[&base], &[]), make(&[&base, &new], &[]));
    let honest = [9, 629_005, base.len() as u64];
    let warm = make_with(gzipped(&[&base, &new]), vec![claiming(&source, honest)], &options());
    assert_eq!(warm.unwrap().reused, [0], "it is in due form");
    for place in 0..3 {
        let lying = || {
            let mut counts = honest;
            counts[place] = u64::MAX;
            claiming(&source, counts)
        };
        for (sources, reused) in [(vec![lying()], &[][..]), (vec![lying(), source.open()], &[0])] {
            let made = make_with(gzipped(&[&base, &new]), sources, &options()).unwrap();
            assert_eq!(made.reused, reused);
            assert!(made.bytes() == cold.bytes());
        }
    }
}

#[test]
fn whatever_byte_of_the_index_is_damaged_the_image_is_the_same() {
    let tars = [&base()[..], &top("app")];
    let source = make(&tars, &[]);
    let good = source.bytes();
    let end = u64::from_le_bytes(good[40..48].try_into().unwrap()).next_multiple_of(4096) as usize;
    assert_eq!(good.len() - end, 4096, "the index of so small an image takes one page");
    let damaged = |bytes: &[u8]| {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        make_with(gzipped(&tars), vec![file], &options()).unwrap()
    };
    let padding = good[end..good.len() - 128].iter().rposition(|byte| *byte != 0).unwrap() + end;
    for at in (end..=padding).step_by(5).chain(good.len() - 128..good.len()) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let warm = damaged(&bytes);
        assert!(warm.reused.len() < 2, "nobody noticed byte {at}");
        assert!(warm.bytes() == good, "byte {at}");
    }
    for length in (0..good.len()).rev().step_by(4999).chain(end..end + 5) {
        let warm = damaged(&good[..length]);
        assert_eq!(warm.reused, [0; 0], "cut at {length}");
        assert!(warm.bytes() == good);
    }
    // Bytes in front, behind, or gone from the middle: offsets no longer fit.
    for bytes in [
        [&[0; 4096], &good[..]].concat(),
        [&good[..], &[0; 4096]].concat(),
        [&good[..4096], &good[8192..]].concat(),
    ] {
        let warm = damaged(&bytes);
        assert_eq!(warm.reused, [0; 0]);
        assert!(warm.bytes() == good);
    }
}

#[test]
fn a_source_whose_index_is_gone_when_its_turn_comes_is_of_no_use() {
    let (base, new) = (base(), top("new"));
    let source = make(&[&base], &[]);
    let path = source.file.path().to_owned();
    let mut layers = gzipped(&[&base, &new]);
    let tar = layer(&new, Compression::Gzip).open;
    layers[1].open = Box::new(move || {
        fs::OpenOptions::new().write(true).open(&path)?.set_len(8192)?;
        tar()
    });
    let warm = make_with(layers, vec![source.open()], &options()).unwrap();
    assert_eq!(warm.reused, [0; 0]);
    assert!(warm.bytes() == make(&[&base, &new], &[]).bytes());
}

/// Cuts the source off once the layer's index has been read.
struct Cutting<'a>(&'a Path);

impl Progress for Cutting<'_> {
    fn layer(&self, _: usize, _: u64) {}
    fn layer_done(&self, _: usize, reused: bool) {
        if reused {
            fs::OpenOptions::new().write(true).open(self.0).unwrap().set_len(8192).unwrap();
        }
    }
    fn written(&self, _: u64) {}
}

#[test]
fn a_source_that_is_cut_off_before_it_is_copied_is_an_error_that_says_so() {
    let base = base();
    let source = make(&[&base], &[]);
    let out = tempfile::tempfile().unwrap();
    let watch = Cutting(source.file.path());
    let error = convert(gzipped(&[&base]), vec![source.open()], &out, &options(), &watch);
    let error = error.unwrap_err();
    assert!(error.is_source(), "{error:?}");
    let mut head = [1; 96];
    (&out).read_exact(&mut head).unwrap_or_default();
    assert_ne!(&head[..4], b"hsqs", "a broken image must not be mountable");
}

/// Few names, so that layers hide, replace and link to each other's files.
fn op() -> impl Strategy<Value = Op> {
    let path = || {
        let name = || prop::sample::select(vec!["a", "b", "c"]);
        prop::collection::vec(name(), 1..4).prop_map(|parts| parts.join("/"))
    };
    let size = prop::sample::select(vec![0, 1, 700, 4096, 4097, 9000, 70_000]);
    let sparse = (path(), 0_u8..4, 1_u8..4, prop::sample::select(vec![20_000, 9 << 20]));
    prop_oneof![
        3 => path().prop_map(|path| Op::Dir { path, mode: 0o755, mtime: 7 }),
        6 => (path(), 0_u8..4, size).prop_map(|(path, seed, size)| Op::File {
            path, mode: 0o644, mtime: 1, seed, size
        }),
        1 => sparse.prop_map(|(path, form, seed, size)| Op::Sparse {
            path, form, seed, size, parts: vec![5000, size - PART as u64]
        }),
        1 => (path(), path()).prop_map(|(path, target)| Op::Symlink { path, target, mtime: 3 }),
        3 => (path(), path()).prop_map(|(path, target)| Op::HardLink { path, target }),
        1 => path().prop_map(|path| Op::Special { path, kind: b'6' }),
        2 => path().prop_map(|path| Op::Whiteout { path }),
        1 => path().prop_map(|path| Op::Opaque { path }),
    ]
}

/// Layers of which no entry is impossible where they are stacked in this order.
fn applicable(stack: Vec<Vec<Op>>) -> Vec<Vec<Op>> {
    let mut model = Model::new();
    stack
        .into_iter()
        .map(|mut ops| {
            loop {
                let mut next = model.clone();
                match next.apply(&ops) {
                    Ok(()) => {
                        model = next;
                        return ops;
                    }
                    Err(bad) => drop(ops.remove(bad)),
                }
            }
        })
        .collect()
}

fn layers_of(tars: &[Vec<u8>], chosen: &[usize]) -> Vec<Layer> {
    chosen.iter().map(|at| layer(&tars[at % tars.len()], Compression::None)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_stacks_come_out_the_same_from_whatever_sources(
        stack in prop::collection::vec(prop::collection::vec(op(), 0..16), 1..6),
        others in prop::collection::vec(prop::collection::vec(0_usize..6, 1..6), 0..4),
        workers in 1_usize..4,
        readers in 1_usize..3,
    ) {
        let tars: Vec<_> = applicable(stack).iter().map(|ops| archive(ops)).collect();
        let all: Vec<usize> = (0..tars.len()).collect();
        let cold = convert_layers(layers_of(&tars, &all), &options()).unwrap();
        let cold = (fs::read(cold.0.path()).unwrap(), cold.1);
        // Hard links to nothing make some of them impossible.
        let made = others.iter().filter_map(|chosen| {
            convert_layers(layers_of(&tars, chosen), &options()).ok().map(|made| made.0)
        });
        let files: Vec<NamedTempFile> = made.collect();
        let sources = files.iter().map(|file| File::open(file.path()).unwrap()).collect();
        let options = Options { workers, readers, budget: 1, ..options() };
        let warm = make_with(layers_of(&tars, &all), sources, &options).unwrap();
        prop_assert!(warm.bytes() == cold.0, "{:?}", warm.reused);
        let Summary { reused, .. } = warm.summary;
        prop_assert_eq!(Summary { reused, ..cold.1 }, warm.summary.clone());
        let again = make_with(layers_of(&tars, &all), vec![warm.open()], &options).unwrap();
        prop_assert_eq!(&again.reused, &all);
        prop_assert!(again.bytes() == cold.0);
    }
}

#[test]
fn privileged_a_file_system_that_can_shares_the_blocks() {
    for make_file_system in ["mkfs.xfs -q -m reflink=1", "mkfs.btrfs -q"] {
        let directory = tempfile::tempdir().unwrap();
        let disk = directory.path().join("disk");
        File::create(&disk).unwrap().set_len(400 << 20).unwrap();
        run(&format!("{make_file_system} {}", disk.display()));
        let mounted = directory.path().join("mounted");
        fs::create_dir(&mounted).unwrap();
        run(&format!("mount -o loop {} {}", disk.display(), mounted.display()));
        let _unmount = Unmount(&mounted);

        let base = Tar::default().file("big", 0o644, &noise(4, 40 << 20)).finish();
        let write = |name: &str, text: &str, sources| {
            let file = File::create_new(mounted.join(name)).unwrap();
            let layers = gzipped(&[&base, &top(text)]);
            convert(layers, sources, &file, &options(), &Silent).unwrap();
            file.sync_all().unwrap();
            mounted.join(name)
        };
        let old = write("old", "old", vec![]);
        let new = write("new", "new", vec![File::open(&old).unwrap()]);
        let cold = make(&[&base, &top("new")], &[]);
        assert!(fs::read(&new).unwrap() == cold.bytes());
        let extents = run(&format!("filefrag -v {}", new.display()));
        let shared: u64 = extents.lines().filter(|line| line.contains("shared")).map(pages).sum();
        assert!(shared * 4096 > 39 << 20, "{make_file_system}: {extents}");
    }
}

/// The length column of `filefrag -v`, in blocks of 4096 bytes.
fn pages(line: &str) -> u64 {
    line.split(':').nth(3).unwrap().trim().parse().unwrap()
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        run(&format!("umount {}", self.0.display()));
    }
}

fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
