//! `./bench convert`: the same image turned into a squashfs by us and by others, beside what nobody can do without.
//!
//! Cheap runs (ours, the bound, copies) are made three times, with the others' minutes between them, so that a machine
//! that changes its speed changes it for all. What was made is compared byte by byte before anything is reported.

use ::tests::Machine;
use ::tests::install::IMAGES;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

use crate::bound::{self, LayerPlan};
use crate::compare::{compare, same_bytes};
use crate::copy;
use crate::layers::Layers;
use crate::link::{BYTES_PER_SECOND, Link};
use crate::measure::Cost;
use crate::peers::{self, Peer, Unpacked};
use crate::report::{Report, Target, mib, row};
use crate::site::{Pull, Site};
use crate::statistics::{median, median_of, paired, spread};
use crate::storage::{self, Mounted};

/// Everything that was measured.
#[derive(Debug, Default)]
struct Runs {
    cold: Vec<Pull>,
    warm: Vec<Pull>,
    bound: Vec<Cost>,
    copied: Vec<f64>,
    limited: Vec<Pull>,
    limited_bound: Vec<Cost>,
    cold_clone: Vec<Pull>,
    warm_clone: Vec<Pull>,
    cloned: Vec<f64>,
    peers: Vec<Peer>,
    entries: usize,
}

/// Runs it all, or all but the others' ways.
///
/// # Errors
/// Where a command fails or an image is not what it must be.
pub(crate) fn run(machine: &Machine, layers: &Layers, ours_alone: bool) -> Result<Report> {
    let mut report = Report::begin("bench convert: from a registry to one squashfs file")?;
    let mut site = Site::start(machine, layers)?;
    let blobs = layers.image(1).layers;
    say("planning the lower bound");
    let plans = bound::plan(&blobs)?;
    let mut runs = Runs::default();
    let work = Path::new("/srv/peers");
    let keep = Path::new("/srv/kept");
    fs::create_dir_all(keep)?;

    round(machine, &mut site, &plans, &mut runs)?;
    let first = keep.join("first.squashfs");
    let second = keep.join("second.squashfs");
    for (pulls, kept) in [(&runs.cold, &first), (&runs.warm, &second)] {
        let pull = pulls.last().context("nothing was pulled")?;
        fs::copy(&pull.image, kept)?;
    }
    if ours_alone {
        round(machine, &mut site, &plans, &mut runs)?;
        round(machine, &mut site, &plans, &mut runs)?;
    } else {
        say("unpacking by skopeo and umoci");
        let unpacked = Unpacked::make(work, &site.images[0])?;
        say("mksquashfs with Shifter's options (minutes)");
        let peer = unpacked.shifter()?;
        let shifter = keep_peer(layers, keep, &peer)?;
        runs.peers.push(peer);
        round(machine, &mut site, &plans, &mut runs)?;
        say("mksquashfs zstd and tar2sqfs");
        runs.peers.push(unpacked.same_compressor()?);
        runs.peers.push(unpacked.tar2sqfs()?);
        say("comparing every byte with what the others made");
        runs.entries = compare_images(&first, &shifter)?;
        unpacked.remove()?;
        round(machine, &mut site, &plans, &mut runs)?;
        say("enroot's way");
        let digests: Vec<String> = blobs.iter().map(|layer| layer.digest.clone()).collect();
        runs.peers.push(peers::enroot(work, &site.images[0], &digests)?);
        storage::empty(work)?;
    }
    limited(machine, &mut site, &plans, &mut runs)?;
    check_same(machine, &mut site, &runs, &first, &second)?;
    on_xfs(machine, &mut site, &mut runs)?;
    tell(&mut report, layers, &runs)?;
    Ok(report)
}

/// One round of what is cheap: cold, warm, the plain copy, the bound.
fn round(machine: &Machine, site: &mut Site, plans: &[LayerPlan], runs: &mut Runs) -> Result<()> {
    say(&format!("round {}: cold, warm, bound", runs.cold.len() + 1));
    site.restart_empty(machine, None)?;
    runs.cold.push(site.pull(1)?);
    let warm = site.pull(2)?;
    runs.copied.push(copy::seconds(&warm.image, false)?);
    runs.warm.push(warm);
    runs.bound.push(bound::run(plans)?.0);
    Ok(())
}

/// Cold pulls over a link of limited speed, and the bound beside each.
fn limited(machine: &Machine, site: &mut Site, plans: &[LayerPlan], runs: &mut Runs) -> Result<()> {
    for number in 1..=3 {
        say(&format!("over a limited link, {number} of 3"));
        site.restart_empty(machine, None)?;
        let link = Link::limit()?;
        runs.limited.push(site.pull(1)?);
        drop(link);
        runs.limited_bound.push(bound::run(plans)?.0);
    }
    Ok(())
}

/// The second image cold is the second image warm, and every cold first image is the same.
fn check_same(
    machine: &Machine,
    site: &mut Site,
    runs: &Runs,
    first: &Path,
    second: &Path,
) -> Result<()> {
    say("the second image once more, cold: it must be the same file");
    let last = runs.limited.last().context("nothing was pulled")?;
    ensure!(same_bytes(first, &last.image)?, "two cold pulls of one image made two files");
    site.restart_empty(machine, None)?;
    let cold = site.pull(2)?;
    ensure!(same_bytes(second, &cold.image)?, "a warm pull made another file than a cold one");
    Ok(())
}

/// Cold and warm with the image directory on a file system that clones.
fn on_xfs(machine: &Machine, site: &mut Site, runs: &mut Runs) -> Result<()> {
    let file = PathBuf::from("/srv/xfs");
    site.restart_empty(machine, None)?;
    let xfs = Mounted::xfs(&file, XFS_BYTES, Path::new(IMAGES))?;
    let owner = tests::caller::GATEWAY.uid;
    std::os::unix::fs::chown(IMAGES, Some(owner), Some(owner))?;
    for number in 1..=3 {
        say(&format!("on XFS, {number} of 3"));
        site.restart_empty(machine, None)?;
        runs.cold_clone.push(site.pull(1)?);
        let warm = site.pull(2)?;
        runs.cloned.push(copy::seconds(&warm.image, true)?);
        runs.warm_clone.push(warm);
    }
    site.stop()?;
    xfs.unmount()?;
    fs::remove_file(&file)?;
    Ok(())
}

fn compare_images(ours: &Path, theirs: &Path) -> Result<usize> {
    let ours = Mounted::image(ours, Path::new("/srv/mounted/ours"))?;
    let theirs = Mounted::image(theirs, Path::new("/srv/mounted/theirs"))?;
    compare(ours.path(), theirs.path()).context("ours and Shifter's way do not hold the same")
}

/// Keeps Shifter's file with the layers: `./bench read` reads from it.
fn keep_peer(layers: &Layers, keep: &Path, peer: &Peer) -> Result<PathBuf> {
    fs::copy(&peer.image, layers.directory.join("shifter.squashfs"))?;
    let kept = keep.join("shifter.squashfs");
    fs::rename(&peer.image, &kept)?;
    Ok(kept)
}

fn tell(report: &mut Report, layers: &Layers, runs: &Runs) -> Result<()> {
    let (packed, archives, entries) = layers.totals(1);
    report.line(&format!(
        "image: {} layers, {} MiB gzip, {} MiB of archives, {entries} entries; {}",
        layers.image(1).layers.len(),
        mib(packed),
        mib(archives),
        match runs.entries {
            0 => "not compared with the others'".to_string(),
            entries => format!("{entries} entries compared byte by byte with Shifter's"),
        },
    ));
    report.line("all blobs lie in the page cache of the registry on the same machine; the registry's own work is nobody's");
    let ours = ("wall", "CPU");
    let mut rows = vec![row(&[
        "way",
        "n",
        "wall s",
        "CPU s",
        "MiB memory",
        "MiB temporary",
        "MiB result",
        &format!("{} / ours", ours.0),
        &format!("{} / ours", ours.1),
    ])];
    let wall = median_of(&runs.cold, |pull| pull.cost.wall)?;
    let cpu = median_of(&runs.cold, |pull| pull.cost.cpu)?;
    for (name, pulls) in [
        ("ours, cold", &runs.cold),
        ("ours, second image (copied)", &runs.warm),
        ("ours, cold, link of 100 MB/s", &runs.limited),
        ("ours, cold, on XFS", &runs.cold_clone),
        ("ours, second image (cloned, XFS)", &runs.warm_clone),
    ] {
        rows.push(row_of_pulls(name, pulls, wall, cpu)?);
    }
    let bound_wall = median_of(&runs.bound, |cost| cost.wall)?;
    let bound_cpu = median_of(&runs.bound, |cost| cost.cpu)?;
    rows.push(vec![
        "lower bound".into(),
        runs.bound.len().to_string(),
        spread(&runs.bound, |cost| cost.wall)?,
        spread(&runs.bound, |cost| cost.cpu)?,
        "-".into(),
        "-".into(),
        "-".into(),
        format!("{:.2}", bound_wall / wall),
        format!("{:.2}", bound_cpu / cpu),
    ]);
    for peer in &runs.peers {
        rows.push(vec![
            peer.name.into(),
            "1".into(),
            format!("{:.2}", peer.cost.wall),
            format!("{:.2}", peer.cost.cpu),
            mib(peer.cost.peaks.memory),
            mib(peer.cost.peaks.disk),
            mib(peer.size),
            format!("{:.2}", peer.cost.wall / wall),
            format!("{:.2}", peer.cost.cpu / cpu),
        ]);
    }
    report.table(&rows);
    let high: Vec<String> = runs
        .cold
        .last()
        .context("no cold pull")?
        .cost
        .peaks
        .high_water
        .iter()
        .map(|(name, bytes)| format!("{name} {}", mib(*bytes)))
        .collect();
    report.line(&format!("high-water marks of ours, MiB resident: {}", high.join(", ")));
    keys(report, runs, packed)
}

fn row_of_pulls(name: &str, pulls: &[Pull], wall: f64, cpu: f64) -> Result<Vec<String>> {
    let most = |of: fn(&Pull) -> u64| pulls.iter().map(of).max().unwrap_or_default();
    Ok(vec![
        name.into(),
        pulls.len().to_string(),
        spread(pulls, |pull| pull.cost.wall)?,
        spread(pulls, |pull| pull.cost.cpu)?,
        mib(most(|pull| pull.cost.peaks.memory)),
        mib(most(|pull| pull.cost.peaks.disk)),
        mib(most(|pull| pull.size)),
        format!("{:.2}", median_of(pulls, |pull| pull.cost.wall)? / wall),
        format!("{:.2}", median_of(pulls, |pull| pull.cost.cpu)? / cpu),
    ])
}

fn keys(report: &mut Report, runs: &Runs, packed: u64) -> Result<()> {
    let cpu = median_of(&runs.cold, |pull| pull.cost.cpu)?;
    let wall = median_of(&runs.cold, |pull| pull.cost.wall)?;
    let transfer = packed as f64 / BYTES_PER_SECOND as f64;
    let pulls = || runs.cold.iter().chain(&runs.warm).chain(&runs.limited);
    let peak = pulls().map(|pull| pull.cost.peaks.memory).max().unwrap_or_default();
    let disk = pulls().map(|pull| pull.cost.peaks.disk).max().unwrap_or_default();
    let size = runs.cold.first().context("no cold pull")?.size;
    let costs = |pulls: &[Pull]| -> Vec<Cost> { pulls.iter().map(|p| p.cost.clone()).collect() };
    let (cold, warm) = (costs(&runs.cold), costs(&runs.warm));
    let (cold_clone, warm_clone) = (costs(&runs.cold_clone), costs(&runs.warm_clone));
    report.line(&format!(
        "over the link: {} s; transfer alone {transfer:.2} s, lower bound right after {} s",
        spread(&runs.limited, |pull| pull.cost.wall)?,
        spread(&runs.limited_bound, |bound| bound.wall)?
    ));
    use Target::{AtLeast, AtMost};
    report.key("cpu_vs_bound", paired(&cold, &runs.bound, |cost| cost.cpu)?, AtMost(1.15))?;
    if let [shifter, same, ..] = &runs.peers[..] {
        report.key("shifter_cpu_over_ours", shifter.cost.cpu / cpu, AtLeast(20.0))?;
        report.key("same_compressor_cpu_over_ours", same.cost.cpu / cpu, AtLeast(3.5))?;
        report.key("same_compressor_wall_over_ours", same.cost.wall / wall, AtLeast(4.0))?;
        report.key("size_over_mksquashfs", size as f64 / same.size as f64, AtMost(1.01))?;
    }
    let over: Vec<f64> = runs
        .limited
        .iter()
        .zip(&runs.limited_bound)
        .map(|(pull, bound)| pull.cost.wall / transfer.max(bound.wall))
        .collect();
    report.key("wall_over_transfer_or_cpu_bound", median(&over)?, AtMost(1.1))?;
    report.key("warm_cpu_share", paired(&warm, &cold, |cost| cost.cpu)?, AtMost(0.05))?;
    let clone_share = paired(&warm_clone, &cold_clone, |cost| cost.cpu)?;
    report.key("warm_cpu_share_reflink", clone_share, AtMost(0.025))?;
    report.key("warm_wall_share", paired(&warm, &cold, |cost| cost.wall)?, Target::None)?;
    for (name, pulls, copies) in [
        ("warm_wall_beyond_copy_s", &runs.warm, &runs.copied),
        ("warm_wall_beyond_copy_reflink_s", &runs.warm_clone, &runs.cloned),
    ] {
        let beyond: Vec<f64> =
            pulls.iter().zip(copies).map(|(pull, copy)| pull.cost.wall - copy).collect();
        report.key(name, median(&beyond)?, AtMost(1.0))?;
    }
    report.key("peak_mib", peak as f64 / f64::from(1 << 20), AtMost(256.0))?;
    report.key("temp_over_compressed", disk as f64 / packed as f64, AtMost(0.01))
}

fn say(what: &str) {
    eprintln!("bench: {what}");
}

/// Room for two images; the file is sparse.
const XFS_BYTES: u64 = 16 << 30;
