//! A gateway that is killed at any moment of a pull: nothing half-written is ever published, and the pull ends well.

use anyhow::{Context, Result, ensure};
use image_ref::Sidecar;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};
use tests::caller::ALICE;
use tests::cluster::layers;
use tests::images::{Image, Layer, Packing, Tree, busybox, noise, push};
use tests::install::IMAGES;
use tests::machine::workspace;
use tests::pull_site::PullSite;
use tests::{Machine, on_a_machine, wait};

#[test]
fn privileged_a_gateway_killed_at_any_moment_of_a_cold_pull_publishes_nothing_half_written()
-> Result<()> {
    on_a_machine(|machine| {
        let mut site = Site::start(machine)?;
        let seed = seed();
        let second = site.second.clone();
        report("cold", &site.kill_at_random_moments(&[&second], seed)?)
    })
}

#[test]
fn privileged_a_gateway_killed_at_any_moment_of_a_pull_that_reuses_publishes_nothing_half_written()
-> Result<()> {
    on_a_machine(|machine| {
        let mut site = Site::start(machine)?;
        let seed = seed();
        let (first, second) = (site.first.clone(), site.second.clone());
        report("reuse", &site.kill_at_random_moments(&[&first, &second], seed)?)
    })
}

/// Two images to pull, and what there must be of them in the end.
struct Site {
    pulls: PullSite,
    first: String,
    second: String,
    /// What an undisturbed run publishes: SHA-256 by the name of the file.
    whole: BTreeMap<String, String>,
}

impl Site {
    fn start(machine: &Machine) -> Result<Self> {
        let pulls = PullSite::start(machine)?;
        let (lower, mut data) = (busybox(&layers())?, Tree::new());
        data.directory("data", 0o755)?.file("data/large", 0o644, &noise(21, 4 << 20))?;
        for number in 0..300u32 {
            data.file(&format!("data/{number}"), 0o644, &number.to_le_bytes().repeat(200))?;
        }
        let data = Layer::pack(&layers(), &data.finish()?, Packing::Gzip)?;
        let of = |name: &str| -> Result<String> {
            let mut image: Image = lower.clone();
            let mut own = Tree::new();
            own.file("etc/own", 0o644, name.as_bytes())?.whiteout("data/7")?;
            own.file("large", 0o644, &noise(name.len() as u64, 2 << 20))?;
            let own = Layer::pack(&layers(), &own.finish()?, Packing::Zstd)?;
            image.layers.extend([data.clone(), own]);
            Ok(push(&pulls.registry, &format!("{name}:1"), &image)?.reference)
        };
        let (first, second) = (of("first")?, of("second")?);
        let mut site = Self { pulls, first, second, whole: BTreeMap::new() };
        for image in [site.first.clone(), site.second.clone()] {
            site.empty()?;
            ALICE.run(&["imgctl", "pull", &image])?.ok()?;
            site.whole.extend(published()?);
        }
        ensure!(site.whole.len() == 2, "the images are not two: {:?}", site.whole);
        Ok(site)
    }

    /// Leaves the gateway running as one that was never used.
    fn empty(&mut self) -> Result<()> {
        self.pulls.gateway.stop()?;
        self.pulls.gateway.forget()?;
        self.pulls.gateway.resume()
    }

    /// Pulls the last of `images` again and again, where the others are there, and kills the gateway in the middle.
    ///
    /// The moments lie anywhere between the start of such a pull and its end, as long as it takes undisturbed.
    fn kill_at_random_moments(&mut self, images: &[&String], seed: u64) -> Result<String> {
        let (image, before) = images.split_last().context("an image is pulled")?;
        let mut random = seed;
        let mut longest = Duration::ZERO;
        let (mut rounds, mut cut, mut in_the_making) = (0, 0, 0);
        // Further rounds where the moments happened to miss what they are to hit.
        while rounds <= KILLS || (in_the_making == 0 && rounds <= 4 * KILLS) {
            self.empty()?;
            for image in before {
                ALICE.run(&["imgctl", "pull", image])?.ok()?;
            }
            if rounds == 0 {
                let undisturbed = ALICE.run(&["imgctl", "pull", image])?;
                let reuses = undisturbed.stdout.contains("layers reused");
                ensure!(
                    reuses != before.is_empty(),
                    "what is reused is not as it was meant: {undisturbed}"
                );
                longest = undisturbed.took;
                rounds = 1;
                continue;
            }
            let moment = longest.mul_f64(next(&mut random));
            let context = format!("seed {seed}, round {rounds}, killed after {moment:?}");
            let (was_cut, was_making) =
                self.kill_after(image, moment).with_context(|| context.clone())?;
            self.check(image, before.len() + 1).with_context(|| context)?;
            rounds += 1;
            cut += u32::from(was_cut);
            in_the_making += u32::from(was_making);
        }
        ensure!(cut > 0, "no pull was cut off: the moments are wrong (seed {seed})");
        ensure!(in_the_making > 0, "no image was cut off in the making (seed {seed})");
        Ok(format!(
            "seed {seed}: killed {} times in a pull of {longest:?}, {cut} before its end, {in_the_making} with an \
             image in the making",
            rounds - 1
        ))
    }

    /// Kills the gateway in the middle of a pull, looks at what it leaves, and starts it again; tells whether the pull
    /// had not ended, and whether an image was in the making.
    fn kill_after(&mut self, image: &str, moment: Duration) -> Result<(bool, bool)> {
        let mut client = ALICE
            .command(&["imgctl", "pull", image])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(moment);
        let cut = client.try_wait()?.is_none();
        self.pulls.gateway.kill();
        // Looked at while the gateway is away: what nodes would see now.
        self.check_published()?;
        let making = !partial()?.is_empty();
        wait::until("the converters of the killed gateway to be gone", wait::START, || {
            Ok(converters()?.is_empty().then_some(()))
        })?;
        let restarted = SystemTime::now();
        self.pulls.gateway.resume()?;
        self.check_published()?;
        // It listens before it clears away, so that a second gateway by mistake removes nothing.
        wait::until("what the killed gateway left in the making to be gone", wait::START, || {
            let mut left = partial()?.into_iter();
            Ok((!left.any(|(_, changed)| changed < restarted)).then_some(()))
        })?;
        // One that the gateway has answered waits for the image; one that never reached it has failed.
        wait::until("the end of the client", wait::JOB, || Ok(client.try_wait()?))?;
        Ok((cut, making))
    }

    /// The pull has come to its end in spite of all, and nothing else is there.
    fn check(&self, image: &str, images: usize) -> Result<()> {
        ALICE.run(&["imgctl", "pull", image])?.ok()?;
        self.check_published()?;
        let there = published()?.len();
        ensure!(there == images, "{there} images are there instead of {images}");
        ensure!(partial()?.is_empty(), "left in the making: {:?}", partial()?);
        ensure!(converters()?.is_empty(), "converters that nobody waits for: {:?}", converters()?);
        let log = self.pulls.registry.requests("GET", "/v2/second/blobs/");
        ensure!(!log.is_empty(), "the registry was not asked");
        Ok(())
    }

    /// Every file that is published is whole: the very file of an undisturbed run, and none is described without.
    fn check_published(&self) -> Result<()> {
        for (name, digest) in published()? {
            let whole = self.whole.get(&name).with_context(|| format!("{name} is not ours"))?;
            ensure!(digest == *whole, "{name} is published and not whole");
        }
        for entry in fs::read_dir(IMAGES)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "gantry") {
                let sidecar = Sidecar::decode(&fs::read(&path)?);
                ensure!(sidecar.is_ok(), "{} is damaged: {sidecar:?}", path.display());
                let image = path.with_extension("squashfs");
                ensure!(image.exists(), "{} is described and not there", image.display());
            }
        }
        Ok(())
    }
}

/// SHA-256 of each published image, by the name of its file.
fn published() -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(IMAGES)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "squashfs") {
            let digest = Layer::of_file(&path, Packing::Plain)?.digest;
            let name = path.file_name().context("it has a name")?.to_string_lossy().into_owned();
            found.insert(name, digest);
        }
    }
    Ok(found)
}

/// What is in the making: names, and when they were last changed.
fn partial() -> Result<Vec<(String, SystemTime)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(Path::new(IMAGES).join(".partial"))? {
        let entry = entry?;
        // A running gateway may publish it in this very moment.
        if let Ok(facts) = entry.metadata() {
            found.push((entry.file_name().to_string_lossy().into_owned(), facts.modified()?));
        }
    }
    Ok(found)
}

/// The process ids of all converters on the machine.
fn converters() -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // Gone in the meantime, most likely.
        let Ok(command) = fs::read_to_string(format!("/proc/{pid}/comm")) else { continue };
        let pid = Pid::from_raw(pid);
        if command.starts_with("gantry-convert") && kill(pid, None::<Signal>).is_ok() {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Keeps the seed and what came of it beside the logs of the tests: who runs them sees nothing of what a machine prints.
fn report(name: &str, text: &str) -> Result<()> {
    let logs = workspace().join("target/test-logs");
    fs::create_dir_all(&logs)?;
    Ok(fs::write(logs.join(format!("crash-{name}.log")), format!("{text}\n"))?)
}

/// Where the moments start from: what `GANTRY_TEST_SEED` says, so that a failure can be had again.
fn seed() -> u64 {
    let said = std::env::var("GANTRY_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    said.unwrap_or(now.subsec_nanos().into())
}

/// The next number of a sequence (SplitMix64, Steele and others 2014), between 0 and 1.
fn next(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// How often each test kills its gateway at least: fifty times in all.
const KILLS: u32 = 25;
