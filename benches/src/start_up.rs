//! `./bench start-up`: what it takes from a command line to a program that runs in an image that is mounted already.
//!
//! The image has every mount point, so that nothing has to be made: eight binds, the site's `/home` among them. The
//! others' ways of the same program are started in turn with ours, so that what slows the machine down slows all.

use ::tests::Machine;
use ::tests::caller::{ALICE, ROOT};
use ::tests::cluster::layers;
use ::tests::images::{busybox_with, push};
use ::tests::install::{IMAGES, SUID};
use ::tests::pull_site::PullSite;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::available_parallelism;
use std::time::Instant;

use crate::report::{Report, Target, row};
use crate::statistics::{median_of, paired, spread};

/// Runs it all.
///
/// # Errors
/// Where something does not start, or a start fails.
pub(crate) fn run(machine: &Machine) -> Result<Report> {
    let mut report = Report::begin("bench start-up: `true` in an image that is mounted already")?;
    let (_site, image) = publish(machine)?;
    let digest = image.file_stem().and_then(|stem| stem.to_str()).context("an odd name")?;
    let digest = digest.trim_start_matches("sha256:");
    ROOT.run(&[SUID, "prepare", &format!("--digest={digest}"), "--job=1"])?.ok()?;
    ROOT.run(&["unsquashfs", "-quiet", "-no-progress", "-d", TREE, &image.display().to_string()])?
        .ok()?;
    let ways = [
        Way { name: "fork and exec", words: host() },
        Way { name: "gantry-suid", words: ours(digest) },
        Way { name: "bwrap", words: bwrap() },
    ];
    check_same_binds(&ways)?;
    eprintln!("bench: {RUNS} starts of each, in turn");
    let mut alone: [Vec<f64>; 3] = Default::default();
    for number in 0..RUNS + WARM {
        for (way, walls) in ways.iter().zip(&mut alone) {
            let wall = at_once(way, 1)?;
            if number >= WARM {
                walls.push(wall);
            }
        }
    }
    eprintln!("bench: {ROUNDS} times {TASKS} starts at once of each, in turn");
    let cores = available_parallelism()?.get().min(TASKS) as f64;
    let mut crowd: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (way, walls) in ways.iter().zip(&mut crowd) {
            walls.push(at_once(way, TASKS)? * cores / TASKS as f64);
        }
    }
    report.line(&format!(
        "one at a time n={RUNS}, {TASKS} at once n={ROUNDS}, interleaved, as an ordinary user"
    ));
    report.line("Shifter: not measured, it is not installed here");
    let head = format!("ms of a core per start of {TASKS}");
    let mut rows = vec![row(&["way", "wall ms", &head])];
    let milliseconds = |wall: &f64| wall * 1000.0;
    for (number, way) in ways.iter().enumerate() {
        rows.push(vec![
            way.name.into(),
            spread(&alone[number], milliseconds)?,
            spread(&crowd[number], milliseconds)?,
        ]);
    }
    report.table(&rows);
    let wall = |walls: &[f64]| median_of(walls, |wall| *wall);
    let [host, ours, bwrap] = &alone;
    report.key("over_fork_exec", paired(ours, host, |wall| *wall)?, Target::AtMost(2.0))?;
    report.key("bwrap_over_ours", paired(bwrap, ours, |wall| *wall)?, Target::AtLeast(1.0))?;
    report.key("slowest_of_128_over_1", wall(&crowd[1])? / wall(ours)?, Target::AtMost(1.5))?;
    Ok(report)
}

/// A way to start `true`.
struct Way {
    name: &'static str,
    words: Vec<String>,
}

impl Way {
    /// The command as an ordinary user's, saying nothing.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command
            .args(&self.words[1..])
            .env_clear()
            .env("PATH", "/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .uid(ALICE.uid)
            .gid(ALICE.uid);
        command
    }
}

fn host() -> Vec<String> {
    ["/bin/busybox", "true"].map(String::from).to_vec()
}

/// As Slurm's task has it.
fn ours(digest: &str) -> Vec<String> {
    [SUID, "run", &format!("--digest={digest}"), "--", "/bin/busybox", "true"]
        .map(String::from)
        .to_vec()
}

/// The same eight binds.
fn bwrap() -> Vec<String> {
    let mut words = vec!["/usr/bin/bwrap", "--ro-bind", TREE, "/"];
    for (how, path) in BINDS {
        words.extend([how, path, path]);
    }
    words.extend(["--", "/bin/busybox", "true"]);
    words.into_iter().map(String::from).collect()
}

/// Starts `count` at once and waits for all: seconds until the last has ended.
fn at_once(way: &Way, count: usize) -> Result<f64> {
    let mut commands: Vec<Command> = (0..count).map(|_| way.command()).collect();
    let begun = Instant::now();
    let started: Vec<Child> =
        commands.iter_mut().map(Command::spawn).collect::<Result<_, _>>().context(way.name)?;
    let mut failed = None;
    for mut child in started {
        let ended = child.wait()?;
        failed = failed.or((!ended.success()).then_some(ended));
    }
    let wall = begun.elapsed().as_secs_f64();
    ensure!(failed.is_none(), "{} failed: {failed:?}", way.name);
    Ok(wall)
}

/// Fails where one of the two does not have its eight binds, or more: they would not do the same.
fn check_same_binds(ways: &[Way; 3]) -> Result<()> {
    for way in &ways[1..] {
        let mut words = way.words.clone();
        words.truncate(words.len() - 1);
        words.extend(["cat", "/proc/self/mountinfo"].map(String::from));
        let listing = Way { name: way.name, words };
        let output = listing.command().stdout(Stdio::piped()).output()?;
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        let points: Vec<&str> = table.lines().filter_map(|line| line.split(' ').nth(4)).collect();
        for (_, path) in BINDS {
            let times = points.iter().filter(|point| *point == &path).count();
            ensure!(times == 1, "{}: {path} is mounted {times} times:\n{table}", way.name);
        }
    }
    Ok(())
}

/// Pushes and pulls the image: a tiny one, with what every image of a distribution has.
fn publish(machine: &Machine) -> Result<(PullSite, PathBuf)> {
    let site = PullSite::start(machine)?;
    fs::create_dir_all(layers())?;
    let image = busybox_with(&layers(), |tree| {
        tree.file("etc/hosts", 0o644, b"")?.file("etc/resolv.conf", 0o644, b"")?;
        Ok(())
    })?;
    let pushed = push(&site.registry, "start:1", &image)?;
    ALICE.run(&["imgctl", "pull", &pushed.reference])?.ok()?;
    let names = fs::read_dir(Path::new(IMAGES))?;
    let paths = names.map(|name| Ok(name?.path())).collect::<Result<Vec<_>>>()?;
    let squashfs =
        |path: &PathBuf| path.is_file() && path.extension().is_some_and(|it| it == "squashfs");
    let image = paths.into_iter().find(squashfs).context("the pull published nothing")?;
    Ok((site, image))
}

/// What the runtime binds on this site, and how bwrap is told the same.
const BINDS: [(&str, &str); 8] = [
    ("--bind", "/proc"),
    ("--ro-bind", "/sys"),
    ("--dev-bind", "/dev"),
    ("--bind", "/tmp"),
    ("--bind", "/var/tmp"),
    ("--ro-bind", "/etc/hosts"),
    ("--ro-bind", "/etc/resolv.conf"),
    ("--bind", "/home"),
];

/// The image's tree, unpacked.
const TREE: &str = "/srv/tree";

/// Starts that count, of each.
const RUNS: usize = 400;

/// Starts before them, which warm what is not measured.
const WARM: usize = 20;

/// The tasks of a full node.
const TASKS: usize = 128;

/// How often so many are started.
const ROUNDS: usize = 15;
