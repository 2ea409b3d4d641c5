//! A tiny image from Debian's static busybox, with an os-release of its own and traps for the runtime.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Family, Image, Layer, Packing, Tree};

/// What the image's `/etc/os-release` calls itself.
pub const PRETTY_NAME: &str = "Gantry test image";

/// A two-layer image whose layers lie in `directory`.
///
/// # Errors
/// Where busybox-static is not installed.
pub fn busybox(directory: &Path) -> Result<Image> {
    busybox_with(directory, |_| Ok(()))
}

/// The same with further content in its upper layer, so that its digest is its own.
///
/// # Errors
/// As [`busybox`], or as `more` says.
pub fn busybox_with(directory: &Path, more: impl FnOnce(&mut Tree) -> Result<()>) -> Result<Image> {
    let lower = Layer::pack(directory, &lower()?, Packing::Gzip)?;
    let mut upper = Tree::new();
    upper.whiteout("etc/removed")?.opaque("opt/old")?.file("opt/old/new", 0o644, b"new\n")?;
    more(&mut upper)?;
    let upper = Layer::pack(directory, &upper.finish()?, Packing::Zstd)?;
    let mut image = Image::new(vec![lower, upper]);
    // Docker's own family has no media type for Zstandard that every tool knows.
    image.family = Family::Oci;
    Ok(image)
}

fn lower() -> Result<Vec<u8>> {
    let program = fs::read(BUSYBOX).with_context(|| format!("cannot read {BUSYBOX}"))?;
    let applets = Command::new(BUSYBOX).arg("--list").output()?;
    let applets = String::from_utf8(applets.stdout)?;
    let mut tree = Tree::new();
    for directory in ["bin", "dev", "etc", "home", "opt", "opt/old", "proc", "root", "run", "srv"] {
        tree.directory(directory, 0o755)?;
    }
    for directory in ["sys", "usr", "usr/bin", "usr/local", "usr/local/bin", "var", "var/tmp"] {
        tree.directory(directory, 0o755)?;
    }
    tree.directory("tmp", 0o1777)?;
    tree.file("bin/busybox", 0o755, &program)?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        tree.symlink(&format!("bin/{applet}"), "busybox")?;
    }
    // A set-user-id program of root: inside a job it must be as weak as any other.
    tree.directory("opt/elevate", 0o755)?.file("opt/elevate/id", 0o4755, &program)?;
    let release = format!("PRETTY_NAME=\"{PRETTY_NAME}\"\nNAME=Gantry\nID=gantry-test\n");
    tree.file("etc/os-release", 0o644, release.as_bytes())?;
    tree.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
    tree.file("etc/group", 0o644, b"root:x:0:\n")?;
    tree.file("etc/removed", 0o644, b"hidden by the upper layer\n")?;
    tree.file("opt/old/gone", 0o644, b"hidden by the upper layer\n")?;
    tree.file("root/owner-only", 0o600, b"readable all the same\n")?;
    tree.hardlink("etc/release-link", "etc/os-release")?;
    tree.finish()
}

const BUSYBOX: &str = "/bin/busybox";
