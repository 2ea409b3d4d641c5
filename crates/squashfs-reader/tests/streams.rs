//! Images that squashfs-tools and squashfs-tools-ng make, as tar streams that GNU tar unpacks.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod tree;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;

use squashfs_reader::{Rules, Section, TarStream, examine, stream};
use tree::{add_special, assert_same, make, mksquashfs, run, set_times, unpack};

fn open(path: &Path) -> File {
    File::open(path).unwrap()
}

#[test]
fn what_mksquashfs_packs_with_any_compressor_and_layout_comes_out_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    make(&root);
    add_special(&root);
    set_times(&root);
    let image = directory.path().join("image");
    for options in [
        &["-comp", "gzip"][..],
        &["-comp", "zstd", "-Xcompression-level", "3", "-b", "1M"],
        &["-comp", "lzo"],
        &["-comp", "lzo", "-Xalgorithm", "lzo1x_1", "-noD"],
        &["-comp", "lzo", "-Xalgorithm", "lzo1x_1_15", "-b", "16K"],
        &["-comp", "lz4"],
        &["-comp", "lz4", "-Xhc", "-b", "64K"],
        &["-comp", "xz"],
        &["-comp", "xz", "-Xbcj", "x86,arm", "-Xdict-size", "50%"],
        &["-comp", "lzma"],
        &["-no-fragments"],
        &["-always-use-fragments"],
        &["-b", "4K"],
        &["-noI", "-noD", "-noF", "-noX"],
        &["-no-exports", "-no-xattrs", "-no-duplicates"],
        &["-no-sparse", "-no-tailends"],
    ] {
        mksquashfs(&root, &image, options);
        let what = options.join(" ");
        assert_same(&root, unpack(open(&image), &what).path(), &what);
    }
}

#[test]
fn what_squashfs_tools_ng_packs_comes_out_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    make(&root);
    set_times(&root);
    let tar = directory.path().join("tar");
    let mut pack = Command::new("tar");
    run(pack.current_dir(directory.path()).args(["--format=posix", "-cf"]).arg(&tar).arg("root"));
    let image = directory.path().join("image");
    for compressor in ["gzip", "zstd", "xz", "lz4"] {
        let mut tar2sqfs = Command::new("tar2sqfs");
        tar2sqfs.args(["-f", "-q", "--root-becomes", "root", "-c", compressor]).arg(&image);
        run(tar2sqfs.stdin(File::open(&tar).unwrap()));
        assert_same(&root, unpack(open(&image), compressor).path(), compressor);
    }
    let mut gensquashfs = Command::new("gensquashfs");
    gensquashfs.args(["-f", "-q", "-k", "-c", "zstd", "--exportable", "-D"]).arg(&root).arg(&image);
    run(&mut gensquashfs);
    let unpacked = unpack(open(&image), "gensquashfs");
    let content = |root: &Path| {
        let entries = tree::list(root).into_iter();
        entries.map(|(path, found)| (path, found.kind, found.content)).collect::<Vec<_>>()
    };
    assert!(content(&root) == content(unpacked.path()), "gensquashfs keeps no hard links");
}

#[test]
fn an_image_inside_another_file_is_read_from_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), b"content").unwrap();
    set_times(&root);
    let image = directory.path().join("image");
    mksquashfs(&root, &image, &["-comp", "zstd"]);
    let mut inside = vec![0xaa; 32_768 + 7];
    inside.extend_from_slice(&fs::read(&image).unwrap());
    let length = inside.len() as u64 - 32_775;
    inside.extend_from_slice(&[0xbb; 5000]);
    fs::write(&image, inside).unwrap();
    let section = Section::new(open(&image), 32_775, length).unwrap();
    assert_same(&root, unpack(section, "section").path(), "section");
}

#[test]
fn the_same_image_gives_the_same_stream_in_pieces_of_any_size() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    make(&root);
    let image = directory.path().join("image");
    mksquashfs(&root, &image, &["-comp", "zstd", "-b", "16K"]);
    let open_stream = || stream(open(&image), &Rules::imported()).unwrap();
    let mut whole = Vec::new();
    open_stream().read_to_end(&mut whole).unwrap();
    let mut pieces = Vec::new();
    let mut source = open_stream();
    for size in (1..4000).cycle().step_by(7) {
        let mut piece = vec![0; size];
        match source.read(&mut piece).unwrap() {
            0 => break,
            length => pieces.extend_from_slice(&piece[..length]),
        }
    }
    assert!(whole == pieces);
    assert_eq!(whole.len() % 512, 0);
}

#[test]
fn a_long_hole_costs_nothing_and_many_holes_little() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    File::create(root.join("hole")).unwrap().set_len(200 << 20).unwrap();
    let image = directory.path().join("image");
    mksquashfs(&root, &image, &["-comp", "gzip", "-b", "1M"]);
    let mut bytes = Vec::new();
    stream(open(&image), &Rules::imported()).unwrap().read_to_end(&mut bytes).unwrap();
    assert!(bytes.len() < 4096, "{}", bytes.len());

    // 20,000 islands are more than a header should list, so some holes are given as zeros.
    fs::remove_file(root.join("hole")).unwrap();
    let mut content = vec![0; 20_000 * 8192];
    for island in content.chunks_mut(8192) {
        island[0] = 1;
    }
    fs::write(root.join("islands"), &content).unwrap();
    set_times(&root);
    mksquashfs(&root, &image, &["-comp", "gzip", "-b", "4K"]);
    assert_same(&root, unpack(open(&image), "islands").path(), "islands");
}

#[test]
fn the_stream_can_be_moved_to_another_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<TarStream<File>>();
}

#[test]
fn an_image_without_a_file_is_an_archive_of_its_root() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    set_times(&root);
    let image = directory.path().join("image");
    mksquashfs(&root, &image, &[]);
    assert_same(&root, unpack(open(&image), "empty").path(), "empty");
}

#[test]
fn findings_count_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    make(&root);
    add_special(&root);
    let image = directory.path().join("image");
    mksquashfs(&root, &image, &["-comp", "lz4"]);
    let findings = examine(&open(&image), &Rules::imported()).unwrap();
    let entries = tree::list(&root);
    let count = |kind: &str| {
        let of_kind = |(path, found): &(&std::path::PathBuf, &tree::Found)| {
            found.kind == kind && found.same_as == **path
        };
        entries.iter().filter(of_kind).count() as u64
    };
    assert_eq!(findings.files, count("file"));
    assert_eq!(findings.directories, count("directory"));
    assert_eq!(findings.symlinks, count("symlink"));
    assert_eq!(findings.special, 4, "two devices, a fifo and a socket");
    assert_eq!(findings.hard_links, 2);
    let refused = examine(&open(&image), &Rules::published()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the superblock of the image is not valid: the compressor has number 5, which is unknown or not used for published images"
    );
}
