//! The converter while it works: what it is not given, and what its death and the gateway's do.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;
use tests::caller::{ALICE, BOB, Outcome};
use tests::cluster::layers;
use tests::images::{Pushed, busybox, busybox_with, noise, push};
use tests::install::IMAGES;
use tests::pull_site::{PullSite, in_the_making};
use tests::{on_a_machine, wait};

#[test]
fn privileged_a_converter_has_its_descriptors_and_nothing_else() -> Result<()> {
    on_a_machine(|machine| {
        let site = PullSite::start(machine)?;
        let image = push_large(&site, "large:1")?;
        thread::scope(|scope| {
            let pull = scope.spawn(|| ALICE.run(&["imgctl", "pull", &image.reference]));
            let child = stopped_converter(&site, || Ok(pull.is_finished()))?;
            let status = child.read("status")?;
            for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"] {
                ensure!(status.contains(line), "no `{line}` in:\n{status}");
            }
            // glibc ends each of its words in place.
            let environment = child.read("environ")?;
            let mut words = environment.split(['\0', ':']).filter(|word| !word.is_empty());
            ensure!(
                words.all(|word| word.contains("glibc.malloc.")),
                "it has an environment: {environment:?}"
            );
            ensure!(fs::read_link(child.path("cwd"))? == Path::new("/"), "it has a directory");
            child.check_descriptors()?;
            let limits = child.read("limits")?;
            ensure!(
                limits.lines().any(|line| line.starts_with("Max core file size        0 ")),
                "{limits}"
            );
            child.signal(Signal::SIGCONT)?;
            joined(pull)?.ok()
        })?;
        ensure!(site.gateway.log().contains("the converter's sandbox: seccomp: on; landlock: "));
        Ok(())
    })
}

#[test]
fn privileged_the_converter_of_every_processor_makes_the_same_file_as_the_one_for_this()
-> Result<()> {
    on_a_machine(|machine| {
        let mut site = PullSite::start(machine)?;
        let image = push_large(&site, "large:1")?;
        let hex = image.digest.trim_start_matches("sha256:");
        let file = Path::new(IMAGES).join(format!("{hex}.squashfs"));
        let mut made = Vec::new();
        for _ in 0..2 {
            ALICE.run(&["imgctl", "pull", &image.reference])?.ok()?;
            made.push(fs::read(&file)?);
            site.gateway.stop()?;
            site.gateway.forget()?;
            // The second time the gateway has to do with the one that runs everywhere.
            let level = Path::new("/usr/libexec/gantry/x86-64-v3");
            if level.exists() {
                fs::remove_dir_all(level)?;
            }
            site.gateway.resume()?;
        }
        let [first, second] = &made[..] else { unreachable!("it is made twice") };
        ensure!(first == second, "the two programs make two files");
        Ok(())
    })
}

#[test]
fn privileged_a_converter_that_is_killed_is_one_failed_pull_and_no_more() -> Result<()> {
    on_a_machine(|machine| {
        let site = PullSite::start(machine)?;
        let image = push_large(&site, "large:1")?;
        let other = push(&site.registry, "small:1", &busybox(&layers())?)?;
        let gateway = site.gateway.pid();
        thread::scope(|scope| {
            let pull = scope.spawn(|| ALICE.run(&["imgctl", "pull", &image.reference]));
            let child = stopped_converter(&site, || Ok(pull.is_finished()))?;
            // While one is stuck, others are made.
            BOB.run(&["imgctl", "pull", &other.reference])?.ok()?;
            child.signal(Signal::SIGKILL)?;
            let outcome = joined(pull)?;
            let said = format!(
                "cannot pull {}: the conversion broke off: its process was ended by SIGKILL",
                image.reference
            );
            ensure!(outcome.stderr.contains(&said), "{outcome}");
            outcome.failed()?;
            child.wait_until_gone()
        })?;
        ensure!(site.gateway.pid() == gateway, "the gateway is another process");
        ensure!(in_the_making()?.is_empty(), "the failed pull has left its file");
        ALICE.run(&["imgctl", "pull", &image.reference])?.ok()?;
        Ok(())
    })
}

#[test]
fn privileged_a_converter_dies_with_its_gateway() -> Result<()> {
    on_a_machine(|machine| {
        let mut site = PullSite::start(machine)?;
        let image = push_large(&site, "large:1")?;
        for by in [Signal::SIGKILL, Signal::SIGTERM] {
            let mut client = ALICE
                .command(&["imgctl", "pull", &image.reference, "--progress=none"])
                .stdout(Stdio::null())
                .spawn()?;
            let child = stopped_converter(&site, || Ok(client.try_wait()?.is_some()))?;
            // `timeout` passes the signal on: who asked does not ask again.
            kill(Pid::from_raw(i32::try_from(client.id())?), Signal::SIGTERM)?;
            client.wait()?;
            site.gateway.signal(by)?;
            child.wait_until_gone()?;
            site.gateway.kill();
            site.gateway.resume()?;
            ensure!(!child.directory.exists(), "it came back");
            // Nobody asks again: the gateway knows what it was doing.
            wait::until("the pull to go on", wait::JOB, || {
                let seen = BOB.run(&["imgctl", "resolve", &image.reference])?;
                Ok(seen.ok().ok())
            })?;
            ensure!(in_the_making()?.is_empty(), "the ended gateway's file is still there");
            ALICE.run(&["imgctl", "rm", &image.reference])?.ok()?;
        }
        Ok(())
    })
}

/// An image whose conversion takes long enough to be met.
fn push_large(site: &PullSite, name: &str) -> Result<Pushed> {
    let image =
        busybox_with(&layers(), |tree| tree.file("data", 0o644, &noise(5, 64 << 20)).map(drop))?;
    push(&site.registry, name, &image)
}

/// Waits for a converter of the gateway and stops it where it stands; `is_over` tells that none will come.
fn stopped_converter(
    site: &PullSite,
    mut is_over: impl FnMut() -> Result<bool>,
) -> Result<Converter> {
    let gateway = site.gateway.pid().context("the gateway is not running")?;
    wait::until("a converter", wait::START, || {
        ensure!(!is_over()?, "the pull was over before a converter was seen");
        converter_of(gateway)
    })
}

/// A converter that was stopped.
struct Converter {
    pid: Pid,
    directory: PathBuf,
}

impl Converter {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.path(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(self.pid, signal)?)
    }

    /// One socket, the file that it writes, pipes, and nothing that leads elsewhere.
    fn check_descriptors(&self) -> Result<()> {
        let mut sockets = Vec::new();
        for entry in fs::read_dir(self.path("fd"))? {
            let target = fs::read_link(entry?.path())?.display().to_string();
            match target.as_str() {
                "/dev/null" => {}
                _ if target.starts_with("pipe:") => {}
                _ if target.starts_with("socket:") => sockets.push(target),
                _ => ensure!(target.starts_with(IMAGES), "it holds {target}"),
            }
        }
        sockets.sort();
        sockets.dedup();
        ensure!(sockets.len() == 1, "it holds these sockets: {sockets:?}");
        let number = sockets[0].trim_start_matches("socket:[").trim_end_matches(']').to_string();
        let local = fs::read_to_string("/proc/net/unix")?;
        ensure!(local.contains(&format!(" {number}")), "{} is no local socket", sockets[0]);
        Ok(())
    }

    fn wait_until_gone(&self) -> Result<()> {
        wait::until("the converter to be gone", Duration::from_secs(10), || {
            Ok((!self.directory.exists()).then_some(()))
        })
    }
}

/// A child of this process that is in its sandbox, stopped.
fn converter_of(gateway: Pid) -> Result<Option<Converter>> {
    for entry in fs::read_dir("/proc")? {
        let directory = entry?.path();
        let Ok(status) = fs::read_to_string(directory.join("status")) else { continue };
        let is = |line: &str| status.lines().any(|found| found == line);
        if is("Name:\tgantry-convert") && is(&format!("PPid:\t{gateway}")) && is("Seccomp:\t2") {
            let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let pid = Pid::from_raw(name.parse()?);
            kill(pid, Signal::SIGSTOP)?;
            return Ok(Some(Converter { pid, directory }));
        }
    }
    Ok(None)
}

fn joined(pull: ScopedJoinHandle<'_, Result<Outcome>>) -> Result<Outcome> {
    pull.join().map_err(|_| anyhow::anyhow!("the caller panicked"))?
}
