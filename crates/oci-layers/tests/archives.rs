//! Archives that real programs write: GNU tar in its formats, the `tar` crate, and a tree of many small files.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod archive;
mod image;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use archive::{Header, Tar};
use image::{
    Found, FoundKind, assert_same, convert_layers, convert_tars, digest, layer, published, scan,
    unsquash, without_directory_links,
};
use oci_layers::{BlockSize, Compression, Compressor, Options};

fn gnu_tar(arguments: &[&str], directory: &Path) -> Vec<u8> {
    let output = Command::new("tar")
        .args(["--create", "--file=-"])
        .args(arguments)
        .arg("-C")
        .arg(directory)
        .arg(".")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn sparse_tree(directory: &Path) {
    let file = |name: &str, size: u64, parts: &[(u64, &[u8])]| {
        let file = File::create(directory.join(name)).unwrap();
        file.set_len(size).unwrap();
        for (offset, bytes) in parts {
            file.write_all_at(bytes, *offset).unwrap();
        }
    };
    file("dense", 300_000, &[(0, &[7; 300_000])]);
    file("small", 1_000_000, &[(0, b"head"), (500_000, b"middle"), (999_990, b"tail")]);
    file("hole", 5_000_000, &[]);
    file("large", 50_000_001, &[(0, b"head"), (20_000_000, &[9; 300_000]), (50_000_000, b"z")]);
    let many: Vec<(u64, &[u8])> = (0..200).map(|n| (n * 100_000, &b"part"[..])).collect();
    file("many", 30_000_000, &many);
    file("late", 9_000_000, &[(8_388_608, &[1; 600_000])]);
}

#[test]
fn sparse_files_of_all_gnu_formats_come_out_whole() {
    let directory = tempfile::tempdir().unwrap();
    sparse_tree(directory.path());
    let expected = published(scan(directory.path()));
    for format in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let arguments = [&["--sparse", "--hole-detection=raw", "--sort=name"], format].concat();
        let tar = gnu_tar(&arguments, directory.path());
        assert!(tar.len() < 4_000_000, "{format:?} is not sparse: {}", tar.len());
        let (image, summary) = convert_tars(&[tar]).unwrap();
        assert!(summary.bytes < 100_000, "{format:?}: holes take no room: {}", summary.bytes);
        assert_same(&unsquash(image.path()), &expected);
    }
}

#[test]
fn long_names_and_links_of_all_formats_come_out_whole() {
    let directory = tempfile::tempdir().unwrap();
    let long = directory.path().join("d".repeat(200)).join("e".repeat(200));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("f".repeat(200)), "content").unwrap();
    fs::write(directory.path().join("ü".repeat(100)), "more").unwrap();
    fs::hard_link(long.join("f".repeat(200)), directory.path().join("hard")).unwrap();
    std::os::unix::fs::symlink("t".repeat(3000), directory.path().join("soft")).unwrap();
    let expected = published(scan(directory.path()));
    for format in ["--format=gnu", "--format=posix"] {
        let (image, _) = convert_tars(&[gnu_tar(&[format], directory.path())]).unwrap();
        assert_same(&unsquash(image.path()), &expected);
    }
    let ustar = directory.path().join("ustar");
    fs::create_dir_all(ustar.join("p".repeat(90))).unwrap();
    fs::write(ustar.join("p".repeat(90)).join("q".repeat(90)), "prefix").unwrap();
    let (image, _) = convert_tars(&[gnu_tar(&["--format=ustar"], &ustar)]).unwrap();
    assert_same(&unsquash(image.path()), &published(scan(&ustar)));
}

#[test]
fn what_the_tar_crate_writes_comes_out_whole() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |kind, path: &str, link: &str, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o640);
        header.set_mtime(77);
        header.set_size(data.len() as u64);
        if link.is_empty() {
            builder.append_data(&mut header, path, data).unwrap();
        } else {
            builder.append_link(&mut header, path, link).unwrap();
        }
    };
    let long = format!("usr/{}", "long/".repeat(60));
    add(tar::EntryType::Directory, "usr/", "", b"");
    add(tar::EntryType::Regular, &format!("{long}file"), "", b"deep");
    add(tar::EntryType::Link, "hard", &format!("{long}file"), b"");
    add(tar::EntryType::Symlink, "soft", &long, b"");
    let (image, summary) = convert_tars(&[builder.into_inner().unwrap()]).unwrap();
    let found = unsquash(image.path());
    assert_eq!((summary.files, summary.hard_links, summary.links), (1, 1, 1));
    let FoundKind::File(4, content, _) = &found[&b"hard"[..]].kind else { panic!() };
    assert_eq!((*content, found[&b"hard"[..]].links), (digest(b"deep"), 2));
    assert_eq!(found[&b"soft"[..]].kind, FoundKind::Symlink(long.into_bytes()));
}

#[test]
fn a_tree_of_many_small_files_comes_out_whole_from_every_compressor_and_block_size() {
    let directory = tempfile::tempdir().unwrap();
    for n in 0..3000_u32 {
        let parent = directory.path().join(format!("package-{}", n % 40));
        fs::create_dir_all(&parent).unwrap();
        let text = format!("file {n} ").repeat((n % 700) as usize);
        fs::write(parent.join(format!("name-{n}")), text).unwrap();
    }
    let many = directory.path().join("many");
    fs::create_dir(&many).unwrap();
    for n in 0..2000 {
        fs::write(many.join(format!("{n:0>60}")), "").unwrap();
    }
    let tar = gnu_tar(&["--sort=name"], directory.path());
    let expected = published(scan(directory.path()));
    for (compressor, block_size) in [
        (Compressor::default(), 128 << 10),
        (Compressor::gzip(6).unwrap(), 128 << 10),
        (Compressor::zstd(1).unwrap(), 1 << 20),
        (Compressor::zstd(1).unwrap(), 4096),
    ] {
        let block_size = BlockSize::new(block_size).unwrap();
        let options = Options { compressor, block_size, ..Options::default() };
        let (image, summary) =
            convert_layers(vec![layer(&tar, Compression::Gzip)], &options).unwrap();
        assert_eq!((summary.files, summary.entries), (5000, 5041));
        assert_same(&unsquash(image.path()), &expected);
    }
}

#[test]
fn privileged_the_kernel_reads_large_directories_and_sparse_files() {
    let directory = tempfile::tempdir().unwrap();
    sparse_tree(directory.path());
    let many = directory.path().join("many-names");
    fs::create_dir(&many).unwrap();
    for n in 0..6_000 {
        fs::write(many.join(format!("{:0>40}", n * 7)), "").unwrap();
    }
    let tar = gnu_tar(&["--sparse"], directory.path());
    let (image, _) = convert_tars(&[tar]).unwrap();
    let found = without_directory_links(image::mount(image.path()));
    assert_same(&found, &published(scan(directory.path())));
}

#[test]
fn privileged_a_sparse_file_of_5_gib_costs_nothing_and_reads_right() {
    const SIZE: u64 = 5_368_721_465;
    let records: [(&str, &[u8]); 2] =
        [("GNU.sparse.map", b"0,4,4294967300,4,5368721461,4"), ("GNU.sparse.size", b"5368721465")];
    let tar = Tar::default()
        .pax(&records)
        .header(Header::new(b'0', b"large", 0o644, 12))
        .data(b"headpasttail")
        .finish();
    let (image, summary) = convert_tars(&[tar]).unwrap();
    assert!(summary.bytes <= 16_384, "{}", summary.bytes);
    let target = tempfile::tempdir().unwrap();
    image::mounted(image.path(), target.path(), || {
        let file = File::open(target.path().join("large")).unwrap();
        assert_eq!(file.metadata().unwrap().len(), SIZE);
        let read = |offset| {
            let mut bytes = [1; 8];
            file.read_exact_at(&mut bytes, offset).unwrap();
            bytes
        };
        assert_eq!(&read(0), b"head\0\0\0\0");
        assert_eq!(&read((4 << 30) + 2), b"\0\0past\0\0");
        assert_eq!(&read(SIZE - 8), b"\0\0\0\0tail");
    });
}

#[test]
fn a_tree_that_a_distribution_installed_comes_out_whole() {
    let source = Path::new("/usr/share/doc");
    let tar = gnu_tar(&["--format=posix", "--numeric-owner"], source);
    let (image, _) = convert_tars(&[tar]).unwrap();
    let mut expected = published(scan(source));
    // Names outside this tree may count among a file's links.
    let mut found = unsquash(image.path());
    expected.values_mut().chain(found.values_mut()).for_each(|found| found.links = 0);
    assert_same(&found, &expected);
}

#[test]
fn a_dense_file_larger_than_any_buffer_streams_through() {
    let data: Vec<u8> = (0..30_000_000_u32).map(|n| (n >> 3) as u8 ^ (n >> 13) as u8).collect();
    let tar = Tar::default().file("large", 0o644, &data).file("again", 0o600, &data).finish();
    let (image, _) = convert_tars(&[tar]).unwrap();
    let found = unsquash(image.path());
    for name in [&b"large"[..], b"again"] {
        let Found { kind: FoundKind::File(size, content, _), .. } = &found[name] else { panic!() };
        assert_eq!((*size, *content), (30_000_000, digest(&data)));
    }
}
