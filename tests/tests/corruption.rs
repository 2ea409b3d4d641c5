//! What a registry hands out damaged: each pull ends with a sentence, nothing is published, nothing is left, and the
//! gateway pulls the next image as if nothing had been.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;
use tests::caller::ALICE;
use tests::images::{Image, Layer, Packing, Tree, busybox, noise, push};
use tests::install::IMAGES;
use tests::on_a_machine;
use tests::pull_site::{PullSite, in_the_making};
use tests::registry::Registry;

/// Pulls all of them at once, and checks that each fails with a reason and none publishes anything.
fn check_refused(references: &[(String, String)]) -> Result<()> {
    let before = published()?;
    thread::scope(|scope| {
        let pulls: Vec<_> = references
            .iter()
            .map(|(reference, what)| scope.spawn(move || check_fails(reference, what)))
            .collect();
        pulls.into_iter().try_for_each(|pull| match pull.join() {
            Ok(checked) => checked,
            Err(panic) => resume_unwind(panic),
        })
    })?;
    check_nothing_new(&before, "one of them")
}

fn check_nothing_new(before: &BTreeSet<String>, what: &str) -> Result<()> {
    let after = published()?;
    ensure!(after == *before, "{what} left {:?}", after.difference(before));
    let left = in_the_making()?;
    ensure!(left.is_empty(), "{what} left {left:?} in the making");
    Ok(())
}
/// Pulls, and checks that it fails with a reason.
fn check_fails(reference: &str, what: &str) -> Result<()> {
    let outcome = ALICE.run(&["imgctl", "pull", reference])?;
    let said = outcome.stderr.clone();
    outcome.failed().with_context(|| format!("{what} was published"))?;
    ensure!(said.contains("imgctl: "), "{what}: no sentence in {said:?}");
    ensure!(!said.contains("panic"), "{what}: {said}");
    Ok(())
}

/// Everything in the image directory but what begins with a dot.
fn published() -> Result<BTreeSet<String>> {
    let names = fs::read_dir(IMAGES)?.flatten().map(|it| it.file_name().into_string());
    Ok(names.flatten().filter(|name| !name.starts_with('.')).collect())
}

/// Where the registry keeps the bytes of a blob or manifest.
fn storage(registry: &Registry, digest: &str) -> Result<PathBuf> {
    let (_, port) =
        registry.name().split_once(':').map(|(_, port)| ((), port.to_owned())).context("a port")?;
    let hex = digest.strip_prefix("sha256:").context("a digest")?;
    let blobs = "data/docker/registry/v2/blobs/sha256";
    let path = format!("/srv/registry-{port}/{blobs}/{}/{hex}/data", &hex[..2]);
    ensure!(fs::exists(&path)?, "the registry does not keep {digest} at {path}");
    Ok(path.into())
}

/// One way to damage some bytes, by number; every number beyond is another place.
fn damaged(bytes: &[u8], number: usize) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    let at = (number * 7919 + 13) % bytes.len();
    match number % 6 {
        0 => damaged[at] ^= 1 << (number / 6 % 8),
        1 => damaged.truncate(at),
        2 => damaged.extend(noise(number as u64, 1 + at)),
        3 => damaged = noise(number as u64, bytes.len()),
        4 => damaged.clear(),
        _ => {
            let end = (at + 300).min(bytes.len());
            damaged.splice(at..end, noise(number as u64, end - at));
        }
    }
    damaged
}

/// A small image with a layer of its own.
fn image(number: usize) -> Result<Image> {
    let mut tree = Tree::new();
    tree.directory("d", 0o755)?;
    tree.file("d/own", 0o644, format!("image {number}\n").repeat(500).as_bytes())?;
    tree.hardlink("hard", "d/own")?.symlink("soft", "d")?;
    tree.file("noise", 0o755, &noise(number as u64, 5000))?;
    let packing = [Packing::Gzip, Packing::Zstd, Packing::Plain][number % 3];
    let layer = Layer::pack(&tests::cluster::layers(), &tree.finish()?, packing)?;
    let mut image = Image::new(vec![layer]);
    image.family = tests::images::Family::Oci;
    Ok(image)
}

#[test]
fn privileged_blobs_damaged_in_the_registry_publish_nothing() -> Result<()> {
    on_a_machine(|machine| {
        let site = PullSite::start(machine)?;
        let mut references = Vec::new();
        for number in 0..36 {
            let image = image(number)?;
            let pushed = push(&site.registry, &format!("damaged:{number}"), &image)?;
            let layer = &image.layers[0].digest;
            // By turns the layer, the manifest and the layer together with the manifest.
            let targets = match number / 6 % 3 {
                0 => vec![layer],
                1 => vec![&pushed.digest],
                _ => vec![layer, &pushed.digest],
            };
            for digest in targets {
                let path = storage(&site.registry, digest)?;
                let bytes = fs::read(&path)?;
                fs::write(&path, damaged(&bytes, number))?;
            }
            references.push((pushed.reference, format!("damage {number}")));
        }
        // At once, because what breaks off is asked for again, after ever longer pauses.
        check_refused(&references)?;
        let sound = push(&site.registry, "sound:1", &busybox(&tests::cluster::layers())?)?;
        ALICE.run(&["imgctl", "pull", &sound.reference])?.ok()?;
        ensure!(site.gateway.pid().is_some() && !site.gateway.log().contains("panicked"));
        Ok(())
    })
}

#[test]
fn privileged_layers_that_are_damaged_and_named_so_publish_nothing_or_a_sound_image() -> Result<()>
{
    on_a_machine(|machine| {
        let site = PullSite::start(machine)?;
        let mut refused = 0;
        for number in 0..36 {
            let mut tree = Tree::new();
            tree.directory("d", 0o755)?.file("d/own", 0o644, &noise(number as u64, 2000))?;
            tree.hardlink("hard", "d/own")?.symlink("soft", "d")?;
            let archive = damaged(&tree.finish()?, number);
            let packing = [Packing::Gzip, Packing::Zstd, Packing::Plain][number / 6 % 3];
            let layer = Layer::pack(&tests::cluster::layers(), &archive, packing)?;
            let image = Image::new(vec![layer]);
            let pushed = push(&site.registry, &format!("odd:{number}"), &image)?;
            let before = published()?;
            let outcome = ALICE.run(&["imgctl", "pull", &pushed.reference])?;
            if outcome.code == 0 {
                // Published: then it can be looked at, by the kernel as well.
                let shown = ALICE.run(&[
                    "gantry",
                    &format!("--image={}", pushed.reference),
                    "--",
                    "/none",
                ])?;
                ensure!(!shown.stderr.contains("cannot mount"), "{shown}");
                continue;
            }
            refused += 1;
            let said = outcome.failed()?;
            ensure!(said.contains("layer 1"), "the layer is not named: {said}");
            check_nothing_new(&before, &format!("archive {number}"))?;
        }
        ensure!(refused > 12, "only {refused} of 36 damaged layers were refused");
        Ok(())
    })
}
