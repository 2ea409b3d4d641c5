//! All of it together: munged, a registry, Gantry, and Slurm.

use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};

use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::images::{Image, Pushed, push};
use crate::install::install;
use crate::leaks::Before;
use crate::machine::Machine;
use crate::munged::Munged;
use crate::registry::Registry;
use crate::slurm::{Slurm, SlurmPlan};

/// A whole site on one machine.
#[derive(Debug)]
pub struct Cluster {
    /// Slurm, first, so that it ends before what it depends on.
    pub slurm: Slurm,
    /// The gateway.
    pub gateway: Gateway,
    /// A registry that anybody may use.
    pub registry: Registry,
    /// A registry with a password.
    pub locked: Registry,
    /// The daemon that vouches for people; `None` while it is stopped.
    pub munged: Option<Munged>,
    before: Before,
}

/// What a test wants of its cluster.
pub type Plan = SlurmPlan;

impl Cluster {
    /// Installs Gantry and starts everything as `plan` says.
    ///
    /// # Errors
    /// Where something does not start, with its log.
    pub fn start(machine: &Machine, plan: Plan) -> Result<Self> {
        install(machine)?;
        let munged = Munged::start(machine)?;
        let registry = Registry::open(machine, 5000)?;
        let locked = Registry::locked(machine, 5001)?;
        let gateway = Gateway::start(machine, &[&registry, &locked])?;
        let slurm = Slurm::start(machine, plan)?;
        let before = Before::look(&slurm)?;
        Ok(Self { slurm, gateway, registry, locked, munged: Some(munged), before })
    }

    /// Pushes an image to the open registry under `name`, written `repository:tag`.
    ///
    /// # Errors
    /// Where the registry does not take it.
    pub fn push(&self, name: &str, image: &Image) -> Result<Pushed> {
        push(&self.registry, name, image)
    }

    /// Pushes the tiny image and pulls it as `caller`.
    ///
    /// # Errors
    /// Where the pull fails.
    pub fn pull_busybox(&self, caller: &Caller) -> Result<Pushed> {
        let pushed = self.push("busybox:1", &crate::images::busybox(&layers())?)?;
        caller.run(&["imgctl", "pull", &pushed.reference])?.ok()?;
        Ok(pushed)
    }

    /// Waits until all jobs are over, then fails where anything is left of them on any node, or a node is drained.
    ///
    /// # Errors
    /// With what is left.
    pub fn check_nothing_left(&mut self) -> Result<()> {
        self.slurm.check_no_node_drained()?;
        self.slurm.wait_until_idle()?;
        let left = self.before.wait_until_gone(&self.slurm)?;
        ensure!(left.is_empty(), "left behind by jobs that are over:\n{}", left.join("\n"));
        Ok(())
    }
}

/// Where tests keep the layers they make.
pub fn layers() -> PathBuf {
    Path::new("/srv/layers").to_path_buf()
}
