//! Images from files: what docker, skopeo, tar, mksquashfs and Apptainer leave behind, imported and run.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::caller::{ALICE, BOB, ROOT};
use tests::cluster::layers;
use tests::images::{Image, Packing, Pushed, busybox};
use tests::install::IMAGES;
use tests::{Cluster, Plan, on_a_machine};

/// A program of the system, run as root, that must succeed.
fn run(words: &[&str]) -> Result<()> {
    ROOT.run(words)?.ok().map(drop)
}

/// Lets `skopeo` copy what was pushed to `to`, below Alice's home.
fn copy(pushed: &Pushed, to: &str) -> Result<()> {
    let from = format!("docker://{}", pushed.reference.trim_start_matches("docker:"));
    run(&["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", &from, to])
}

/// The tiny image as `docker save` can hold it: it knows no Zstandard.
fn busybox_for_docker() -> Result<Image> {
    let mut image = busybox(&layers())?;
    for layer in &mut image.layers {
        *layer = layer.repack(&layers(), Packing::Gzip)?;
    }
    Ok(image)
}

/// A path in Alice's home, which everything that is made for her can be read in.
fn alices(name: &str) -> PathBuf {
    ALICE.home().join(name)
}

fn hand_over() -> Result<()> {
    run(&["chown", "-R", "alice:alice", "/home/alice"])
}

/// The root file system of the tiny image, unpacked.
fn unpack(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    for layer in &busybox(&layers())?.layers {
        run(&["tar", "-C", text(directory)?, "-xf", text(&layer.path)?])?;
    }
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path of the tests is plain text")
}

/// Imports a file as Alice and has a job print from inside; returns the digest.
fn import_and_run(file: &str, name: &str) -> Result<String> {
    let digest = ALICE.run(&["imgctl", "import", file, "--name", name, "--quiet"])?.ok()?;
    let option = format!("--image=custom:{name}");
    let said = ALICE.run(&["srun", &option, "grep", "^ID=", "/etc/os-release"])?.ok()?;
    ensure!(said == "ID=gantry-test\n", "{file}: {said}");
    let said = ALICE.run(&["gantry", &option, "--", "grep", "^ID=", "/etc/os-release"])?.ok()?;
    ensure!(said == "ID=gantry-test\n", "{file}: {said}");
    Ok(digest.trim().to_string())
}

fn nothing_in_the_making() -> Result<()> {
    tests::wait::until("an empty .partial", tests::wait::START, || {
        let left = fs::read_dir(format!("{IMAGES}/.partial"))?.count();
        Ok((left == 0).then_some(()))
    })
}

#[test]
fn privileged_what_skopeo_and_docker_save_write_is_imported_and_run() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let pushed = cluster.push("busybox:1", &busybox(&layers())?)?;
        let for_docker = cluster.push("docker:1", &busybox_for_docker()?)?;
        copy(&for_docker, &format!("docker-archive:{}", alices("saved.tar").display()))?;
        copy(&pushed, &format!("oci:{}", alices("layout").display()))?;
        copy(&pushed, &format!("oci-archive:{}", alices("layout.tar").display()))?;
        run(&["gzip", "-k", text(&alices("saved.tar"))?])?;
        hand_over()?;

        let saved = import_and_run("saved.tar", "saved:1")?;
        let packed = ALICE.run(&["imgctl", "import", "saved.tar.gz", "--name", "saved:2"])?.ok()?;
        ensure!(packed.contains(&saved) && packed.contains("already there"), "{packed}");

        let layout = import_and_run("layout", "layout:1")?;
        ensure!(layout == pushed.digest, "{layout} is not {}", pushed.digest);
        let archive = ALICE.run(&["imgctl", "import", "layout.tar", "--name", "layout:2"])?.ok()?;
        ensure!(archive.contains(&layout), "{archive}");

        // A pull of the same image gives the same digest and, made anew from the registry, the same bytes.
        let file = format!("{IMAGES}/{}.squashfs", layout.trim_start_matches("sha256:"));
        let imported = fs::read(&file)?;
        for name in ["custom:layout:1", "custom:layout:2"] {
            ALICE.run(&["imgctl", "rm", name])?.ok()?;
        }
        ensure!(!fs::exists(&file)?, "an image without a name is still there");
        ALICE.run(&["imgctl", "pull", &pushed.reference])?.ok()?;
        ensure!(fs::read(&file)? == imported, "the pull gave other bytes");
        let shown = ALICE.run(&["imgctl", "inspect", "--json", "custom:saved:1"])?.ok()?;
        ensure!(shown.contains("import of docker-archive"), "{shown}");
        nothing_in_the_making()?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_a_root_file_system_is_imported_from_tar_squashfs_and_sif() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let tree = alices("tree");
        unpack(&tree)?;
        let tree = text(&tree)?;
        run(&["tar", "-C", tree, "-cf", "/home/alice/rootfs.tar", "."])?;
        for compressor in ["gzip", "xz"] {
            let out = format!("/home/alice/{compressor}.squashfs");
            run(&["mksquashfs", tree, &out, "-quiet", "-no-progress", "-comp", compressor])?;
        }
        fs::write(alices("app.sif"), sif(&fs::read(alices("gzip.squashfs"))?))?;
        hand_over()?;
        import_and_run("rootfs.tar", "rootfs:1")?;
        let squashfs = import_and_run("gzip.squashfs", "org/squashfs:gzip")?;
        let other = import_and_run("xz.squashfs", "org/squashfs:xz")?;
        ensure!(other != squashfs, "two files, one digest");
        ensure!(import_and_run("app.sif", "sif:1")? == squashfs, "a SIF is what is in it");
        let said = ALICE.run(&["imgctl", "import", "tree", "--name", "tree:1"])?.failed_with(2)?;
        ensure!(said.contains("no OCI layout") && said.contains("tar -C tree"), "{said}");
        nothing_in_the_making()?;
        cluster.check_nothing_left()
    })
}

/// A SIF by hand: header, one descriptor, and a squashfs as its primary system partition.
fn sif(squashfs: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"#!/usr/bin/env run-singularity\n");
    put(32, b"SIF_MAGIC\0");
    put(42, b"01\0");
    put(88, &1_u64.to_le_bytes());
    put(96, &128_u64.to_le_bytes());
    put(128, &0x4004_u32.to_le_bytes());
    put(132, &[1]);
    put(145, &4096_u64.to_le_bytes());
    put(153, &(squashfs.len() as u64).to_le_bytes());
    put(329, &1_u32.to_le_bytes());
    put(333, &2_u32.to_le_bytes());
    put(337, b"00\0");
    bytes.extend_from_slice(squashfs);
    bytes
}

#[test]
fn privileged_broken_files_foreign_names_and_interruptions_leave_nothing() -> Result<()> {
    on_a_machine(|machine| {
        let cluster = Cluster::start(machine, Plan::default())?;
        let pushed = cluster.push("docker:1", &busybox_for_docker()?)?;
        copy(&pushed, &format!("docker-archive:{}", alices("saved.tar").display()))?;
        let whole = fs::read(alices("saved.tar"))?;
        fs::write(alices("cut.tar"), &whole[..whole.len() / 2])?;
        let mut changed = whole.clone();
        // In the middle of a layer: only its digest tells.
        let middle = whole.len() / 2;
        changed[middle] ^= 0xff;
        fs::write(alices("changed.tar"), &changed)?;
        fs::write(alices("text"), "hello\n")?;
        hand_over()?;
        for file in ["cut.tar", "changed.tar", "text"] {
            let said = ALICE.run(&["imgctl", "import", file, "--name", "app:1"])?.failed_with(7)?;
            ensure!(said.contains("cannot import custom:app:1: "), "{file}: {said}");
        }
        nothing_in_the_making()?;
        let listed = ROOT.run(&["find", IMAGES, "-name", "*.squashfs"])?.ok()?;
        ensure!(listed.is_empty(), "{listed}");

        ALICE.run(&["imgctl", "import", "saved.tar", "--name", "app:1"])?.ok()?;
        BOB.run(&["imgctl", "inspect", "custom:app:1"])?.failed_with(3)?;
        BOB.run(&["srun", "--image=custom:app:1", "true"])?.failed()?;
        fs::copy(alices("saved.tar"), "/home/bob/saved.tar")?;
        run(&["chown", "bob:bob", "/home/bob/saved.tar"])?;
        let said =
            BOB.run(&["imgctl", "import", "saved.tar", "--name", "app:1"])?.failed_with(4)?;
        ensure!(said.contains("import of another user"), "{said}");
        BOB.run(&["imgctl", "import", "saved.tar", "--name", "bobs:1"])?.ok()?;
        BOB.run(&["imgctl", "inspect", "custom:bobs:1"])?.ok()?;

        // A file that takes its time, and somebody who loses patience.
        fs::write(alices("large.tar"), {
            let mut tree = tests::images::Tree::new();
            tree.file("data", 0o644, &tests::images::noise(9, 200 << 20))?;
            tree.finish()?
        })?;
        hand_over()?;
        let mut client = ALICE
            .command(&["imgctl", "import", "large.tar", "--name", "large:1", "--progress=none"])
            .spawn()?;
        tests::wait::until("an upload", tests::wait::START, || {
            let found = fs::read_dir(format!("{IMAGES}/.partial"))?.count();
            Ok((found > 0).then_some(()))
        })?;
        // `timeout` passes the signal on to the program that it runs.
        ensure!(Command::new("kill").args(["-INT", &client.id().to_string()]).status()?.success());
        ensure!(!client.wait()?.success(), "it should have been interrupted");
        nothing_in_the_making()?;
        ALICE.run(&["imgctl", "inspect", "custom:large:1"])?.failed_with(3).map(drop)
    })
}
