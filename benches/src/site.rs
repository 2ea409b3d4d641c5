//! Gantry on the machine, with the images in a registry: pulled from by a user as on any other day, and measured.

use ::tests::Machine;
use ::tests::caller::{ALICE, finish};
use ::tests::gateway::{CONFIG, Gateway};
use ::tests::images::{Pushed, push};
use ::tests::install::{IMAGES, install};
use ::tests::munged::Munged;
use ::tests::registry::Registry;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::layers::Layers;
use crate::measure::{Cost, Disk, Watch, allocated};
use crate::processes;
use crate::storage::empty;

/// Registry, munged and a gateway, on a machine.
#[derive(Debug)]
pub(crate) struct Site {
    gateway: Gateway,
    registry: Registry,
    _munged: Munged,
    /// The two images.
    pub(crate) images: [Pushed; 2],
}

/// One pull, measured.
#[derive(Clone, Debug)]
pub(crate) struct Pull {
    /// Gateway with all its children, and `imgctl`. The peak of the disk is without the finished image.
    pub(crate) cost: Cost,
    /// The finished image.
    pub(crate) image: PathBuf,
    /// Its size in bytes.
    pub(crate) size: u64,
}

impl Site {
    /// Starts everything and pushes both images.
    ///
    /// # Errors
    /// Where something does not start.
    pub(crate) fn start(machine: &Machine, layers: &Layers) -> Result<Self> {
        install(machine)?;
        let munged = Munged::start(machine)?;
        let registry = Registry::open(machine, 5000)?;
        let images = [
            push(&registry, "bench:1", &layers.image(1))?,
            push(&registry, "bench:2", &layers.image(2))?,
        ];
        let gateway = Gateway::start(machine, &[&registry])?;
        Ok(Self { gateway, registry, _munged: munged, images })
    }

    /// A gateway that was just started, with an empty store and no images; `conversion` goes into its configuration.
    ///
    /// # Errors
    /// Where it does not stop or start.
    pub(crate) fn restart_empty(
        &mut self,
        machine: &Machine,
        conversion: Option<Value>,
    ) -> Result<()> {
        self.gateway.stop()?;
        for directory in [HOME, IMAGES] {
            empty(Path::new(directory))?;
        }
        self.gateway = Gateway::start(machine, &[&self.registry])?;
        // As in production: the tests' own gateway says all it does.
        self.gateway.stop()?;
        let mut config: Value = serde_json::from_str(&fs::read_to_string(CONFIG)?)?;
        config["LogLevel"] = json!("info");
        if let Some(conversion) = conversion {
            config["Conversion"] = conversion;
        }
        fs::write(CONFIG, config.to_string())?;
        self.gateway.resume()
    }

    /// Stops the gateway, so that nothing holds the image directory.
    ///
    /// # Errors
    /// Where it does not stop.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.gateway.stop()
    }

    /// The first or second image pulled by a user.
    ///
    /// # Errors
    /// Where the pull fails, or the image was there already.
    pub(crate) fn pull(&self, number: usize) -> Result<Pull> {
        let pushed = self.images.get(number - 1).context("there are two images")?;
        let gateway = self.gateway.pid().context("the gateway is not running")?.as_raw();
        let before: u64 = PLACES.iter().map(|path| allocated(Path::new(path))).sum();
        let cpu = processes::cpu_seconds(gateway)?;
        let disk = Disk::Directories(PLACES.iter().map(PathBuf::from).collect());
        let in_use = disk.in_use(&processes::tree(gateway));
        let watch = Watch::start(gateway, disk, in_use);
        let (used, _) = crate::measure::usage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN)?;
        let begun = Instant::now();
        // Not Caller::command: that ends a command after three minutes.
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", ALICE.name, "--regid", ALICE.name, "--init-groups"])
            .args(["imgctl", "pull", "--json", "--progress", "none", &pushed.reference])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", ALICE.home())
            .current_dir("/");
        let said = finish("imgctl pull", &mut command)?.ok()?;
        let wall = begun.elapsed().as_secs_f64();
        let (used_after, _) = crate::measure::usage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN)?;
        // What the gateway does after its last word belongs to the pull as well.
        thread::sleep(SETTLE);
        let cpu = processes::cpu_seconds(gateway)? - cpu + used_after - used;
        let mut peaks = watch.stop()?;
        let answer: Value = serde_json::from_str(&said).context("imgctl wrote no JSON")?;
        ensure!(answer["was_there"] == json!(false), "the image was there: {answer}");
        ensure!(answer["digest"] == json!(pushed.digest), "another image came: {answer}");
        let hex = pushed.digest.trim_start_matches("sha256:");
        let image = Path::new(IMAGES).join(format!("{hex}.squashfs"));
        let size = fs::metadata(&image)
            .with_context(|| format!("the pull left no {}", image.display()))?
            .len();
        let after: u64 = PLACES.iter().map(|path| allocated(Path::new(path))).sum();
        peaks.disk = peaks.disk.saturating_sub(after.saturating_sub(before));
        Ok(Pull { cost: Cost { wall, cpu, system: 0.0, peaks }, image, size })
    }
}

/// The gateway's own directory.
const HOME: &str = "/srv/gantry/gateway";

/// Everywhere that the gateway could write to.
const PLACES: [&str; 4] = [HOME, IMAGES, "/tmp", "/var/tmp"];

const SETTLE: Duration = Duration::from_millis(200);
