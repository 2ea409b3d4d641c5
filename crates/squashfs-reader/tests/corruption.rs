//! Every byte of an image changed, one at a time, and random changes of many: refused, or provably without harm.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod handmade;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use squashfs_reader::{Rules, examine, stream};
use tempfile::NamedTempFile;
use tree::{make, mksquashfs, run};

/// Reads an image in both ways; tells whether it may be published. The stream has an end that is not far away.
fn read(image: &[u8]) -> bool {
    if let Ok(source) = stream(image, &Rules::imported()) {
        // Nothing in these tests has more than a few megabytes; a changed size can say more, as zeros.
        let mut limited = source.take(64 << 20);
        let _ = std::io::copy(&mut limited, &mut std::io::sink());
    }
    examine(image, &Rules::published()).is_ok()
}

/// A small image that an independent program made, by the rules for published ones but for a flag.
fn packed(name: &str, compressor: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    if name == "large" {
        make(&root);
        // What our converter would not write.
        for path in ["exactly/one/more", "names/not utf-8 \u{fffd}"] {
            let _ = fs::remove_file(root.join(path));
        }
    } else {
        fs::create_dir_all(root.join("sub")).unwrap();
        for n in 0..30 {
            fs::write(root.join(format!("sub/file-{n}")), format!("{n}").repeat(n)).unwrap();
        }
        fs::write(root.join("large"), tree::noise(9000)).unwrap();
        fs::hard_link(root.join("large"), root.join("sub/linked")).unwrap();
        std::os::unix::fs::symlink("sub/file-7", root.join("link")).unwrap();
    }
    let image = directory.path().join("image");
    let options = ["-no-xattrs", "-all-root", "-mkfs-time", "0", "-all-time", "5"];
    mksquashfs(&root, &image, &[&options, compressor].concat());
    let mut bytes = fs::read(&image).unwrap();
    // squashfs-tools tells here that it looked for duplicates; our writer does not use the flag.
    bytes[24] &= !0x40;
    bytes
}

#[test]
fn what_mksquashfs_makes_of_files_directories_and_links_may_be_published() {
    for compressor in [
        &["-comp", "zstd", "-Xcompression-level", "3"][..],
        &["-comp", "zstd", "-Xcompression-level", "9", "-b", "1M"],
        &["-comp", "zstd", "-Xcompression-level", "1", "-b", "4K"],
    ] {
        let image = packed("large", compressor);
        let findings = examine(&image, &Rules::published()).unwrap_or_else(|error| {
            panic!("{compressor:?}: {error}");
        });
        assert!(findings.files > 700 && findings.hard_links == 2);
    }
}

/// Fields that any value may stand in, because nobody but the reader of the file can tell what is right: when something
/// was made, who may read it, what it is called, where a link leads; and what a reader does not use at all.
const PLAIN: [&str; 10] = [
    "super.created",
    "options.level",
    "mtime",
    "mode",
    "name",
    "target",
    // Of a file without a fragment, and of one without data.
    "h.offset",
    "h.start",
    "b.start",
    "fragment.unused",
];

/// Fields that decide what a file holds. The examination does not read data: a shorter file, or a block that is said to
/// be compressed and is not, shows when somebody reads it, as other bytes or as an error, of this file alone.
const CONTENT: [&str; 3] = ["a.size", "a.word", "fragment.word"];

#[test]
fn c16_each_changed_byte_is_refused_or_changes_a_plain_value_alone() {
    let image = handmade::image();
    let metadata = image.field("data.fragment").end;
    let mut passed: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for at in (0..image.bytes.len()).filter(|at| *at < 102 || *at >= metadata) {
        for mask in [0x01, 0x02, 0x10, 0x40, 0x80, 0xff] {
            let mut changed = image.bytes.clone();
            changed[at] ^= mask;
            if read(&changed) {
                let field = image.field_at(at).unwrap_or("between").to_owned();
                passed.entry(field).or_default().push(changed);
            }
        }
    }
    let plain = |field: &&String| {
        let last = field.rsplit(['.', '/']).next().unwrap();
        [&PLAIN[..], &CONTENT].concat().iter().any(|plain| field == plain || last == *plain)
    };
    let others: Vec<_> = passed.keys().filter(|field| !plain(field)).collect();
    assert!(others.is_empty(), "{others:?}");
    for field in ["b.mtime", "b.mode", "/l/name", "l.target", "super.created"] {
        assert!(passed.contains_key(field), "the test would not notice if everything were refused");
    }
    // What passed is what other readers understand too.
    for (field, images) in &passed {
        for changed in images {
            assert_eq!(names_by_unsquashfs(changed), 7, "{field}");
        }
    }
}

/// The number of lines that `unsquashfs -lls` lists, after checking that it has no complaint.
fn names_by_unsquashfs(image: &[u8]) -> usize {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(image).unwrap();
    let output = Command::new("unsquashfs").args(["-lln"]).arg(file.path()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{error}");
    let lines = output.stdout.split(|byte| *byte == b'\n');
    lines.filter(|line| line.windows(13).any(|part| part == b"squashfs-root")).count()
}

#[test]
fn privileged_what_passes_is_mounted_with_the_same_names() {
    let image = handmade::image();
    let mut seen = BTreeSet::new();
    // One change of each field is enough for the kernel.
    let metadata = image.field("data.fragment").end;
    for at in (0..image.bytes.len()).filter(|at| *at < 102 || *at >= metadata) {
        let Some(field) = image.field_at(at).filter(|field| !seen.contains(*field)) else {
            continue;
        };
        let mut changed = image.bytes.clone();
        changed[at] ^= 0x01;
        if examine(&changed, &Rules::published()).is_ok() {
            seen.insert(field.to_owned());
            let mut file = NamedTempFile::new().unwrap();
            file.write_all(&changed).unwrap();
            let (inodes, files) = mounted(file.path());
            assert_eq!((inodes, files), (6, 4), "{field}");
        }
    }
    assert!(seen.len() > 10, "{seen:?}");
}

/// Mounts an image with the kernel; counts what is in it, and the files.
fn mounted(image: &Path) -> (usize, usize) {
    let target = tempfile::tempdir().unwrap();
    let mount = |command: &mut Command| {
        // A loop device may be taken by somebody else between choice and use.
        for _ in 0..100 {
            if command.output().unwrap().status.success() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("{command:?} does not succeed");
    };
    let options = ["-t", "squashfs", "-o", "loop,ro"];
    mount(Command::new("mount").args(options).arg(image).arg(target.path()));
    let listed =
        run(Command::new("find").arg(target.path()).args(["-mindepth", "1", "-printf", "%y"]));
    mount(Command::new("umount").arg(target.path()));
    (listed.len(), listed.iter().filter(|kind| **kind == b'f').count())
}

#[test]
fn each_changed_byte_of_a_packed_image_ends_in_an_answer() {
    for compressor in [
        &["-comp", "zstd", "-Xcompression-level", "3", "-b", "4K"][..],
        &["-comp", "gzip", "-b", "4K"],
        &["-comp", "xz", "-b", "4K"],
        &["-comp", "lz4", "-b", "4K"],
        &["-comp", "lzo", "-b", "4K"],
        &["-comp", "lzma", "-b", "4K"],
    ] {
        let image = packed("small", compressor);
        let inodes = u64::from_le_bytes(*image[64..].first_chunk().unwrap()) as usize;
        let used = u64::from_le_bytes(*image[40..].first_chunk().unwrap()) as usize;
        let mut refused = 0;
        for at in (0..110).chain(inodes..used) {
            let mut changed = image.clone();
            changed[at] ^= 1 << (at % 8);
            refused += usize::from(!read(&changed));
        }
        assert!(refused > (used - inodes) / 2, "{compressor:?}: {refused}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(!read(&bytes));
    }

    #[test]
    fn any_changes_end_in_an_answer(
        changes in prop::collection::vec((0_usize..8192, any::<u8>()), 1..12),
        length in 90_usize..8193,
    ) {
        let mut image = handmade::image().bytes;
        let metadata = image.len() - 4096;
        for (at, value) in changes {
            // Most of the data does not matter, so that most changes are made elsewhere.
            let at = if at < 4096 { at % 110 } else { metadata + at - 4096 };
            image[at] = value;
        }
        image.truncate(length.max(image.len() / 2 * usize::from(length % 4 > 0)));
        read(&image);
    }
}
