//! `./bench read`: what a program in an image waits for when nothing of it is in any cache.
//!
//! The same tree as our file and as mksquashfs' default output, each mounted anew for every run with its backing file
//! out of the page cache, one after the other, so that what slows the machine down slows both.

use ::tests::Machine;
use anyhow::{Context, Result, ensure};
use nix::sys::resource::UsageWho;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::compare::compare;
use crate::layers::{Kind, Layers};
use crate::measure::{self, Cost};
use crate::peers::Unpacked;
use crate::report::{Report, Target, mib, row};
use crate::site::Site;
use crate::statistics::{median_of, paired, spread};
use crate::storage::{Mounted, evict};

/// One cold run in one image.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// Wall and processor time of the program; decompression is in its system part.
    pub(crate) cost: Cost,
    /// Bytes that came from the file.
    pub(crate) bytes: u64,
}

/// Runs it all.
///
/// # Errors
/// Where a command fails or the two images do not hold the same.
pub(crate) fn run(machine: &Machine, layers: &Layers) -> Result<Report> {
    let mut report = Report::begin("bench read: importing Python packages from a cold image")?;
    let mut site = Site::start(machine, layers)?;
    let theirs = default_output(&site, layers)?;
    eprintln!("bench: pulling the image");
    site.restart_empty(machine, None)?;
    let ours = site.pull(1)?.image;
    site.stop()?;
    eprintln!("bench: comparing the two images");
    let entries = {
        let ours = Mounted::image(&ours, Path::new(AT))?;
        let theirs = Mounted::image(&theirs, Path::new("/srv/mounted/theirs"))?;
        compare(ours.path(), theirs.path())?
    };
    let (mut our_runs, mut their_runs) = (Vec::new(), Vec::new());
    for number in 0..=RUNS {
        let (one, other) = (import(&ours, layers.kind)?, import(&theirs, layers.kind)?);
        // The first pair warms what is not measured: the program that starts it, the kernel's own code.
        if number > 0 {
            our_runs.push(one);
            their_runs.push(other);
        }
    }
    report.line(&format!(
        "{entries} entries in both, compared byte by byte; python3 -c '{}', n={RUNS} each, interleaved",
        program(layers.kind)
    ));
    report.line("each run: mounted anew, the backing file evicted from the page cache and that checked (fincore)");
    let mut rows = vec![row(&["image", "MiB", "wall s", "system s", "MiB read"])];
    for (name, file, runs) in
        [("ours", &ours, &our_runs), ("mksquashfs default (gzip)", &theirs, &their_runs)]
    {
        rows.push(vec![
            name.into(),
            mib(fs::metadata(file)?.len()),
            spread(runs, |run| run.cost.wall)?,
            spread(runs, |run| run.cost.system)?,
            mib(runs.first().context("no run")?.bytes),
        ]);
    }
    report.table(&rows);
    let wall = |runs: &[Reading]| median_of(runs, |run| run.cost.wall);
    report.key(
        "import_mksquashfs_over_ours",
        wall(&their_runs)? / wall(&our_runs)?,
        Target::AtLeast(1.0),
    )?;
    let by_pairs = paired(&their_runs, &our_runs, |run| run.cost.wall)?;
    report.key("import_mksquashfs_over_ours_paired", by_pairs, Target::None)?;
    let system = |runs: &[Reading]| median_of(runs, |run| run.cost.system);
    let system = system(&their_runs)? / system(&our_runs)?;
    report.key("import_system_mksquashfs_over_ours", system, Target::None)?;
    Ok(report)
}

/// Imports the packages in an image that is in no cache.
///
/// # Errors
/// Where it cannot be mounted, stays in a cache, or the program fails.
pub(crate) fn import(image: &Path, kind: Kind) -> Result<Reading> {
    cold(image, |root| {
        let mut command = Command::new("/usr/sbin/chroot");
        command.arg(root).args(["/usr/bin/python3", "-c", program(kind)]).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").env("HOME", "/root");
        let output = command.output().context("cannot run chroot")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "the import failed in {}:\n{said}", image.display());
        Ok(())
    })
}

/// Reads 4 KiB at many places of the largest file in an image that is in no cache.
///
/// # Errors
/// As [`import`].
pub(crate) fn read_here_and_there(image: &Path) -> Result<Reading> {
    cold(image, |root| {
        let mut largest = (0, PathBuf::new());
        find_largest(&root.join("usr"), &mut largest)?;
        let (size, path) = largest;
        let file =
            fs::File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut page = [0; 4096];
        let mut place: u64 = 1;
        for _ in 0..1000 {
            place = place
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            file.read_at(&mut page, ((place >> 16) % size) & !4095)?;
        }
        Ok(())
    })
}

fn cold(image: &Path, work: impl FnOnce(&Path) -> Result<()>) -> Result<Reading> {
    evict(image)?;
    let mounted = Mounted::image(image, Path::new(AT))?;
    let before = mounted.bytes_read()?;
    let used = |who| measure::usage(who);
    let (children, own) = (used(UsageWho::RUSAGE_CHILDREN)?, used(UsageWho::RUSAGE_SELF)?);
    let begun = Instant::now();
    work(mounted.path())?;
    let wall = begun.elapsed().as_secs_f64();
    let (children_after, own_after) =
        (used(UsageWho::RUSAGE_CHILDREN)?, used(UsageWho::RUSAGE_SELF)?);
    let cpu = children_after.0 - children.0 + own_after.0 - own.0;
    let system = children_after.1 - children.1 + own_after.1 - own.1;
    let bytes = mounted.bytes_read()? - before;
    ensure!(bytes > 0, "nothing was read from {}: it was in a cache", image.display());
    mounted.unmount()?;
    Ok(Reading { cost: Cost { wall, cpu, system, ..Cost::default() }, bytes })
}

fn find_largest(directory: &Path, largest: &mut (u64, PathBuf)) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        if facts.is_dir() {
            find_largest(&entry.path(), largest)?;
        } else if facts.is_file() && facts.len() > largest.0 {
            *largest = (facts.len(), entry.path());
        }
    }
    Ok(())
}

/// What mksquashfs makes of the same tree by default; kept with the layers once it was made.
fn default_output(site: &Site, layers: &Layers) -> Result<PathBuf> {
    let kept = layers.directory.join("shifter.squashfs");
    let own = PathBuf::from("/srv/theirs.squashfs");
    if !kept.exists() {
        eprintln!("bench: unpacking and mksquashfs with its defaults (minutes, the first time)");
        let unpacked = Unpacked::make(Path::new("/srv/peers"), &site.images[0])?;
        let part = layers.directory.join("shifter.part");
        fs::copy(unpacked.shifter()?.image, &part)?;
        fs::rename(&part, &kept)?;
        unpacked.remove()?;
    }
    // On the file system that ours lies on.
    fs::copy(&kept, &own)?;
    Ok(own)
}

pub(crate) fn program(kind: Kind) -> &'static str {
    match kind {
        Kind::Big => "import numpy, scipy, pandas",
        Kind::Small => "import numpy",
    }
}

const AT: &str = "/srv/mounted/ours";

const RUNS: usize = 9;
