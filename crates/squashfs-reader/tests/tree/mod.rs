//! Trees on disk: what is made for the tests, and what was found, in a form that can be compared.
#![allow(dead_code, reason = "each test program uses its part of this")]

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rustix::fs::{XattrFlags, lsetxattr};
use squashfs_reader::{ReadAt, Rules, stream};
use tempfile::TempDir;

/// Everything about an entry that an import keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: &'static str,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: i64,
    pub(crate) content: Vec<u8>,
    /// The first path, in byte order, of the same file.
    pub(crate) same_as: PathBuf,
}

/// Lists a tree, by paths relative to its root; directories with their own times.
pub(crate) fn list(root: &Path) -> BTreeMap<PathBuf, Found> {
    let mut entries = BTreeMap::new();
    let mut paths = vec![root.to_owned()];
    while let Some(path) = paths.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let kind = metadata.file_type();
        let mut content = Vec::new();
        let kind = if kind.is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "directory"
        } else if kind.is_symlink() {
            content = fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec();
            "symlink"
        } else if kind.is_file() {
            content = fs::read(&path).unwrap();
            "file"
        } else if kind.is_fifo() {
            "fifo"
        } else if kind.is_char_device() {
            content = metadata.rdev().to_le_bytes().to_vec();
            "character device"
        } else if kind.is_block_device() {
            content = metadata.rdev().to_le_bytes().to_vec();
            "block device"
        } else {
            continue; // a socket, which no archive has
        };
        let found = Found {
            kind,
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            mtime: metadata.mtime(),
            content,
            same_as: PathBuf::new(),
        };
        let inode = metadata.ino();
        entries.insert(path.strip_prefix(root).unwrap().to_owned(), (found, inode));
    }
    let mut first = BTreeMap::new();
    let mut listed = BTreeMap::new();
    for (path, (found, inode)) in entries {
        // mksquashfs keeps hard links of files alone.
        let same_as = match found.kind {
            "file" => first.entry(inode).or_insert_with(|| path.clone()).clone(),
            _ => path.clone(),
        };
        listed.insert(path, Found { same_as, ..found });
    }
    listed
}

/// Makes a tree that has one of everything.
pub(crate) fn make(root: &Path) {
    fs::create_dir_all(root).unwrap();
    let noise = noise(1_300_000);
    let file = |name: &str, bytes: &[u8], mode: u32| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    file("empty", b"", 0o600);
    file("small", b"a few bytes\n", 0o644);
    file("text", &b"the quick brown fox jumps over the lazy dog\n".repeat(9000), 0o644);
    file("noise", &noise, 0o755);
    file("exactly/one/block", &noise[..131_072], 0o444);
    file("exactly/one/more", &noise[..131_073], 0o4755);
    file("zeros", &[0; 300_000], 0o644);
    file("same/one", &noise[5..200_000], 0o644);
    file("same/two", &noise[5..200_000], 0o600);
    file(&format!("long/{}/{}", "d".repeat(200), "f".repeat(255)), b"far down", 0o644);
    file("names/with blank", b"1", 0o644);
    file("names/.wh.", b"2", 0o644);
    file("names/newline\nin it", b"3", 0o644);
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"names/not utf-8 \xff\xfe")), b"4").unwrap();
    for n in 0..700 {
        let name = format!("many/{}-{n:04}", "entry".repeat(n % 9));
        file(&name, format!("content {}", n % 50).repeat(n).as_bytes(), 0o640);
    }
    sparse(&root.join("sparse/tail"), 3_000_000, &[(0, b"begins"), (1_500_000, b"middle")]);
    sparse(&root.join("sparse/head"), 1_000_007, &[(1_000_000, b"the end")]);
    sparse(&root.join("sparse/all"), 700_000, &[]);
    let islands: Vec<(u64, &[u8])> = (0..40).map(|n| (n * 400_000, &b"island"[..])).collect();
    sparse(&root.join("sparse/islands"), 40 * 400_000, &islands);
    fs::create_dir(root.join("links")).unwrap();
    symlink("small", root.join("links/short")).unwrap();
    symlink(format!("../{}", "x/".repeat(300)), root.join("links/long")).unwrap();
    for link in ["links/hard", "zz hard"] {
        fs::hard_link(root.join("noise"), root.join(link)).unwrap();
    }
    fs::hard_link(root.join("links/short"), root.join("links/hard-link-of-a-link")).unwrap();
    fs::create_dir(root.join("empty-directory")).unwrap();
    fs::set_permissions(root.join("empty-directory"), Permissions::from_mode(0o1777)).unwrap();
    let mut deep = root.join("deep");
    for n in 0..40 {
        deep = deep.join(format!("level-{n}"));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), b"here").unwrap();
}

/// Adds what only root can make, and what an import leaves out.
pub(crate) fn add_special(root: &Path) {
    for arguments in [
        &["mknod", "null", "c", "1", "3"][..],
        &["mknod", "large-numbers", "b", "259", "70000"],
        &["mkfifo", "fifo"],
        &["chown", "12345:3000000", "text"],
    ] {
        run(Command::new(arguments[0]).args(&arguments[1..]).current_dir(root));
    }
    for (name, key) in
        [("small", "user.note"), ("links/short", "trusted.note"), ("many", "user.note")]
    {
        lsetxattr(root.join(name), key, b"kept nowhere", XattrFlags::empty()).unwrap();
    }
    std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
}

/// Sets the times of everything to moments of the past, each its own.
pub(crate) fn set_times(root: &Path) {
    let entries = list(root);
    // Directories after what they hold.
    for (number, (path, found)) in (0_u64..).zip(entries.iter().rev()) {
        let (path, seconds) = (root.join(path), 1_000_000 + 61 * number);
        if matches!(found.kind, "file" | "directory") {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            File::open(&path).unwrap().set_modified(time).unwrap();
        } else {
            run(Command::new("touch").arg("-h").arg(format!("--date=@{seconds}")).arg(&path));
        }
    }
}

fn sparse(path: &Path, size: u64, parts: &[(u64, &[u8])]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = File::create(path).unwrap();
    for (offset, bytes) in parts {
        file.seek(SeekFrom::Start(*offset)).unwrap();
        file.write_all(bytes).unwrap();
    }
    file.set_len(size).unwrap();
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// Runs a program that must succeed.
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    output.stdout
}

/// Makes an image of a tree with squashfs-tools.
pub(crate) fn mksquashfs(root: &Path, image: &Path, options: &[&str]) {
    let quiet = ["-noappend", "-no-progress", "-quiet"];
    run(Command::new("mksquashfs").arg(root).arg(image).args(quiet).args(options));
}

/// Streams an image into GNU tar.
pub(crate) fn unpack(image: impl ReadAt, what: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar")
        .args(["--extract", "--numeric-owner", "--same-owner", "--preserve-permissions"])
        .arg("--delay-directory-restore") // directories come before what they hold
        .arg("--directory")
        .arg(directory.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut source = stream(image, &Rules::imported()).unwrap_or_else(|e| panic!("{what}: {e}"));
    let copied = std::io::copy(&mut source, &mut tar.stdin.take().unwrap());
    copied.unwrap_or_else(|error| panic!("{what}: {error}"));
    let output = tar.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    directory
}

/// Compares two trees, naming the first difference.
pub(crate) fn assert_same(expected: &Path, found: &Path, what: &str) {
    let (expected, found) = (list(expected), list(found));
    for (path, entry) in &expected {
        let other = found.get(path).unwrap_or_else(|| panic!("{what}: {path:?} is missing"));
        assert_eq!(entry.content.len(), other.content.len(), "{what}: size of {path:?}");
        assert!(entry.content == other.content, "{what}: content of {path:?}");
        let plain = |entry: &Found| Found { content: Vec::new(), ..entry.clone() };
        assert_eq!(plain(entry), plain(other), "{what}: {path:?}");
    }
    assert_eq!(expected.len(), found.len(), "{what}");
}
