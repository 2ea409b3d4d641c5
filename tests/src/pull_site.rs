//! What a pull needs: munged, a registry and the gateway, and nothing of Slurm.

use anyhow::Result;
use std::fs;
use std::path::Path;

use crate::gateway::Gateway;
use crate::install::{IMAGES, install};
use crate::machine::Machine;
use crate::munged::Munged;
use crate::registry::Registry;

/// A gateway with one registry, running.
#[derive(Debug)]
pub struct PullSite {
    /// The gateway.
    pub gateway: Gateway,
    /// Its registry.
    pub registry: Registry,
    _munged: Munged,
}

impl PullSite {
    /// Installs Gantry and starts everything.
    ///
    /// # Errors
    /// Where something does not start.
    pub fn start(machine: &Machine) -> Result<Self> {
        install(machine)?;
        let munged = Munged::start(machine)?;
        let registry = Registry::open(machine, 5000)?;
        let gateway = Gateway::start(machine, &[&registry])?;
        Ok(Self { gateway, registry, _munged: munged })
    }
}

/// The names of the files that are in the making.
///
/// # Errors
/// Where the image directory cannot be listed.
pub fn in_the_making() -> Result<Vec<String>> {
    let entries = fs::read_dir(Path::new(IMAGES).join(".partial"))?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
