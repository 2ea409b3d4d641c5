//! The same layers unpacked by umoci and converted by us show the same tree: names, types, modes, sizes, links and
//! their groups, targets, times and contents.
//!
//! The differences are by choice and stated here: owners and modes are those of [`published`], devices and fifos are
//! left out, and a directory that no layer has an entry for has the time of the entry that needed it, not of today
//! (umoci gives today's to the directory above it as well).
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod archive;
mod image;

use std::fs;
use std::path::Path;
use std::process::Command;

use archive::{Header, Tar};
use image::{
    FoundKind, Listing, assert_same, compress, convert_layers, digest, layer, mount, published,
    scan, without_directory_links,
};
use oci_layers::{Compression, Options};

/// Writes an image of these layers as an OCI layout, tagged `latest`.
fn layout(tars: &[Vec<u8>], directory: &Path) {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = digest(bytes).to_string();
        fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes).unwrap();
        (digest, bytes.len())
    };
    let quoted = |digest: image_ref::Digest| format!("\"{digest}\"");
    let diff_ids: Vec<_> = tars.iter().map(|tar| quoted(digest(tar))).collect();
    let layers: Vec<_> = tars
        .iter()
        .map(|tar| {
            let (digest, size) = blob(&compress(tar, Compression::Gzip));
            format!("{{\"mediaType\":\"{OCI}.layer.v1.tar+gzip\",\"digest\":\"{digest}\",\"size\":{size}}}")
        })
        .collect();
    let (config, config_size) = blob(
        format!(
            "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{}},\"rootfs\":{{\"type\":\"layers\",\
             \"diff_ids\":[{}]}}}}",
            diff_ids.join(",")
        )
        .as_bytes(),
    );
    let (manifest, manifest_size) = blob(
        format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{OCI}.manifest.v1+json\",\"config\":{{\"mediaType\":\
             \"{OCI}.config.v1+json\",\"digest\":\"{config}\",\"size\":{config_size}}},\"layers\":[{}]}}",
            layers.join(",")
        )
        .as_bytes(),
    );
    let index = format!(
        "{{\"schemaVersion\":2,\"manifests\":[{{\"mediaType\":\"{OCI}.manifest.v1+json\",\"digest\":\
         \"{manifest}\",\"size\":{manifest_size},\"annotations\":{{\"org.opencontainers.image.ref.name\":\
         \"latest\"}}}}]}}"
    );
    fs::write(directory.join("index.json"), index).unwrap();
    fs::write(directory.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
}

const OCI: &str = "application/vnd.oci.image";

fn unpacked_by_umoci(tars: &[Vec<u8>]) -> Listing {
    let directory = tempfile::tempdir().unwrap();
    let (image, bundle) = (directory.path().join("image"), directory.path().join("bundle"));
    layout(tars, &image);
    let output = Command::new("umoci")
        .args(["unpack", "--image"])
        .arg(format!("{}:latest", image.display()))
        .arg(&bundle)
        .output()
        .unwrap();
    assert!(output.status.success(), "umoci: {}", String::from_utf8_lossy(&output.stderr));
    scan(&bundle.join("rootfs"))
}

/// Compares the image of these layers, mounted by the kernel, with what umoci unpacks; `implicit` are the directories
/// that no layer has an entry for, and those above them.
fn check(tars: &[Vec<u8>], implicit: &[&str]) {
    let layers = tars.iter().map(|tar| layer(tar, Compression::Gzip)).collect();
    let (image, summary) = convert_layers(layers, &Options::default()).unwrap();
    let found = without_directory_links(mount(image.path()));
    assert_eq!(summary.entries + 1, found.len() as u64);
    let mut expected = published(unpacked_by_umoci(tars));
    let specials = expected.values().filter(|found| found.kind == FoundKind::Other).count() as u64;
    assert_eq!(summary.skipped.devices + summary.skipped.fifos, specials);
    expected.retain(|_, found| found.kind != FoundKind::Other);
    for name in implicit {
        let (ours, umocis) = (&found[name.as_bytes()], expected.get_mut(name.as_bytes()).unwrap());
        assert_eq!((&ours.kind, ours.mode), (&FoundKind::Directory, 0o755), "{name}");
        (umocis.mode, umocis.mtime) = (ours.mode, ours.mtime);
    }
    assert_same(&found, &expected);
}

/// A root with an entry of its own, so that its time is the image's.
fn root() -> Tar {
    Tar::default().dir("./", 0o755)
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| step()).collect()
}

#[test]
fn privileged_hard_links_within_and_across_layers_are_as_umocis() {
    let lower = root()
        .file("a", 0o644, b"first")
        .hard_link("b", "a")
        .dir("d", 0o755)
        .hard_link("d/c", "./b")
        .symlink("s", "a")
        .hard_link("t", "s")
        .file("replaced", 0o755, b"old");
    let middle = Tar::default().hard_link("d/across", "a").hard_link("keeps", "replaced");
    let upper = Tar::default()
        .file("replaced", 0o600, b"new")
        .file(".wh.a", 0, b"")
        .hard_link("z", "/d/across");
    check(&[lower.finish(), middle.finish(), upper.finish()], &[]);
}

#[test]
fn privileged_whiteouts_and_opaque_directories_are_as_umocis() {
    let lower = root()
        .file("gone", 0o644, b"g")
        .dir("dir", 0o755)
        .file("dir/x", 0o644, b"x")
        .dir("dir/sub", 0o755)
        .file("dir/sub/y", 0o644, b"y")
        .dir("opaque", 0o711)
        .file("opaque/old", 0o644, b"old")
        .dir("opaque/deep", 0o755)
        .file("opaque/deep/old", 0o644, b"old")
        .dir("again", 0o755)
        .file("again/old", 0o644, b"old");
    let middle = Tar::default()
        .file(".wh.gone", 0, b"")
        .file("dir/.wh.sub", 0, b"")
        .dir("opaque", 0o750)
        .file("opaque/.wh..wh..opq", 0, b"")
        .file("opaque/new", 0o644, b"new")
        .file(".wh.never-there", 0, b"");
    let upper = Tar::default()
        .file("gone", 0o644, b"back again")
        .file(".wh.again", 0, b"")
        .dir("again", 0o700)
        .file("again/new", 0o640, b"new");
    check(&[lower.finish(), middle.finish(), upper.finish()], &[]);
}

#[test]
fn privileged_types_that_change_are_as_umocis() {
    let lower = root()
        .file("file-dir", 0o644, b"f")
        .file("file-link", 0o644, b"f")
        .dir("dir-file", 0o755)
        .file("dir-file/x", 0o644, b"x")
        .dir("dir-link", 0o755)
        .file("dir-link/y", 0o644, b"y")
        .symlink("link-dir", "file-dir")
        .symlink("link-file", "file-link")
        .dir("dir-dir", 0o700)
        .file("dir-dir/kept", 0o644, b"k")
        .special(b'6', "fifo-file");
    let upper = Tar::default()
        .dir("file-dir", 0o755)
        .symlink("file-link", "/dir-file")
        .file("dir-file", 0o644, b"now a file")
        .symlink("dir-link", "nowhere")
        .dir("link-dir", 0o755)
        .file("link-dir/z", 0o644, b"z")
        .file("link-file", 0o644, b"a file")
        .header(Header::new(b'5', b"dir-dir", 0o1777, 0).mtime(1_500_000_000))
        .file("fifo-file", 0o644, b"was a fifo");
    check(&[lower.finish(), upper.finish()], &[]);
}

#[test]
fn privileged_parents_that_are_symbolic_links_are_as_umocis() {
    let lower = root()
        .dir("real", 0o755)
        .dir("real/deep", 0o755)
        .symlink("relative", "real")
        .symlink("absolute", "/real")
        .symlink("climbing", "../../../../real/deep")
        .symlink("chain", "relative/deep");
    let upper = Tar::default()
        .file("relative/one", 0o644, b"1")
        .file("absolute/two", 0o644, b"2")
        .file("climbing/three", 0o644, b"3")
        .file("chain/four", 0o644, b"4")
        .hard_link("five", "chain/four");
    check(&[lower.finish(), upper.finish()], &[]);
}

#[test]
fn privileged_long_names_of_gnu_and_pax_are_as_umocis() {
    let long = format!("{}/{}", "d".repeat(150), "e".repeat(200));
    let target = "t/".repeat(300);
    let gnu = root()
        .dir(&"d".repeat(150), 0o755)
        .dir(&long, 0o755)
        .file(&format!("{long}/{}", "f".repeat(255)), 0o644, b"gnu")
        .symlink("gnu-link", &target)
        .hard_link("gnu-hard", &format!("{long}/{}", "f".repeat(255)));
    let pax = Tar::default()
        .pax(&[("path", format!("{long}/pax").as_bytes()), ("mtime", b"1234567890.75")])
        .file("made-up", 0o644, b"pax")
        .pax(&[("path", b"pax-link"), ("linkpath", target.as_bytes())])
        .symlink("made-up", "made-up")
        .pax(&[("path", b"pax-hard"), ("linkpath", format!("{long}/pax").as_bytes())])
        .hard_link("made-up", "made-up");
    check(&[gnu.finish(), pax.finish()], &[]);
}

#[test]
fn privileged_names_in_any_encoding_are_as_umocis() {
    let names: [&[u8]; 8] = [
        "größe-ελ-日本.txt".as_bytes(),
        b"latin-\xe9\xff",
        b"new\nline",
        b"back\\slash \"quoted\"",
        b" leading and trailing ",
        b"-dash",
        b"tab\tbell\x07",
        b"...",
    ];
    let tar = names.iter().enumerate().fold(root(), |tar, (number, name)| {
        let data = format!("content {number}");
        tar.header(Header::new(b'0', name, 0o644, data.len() as u64)).data(data.as_bytes())
    });
    let unicode = "ü".repeat(120);
    let upper = Tar::default()
        .file(&unicode, 0o644, b"long")
        .pax(&[("path", "päx-ñ".as_bytes()), ("linkpath", "ζ".as_bytes())])
        .symlink("x", "x");
    check(&[tar.finish(), upper.finish()], &[]);
}

#[test]
fn privileged_deep_trees_and_directories_without_an_entry_are_as_umocis() {
    let deep = (1..200).fold(root(), |tar, depth| tar.dir(&"d/".repeat(depth), 0o755));
    let leaf = format!("{}leaf", "d/".repeat(199));
    let upper = Tar::default()
        .file(&leaf, 0o644, b"leaf")
        .file("implicit/also/file", 0o644, b"i")
        .symlink("implicit/link", "also");
    check(&[deep.finish(), upper.finish()], &["", "implicit", "implicit/also"]);
}

#[test]
fn privileged_large_small_empty_and_equal_files_are_as_umocis() {
    const BLOCK: usize = 128 << 10;
    let large = noise(1, 9_000_000);
    let sizes = [0, 1, 511, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK - 1];
    let lower = sizes.iter().fold(root(), |tar, size| {
        tar.file(&format!("size-{size}"), 0o644, &noise(*size as u64, *size))
    });
    let lower = lower
        .file("large", 0o644, &large)
        .file("same", 0o600, &large)
        .file("zeros", 0o644, &vec![0; 3 * BLOCK + 7])
        .file("half", 0o644, &[vec![0; 2 * BLOCK], noise(2, BLOCK)].concat());
    let small = (0..500_usize).fold(Tar::default().dir("small", 0o755), |tar, number| {
        tar.file(&format!("small/{number}"), 0o644, &noise(number as u64 % 50, number % 50 * 90))
    });
    check(&[lower.finish(), small.finish()], &[]);
}

#[test]
fn privileged_modes_of_every_kind_are_as_umocis() {
    let tar = (0..0o10000_u32).filter(|mode| mode % 37 == 0 || *mode >= 0o7770).fold(
        root().dir("d", 0o755),
        |tar, mode| {
            tar.dir(&format!("d/{mode:o}"), mode).file(&format!("f{mode:o}"), mode, b"content")
        },
    );
    check(&[tar.finish()], &[]);
}

#[test]
fn privileged_devices_and_fifos_are_left_out_of_what_umoci_makes() {
    let tar = root()
        .dir("dev", 0o755)
        .special(b'3', "dev/null")
        .special(b'4', "dev/disk")
        .special(b'6', "dev/pipe")
        .file("dev/file", 0o644, b"f");
    check(&[tar.finish()], &[]);
}

#[test]
fn privileged_duplicates_in_one_archive_are_as_umocis() {
    let tar = root()
        .file("twice", 0o644, b"first")
        .hard_link("link", "twice")
        .file("twice", 0o600, b"second, longer")
        .dir("dir", 0o700)
        .file("dir/x", 0o644, b"x")
        .header(Header::new(b'5', b"dir", 0o755, 0).mtime(1_400_000_000))
        .symlink("s", "a")
        .symlink("s", "b");
    check(&[tar.finish()], &[]);
}

#[test]
fn privileged_sparse_files_are_as_gnu_tar_extracts_them() {
    // umoci 0.4.7 cannot read sparse entries.
    let source = tempfile::tempdir().unwrap();
    for (name, size, parts) in
        [("a", 1_000_000, &[0_u64, 500_000, 999_990][..]), ("hole", 300_000, &[]), ("b", 40, &[20])]
    {
        let file = fs::File::create(source.path().join(name)).unwrap();
        file.set_len(size).unwrap();
        for part in parts {
            std::os::unix::fs::FileExt::write_all_at(&file, b"part", *part).unwrap();
        }
    }
    for format in ["--format=gnu", "--format=pax"] {
        let archive = tempfile::NamedTempFile::new().unwrap();
        let extracted = tempfile::tempdir().unwrap();
        let tar = |arguments: &[&str], directory: &Path| {
            let mut command = Command::new("tar");
            command.args(arguments).arg("--file").arg(archive.path()).arg("-C").arg(directory);
            if arguments.contains(&"--create") {
                command.arg(".");
            }
            assert!(command.status().unwrap().success());
        };
        tar(&["--create", "--sparse", "--hole-detection=raw", format], source.path());
        tar(&["--extract", "--preserve-permissions"], extracted.path());
        let bytes = fs::read(archive.path()).unwrap();
        let (image, _) =
            convert_layers(vec![layer(&bytes, Compression::Gzip)], &Options::default()).unwrap();
        let found = without_directory_links(mount(image.path()));
        assert_same(&found, &published(scan(extracted.path())));
    }
}
