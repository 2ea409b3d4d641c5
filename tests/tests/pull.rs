//! Pulling: progress that is seen, a second pull that costs nothing, many callers and one pull.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use tests::caller::{ALICE, BOB};
use tests::cluster::layers;
use tests::images::{busybox, busybox_with, push_index};
use tests::science::{base, science};
use tests::{Cluster, Plan, on_a_machine};

#[test]
fn privileged_a_large_pull_shows_progress_and_the_second_fetches_nothing() -> Result<()> {
    base()?;
    on_a_machine(|machine| {
        let cluster = Cluster::start(machine, Plan::default())?;
        const BLOBS: &str = "/v2/science/blobs/";
        let image = science(&layers(), 500 << 20)?;
        let pushed = cluster.push("science:500", &image)?;
        ensure!(pushed.size >= 500 << 20, "the image is {} bytes", pushed.size);
        let first = ALICE.run(&["imgctl", "pull", &pushed.reference])?;
        let report = first.to_string();
        first.ok()?;
        ensure!(report.contains(&pushed.digest[..19]), "no digest in:\n{report}");
        let progress: BTreeSet<&str> =
            report.lines().filter(|line| line.contains("layers, ")).collect();
        ensure!(progress.len() >= 2, "layers do not advance in:\n{report}");
        ensure!(report.contains("MiB in "), "no size and time in:\n{report}");
        let fetched = cluster.registry.requests("GET", BLOBS).len();
        ensure!(fetched > 0, "the check of what is fetched sees nothing");
        let second = ALICE.run(&["imgctl", "pull", &pushed.reference])?;
        ensure!(
            cluster.registry.requests("GET", BLOBS).len() == fetched,
            "fetched again: {second}"
        );
        second.ok().map(drop)
    })
}

#[test]
fn privileged_ten_callers_at_once_cause_one_pull() -> Result<()> {
    on_a_machine(|machine| {
        let cluster = Cluster::start(machine, Plan::default())?;
        let image = busybox_with(&layers(), |tree| {
            tree.file("data", 0o644, &tests::images::noise(3, 30 << 20)).map(drop)
        })?;
        let pushed = cluster.push("shared:1", &image)?;
        let pull = |number: usize| {
            let caller = if number.is_multiple_of(2) { ALICE } else { BOB };
            caller.run(&["imgctl", "pull", &pushed.reference])
        };
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let running: Vec<_> = (0..10).map(|number| scope.spawn(move || pull(number))).collect();
            running.into_iter().map(|thread| thread.join()).collect()
        });
        for outcome in outcomes {
            outcome.ok().context("a caller panicked")??.ok()?;
        }
        for layer in &image.layers {
            let path = format!("/v2/shared/blobs/{}", layer.digest);
            let seen = cluster.registry.requests("GET", &path);
            ensure!(seen.len() == 1, "a layer was asked for {} times: {seen:#?}", seen.len());
        }
        Ok(())
    })
}

#[test]
fn privileged_every_way_of_packing_gives_the_same_files() -> Result<()> {
    on_a_machine(|machine| {
        use tests::images::{Family, Layer, Packing};
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let base = busybox(&layers())?;
        let look =
            "cat /etc/packed /opt/old/new; ls /etc/removed /opt/old/gone; cat /root/owner-only";
        for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
            let mut image = base.clone();
            let mut tree = tests::images::Tree::new();
            tree.file("etc/packed", 0o644, format!("{packing:?}\n").as_bytes())?;
            image.layers.push(Layer::pack(&layers(), &tree.finish()?, packing)?);
            image.family = if packing == Packing::Gzip { Family::Docker } else { Family::Oci };
            image.layers[1] = match image.family {
                Family::Oci => image.layers[1].clone(),
                Family::Docker => image.layers[1].repack(&layers(), Packing::Gzip)?,
            };
            let name = format!("packed:{packing:?}").to_lowercase();
            let option = format!("--image={}", cluster.push(&name, &image)?.reference);
            let outcome = ALICE.run(&["srun", &option, "sh", "-c", look])?;
            let expected = format!("{packing:?}\nnew\nreadable all the same\n");
            ensure!(outcome.stdout == expected, "{outcome}");
            ensure!(outcome.stderr.matches("No such file").count() == 2, "{outcome}");
        }
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_an_index_gives_the_image_of_the_nodes_architecture() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let of = |architecture: &str| -> Result<_> {
            let mut image = busybox_with(&layers(), |tree| {
                tree.file("etc/architecture", 0o644, architecture.as_bytes()).map(drop)
            })?;
            image.architecture = architecture.to_string();
            Ok(image)
        };
        let index = push_index(&cluster.registry, "many:1", &[of("arm64")?, of("amd64")?])?;
        let option = format!("--image={}", index.reference);
        let output = ALICE.run(&["srun", &option, "cat", "/etc/architecture"])?.ok()?;
        ensure!(output == "amd64", "{output}");
        let foreign = push_index(&cluster.registry, "foreign:1", &[of("arm64")?])?;
        let said = ALICE.run(&["imgctl", "pull", &foreign.reference])?.failed()?;
        ensure!(said.contains("arm64") && said.contains("amd64"), "{said}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_a_gateway_killed_in_the_middle_of_a_pull_finishes_it_when_it_is_back() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let image = busybox_with(&layers(), |tree| {
            tree.file("data", 0o644, &tests::images::noise(5, 200 << 20)).map(drop)
        })?;
        let pushed = cluster.push("interrupted:1", &image)?;
        let mut client = ALICE
            .command(&["imgctl", "pull", &pushed.reference])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        let partial = format!("{}/.partial", tests::install::IMAGES);
        tests::wait::until("a file in the making", tests::wait::START, || {
            let found = std::fs::read_dir(&partial).into_iter().flatten().flatten();
            let large = found.filter(|it| it.metadata().is_ok_and(|facts| facts.len() > 1 << 20));
            Ok((large.count() > 0).then_some(()))
        })?;
        cluster.gateway.kill();
        cluster.gateway.resume()?;
        // The client that asked is still there: it waits for the gateway, and for the image.
        let status = client.wait()?;
        ensure!(status.success(), "the client ended with {status}");
        ALICE.run(&["imgctl", "pull", &pushed.reference])?.ok()?;
        let left = std::fs::read_dir(&partial).into_iter().flatten().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        ensure!(left.is_empty(), "left in the making: {left:?}");
        let option = format!("--image={}", pushed.reference);
        let size = ALICE.run(&["srun", &option, "stat", "-c", "%s", "/data"])?.ok()?;
        ensure!(size.trim() == (200 << 20).to_string(), "{size}");
        cluster.check_nothing_left()
    })
}
