//! Images that share layers: what is fetched, that the file is the same, and that each lives without the other.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use tests::caller::{ALICE, BOB, ROOT};
use tests::cluster::layers;
use tests::images::{Image, Layer, Packing, Pushed, Tree, busybox, noise};
use tests::install::IMAGES;
use tests::{Cluster, Plan, on_a_machine};

#[test]
fn privileged_a_second_image_fetches_its_own_layers_alone_and_is_the_same_file() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let [first, second] = two(&cluster)?;
        ALICE.run(&["imgctl", "pull", &first.1.reference])?.ok()?;
        let outcome = ALICE.run(&["imgctl", "pull", &second.1.reference])?;
        ensure!(outcome.stdout.contains(", 3 of 4 layers reused ("), "{outcome}");
        ensure!(outcome.stderr.contains("3 of 4 layers reused"), "no progress: {outcome}");
        outcome.ok()?;
        let (own, shared) = second.0.layers.split_last().context("it has layers")?;
        let path = |layer: &Layer| format!("/v2/second/blobs/{}", layer.digest);
        let fetched = cluster.registry.requests("GET", &path(own)).len();
        ensure!(fetched == 1, "its own layer was asked for {fetched} times");
        for layer in shared {
            let seen = cluster.registry.requests("GET", &path(layer));
            ensure!(seen.is_empty(), "a shared layer was fetched again: {seen:#?}");
        }
        let warm = fs::read(file(&second.1)?)?;

        // A gateway that has nothing else makes the same bytes.
        cluster.gateway.stop()?;
        cluster.gateway.forget()?;
        cluster.gateway.resume()?;
        let outcome = ALICE.run(&["imgctl", "pull", &second.1.reference])?;
        ensure!(!outcome.to_string().contains("reused"), "{outcome}");
        outcome.ok()?;
        ensure!(fs::read(file(&second.1)?)? == warm, "a cold pull makes another file");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_an_image_that_reuses_another_outlives_it() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let [first, second] = two(&cluster)?;
        ALICE.run(&["imgctl", "pull", &first.1.reference])?.ok()?;
        let outcome = BOB.run(&["imgctl", "pull", &second.1.reference])?;
        ensure!(outcome.stdout.contains("3 of 4 layers reused"), "{outcome}");
        check_job(&second)?;
        ALICE.run(&["imgctl", "rm", &first.1.reference])?.ok()?;
        ensure!(!file(&first.1)?.exists(), "the first image is still there");
        check_job(&second)?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_images_on_a_file_system_that_can_share_their_extents() -> Result<()> {
    on_a_machine(|machine| {
        let disk = "/srv/disk";
        fs::File::create(disk)?.set_len(1 << 30)?;
        fs::create_dir_all(IMAGES)?;
        ROOT.run(&["mkfs.xfs", "-q", "-m", "reflink=1", disk])?.ok()?;
        ROOT.run(&["mount", "-t", "xfs", "-o", "loop", disk, IMAGES])?.ok()?;
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let [first, second] = two(&cluster)?;
        ALICE.run(&["imgctl", "pull", &first.1.reference])?.ok()?;
        ensure!(shared_bytes(&file(&first.1)?)? == 0, "the check of what is shared sees too much");
        let before = used()?;
        ALICE.run(&["imgctl", "pull", &second.1.reference])?.ok()?;
        let grown = used()? - before;
        let image = file(&second.1)?;
        let (shared, size) = (shared_bytes(&image)?, image.metadata()?.len());
        ensure!(shared > size * 8 / 10, "{shared} of {size} bytes are shared");
        ensure!(grown < size / 5, "an image of {size} bytes took {grown}");
        check_job(&second)?;
        ALICE.run(&["imgctl", "rm", &first.1.reference])?.ok()?;
        check_job(&second)?;
        cluster.check_nothing_left()
    })
}

/// Two images of four layers of which three are the same, pushed as `first:1` and `second:1`.
fn two(cluster: &Cluster) -> Result<[(Image, Pushed); 2]> {
    let mut base = busybox(&layers())?;
    let mut data = Tree::new();
    data.directory("data", 0o755)?.file("data/large", 0o644, &noise(11, LARGE))?;
    for number in 0..400u32 {
        data.file(&format!("data/{number}"), 0o644, &number.to_le_bytes().repeat(300))?;
    }
    base.layers.push(Layer::pack(&layers(), &data.finish()?, Packing::Gzip)?);
    let of = |name: &str| -> Result<_> {
        let mut image = base.clone();
        let mut own = Tree::new();
        // Something of its own, something of the base changed and something of it gone.
        own.file("etc/own", 0o644, name.as_bytes())?;
        own.file("etc/group", 0o644, name.as_bytes())?.whiteout("data/7")?;
        image.layers.push(Layer::pack(&layers(), &own.finish()?, Packing::Zstd)?);
        let pushed = cluster.push(&format!("{name}:1"), &image)?;
        Ok((image, pushed))
    };
    Ok([of("first")?, of("second")?])
}

/// A job in the second image sees what its layers say, read from the mounted file.
fn check_job(image: &(Image, Pushed)) -> Result<()> {
    let option = format!("--image={}", image.1.reference);
    let look = "cat /etc/own; ls /data/7 2>/dev/null; sha256sum </data/large; wc -c </data/399";
    let said = ALICE.run(&["srun", &option, "sh", "-c", look])?.ok()?;
    let large = Layer::pack(&layers(), &noise(11, LARGE), Packing::Plain)?;
    let expected = format!("second{}  -\n1200\n", &large.digest["sha256:".len()..]);
    ensure!(said == expected, "{said} instead of {expected}");
    Ok(())
}

/// Where the image is published.
fn file(pushed: &Pushed) -> Result<PathBuf> {
    let hex = pushed.digest.strip_prefix("sha256:").context("it has a digest")?;
    Ok(Path::new(IMAGES).join(format!("{hex}.squashfs")))
}

/// Bytes of a file in extents that another file has too, as filefrag(8) shows them.
fn shared_bytes(path: &Path) -> Result<u64> {
    let text = ROOT.run(&["filefrag", "-v", "-b1", &path.display().to_string()])?.ok()?;
    let shared = text.lines().filter(|line| line.contains("shared"));
    // `   0:        0..  409599:     122880..    532479: 409600:             last,shared,eof`
    let length = |line: &str| -> Result<u64> {
        let field = line.split(':').nth(3).with_context(|| format!("no length in: {line}"))?;
        Ok(field.trim().parse()?)
    };
    shared.map(length).sum()
}

/// Bytes that are taken on the image directory's file system.
fn used() -> Result<u64> {
    ROOT.run(&["sync", "--file-system", IMAGES])?.ok()?;
    let text = ROOT.run(&["df", "--output=used", "-B1", IMAGES])?.ok()?;
    Ok(text.lines().last().context("df says nothing")?.trim().parse()?)
}

const LARGE: usize = 24 << 20;
