//! Gantry on the machine, at its real paths, with a site's configuration.
//!
//! The files come from `cargo xtask install --root target/stage`, the same table that packages are made from.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use crate::caller::{GATEWAY, ROOT};
use crate::gateway;
use crate::machine::{Machine, workspace};

/// Copies the staged installation onto the machine and writes `udiRoot.conf`.
///
/// # Errors
/// Where nothing was staged, or the runtime is not what it must be.
pub fn install(_machine: &Machine) -> Result<()> {
    let stage = workspace().join("target/stage");
    let staged = stage.join("usr/libexec/gantry/gantry-suid");
    ensure!(
        staged.is_file(),
        "{} is missing\nhint: cargo xtask build && cargo xtask install --root target/stage",
        staged.display()
    );
    for part in ["usr", "etc", "run"] {
        let from = stage.join(part).display().to_string();
        ROOT.run(&["cp", "-a", &from, "/"])?.ok()?;
    }
    let suid = fs::metadata(SUID).with_context(|| format!("cannot look at {SUID}"))?;
    ensure!(suid.uid() == 0 && suid.mode() & 0o7777 == 0o4755, "{SUID} is not set-user-id root");
    fs::create_dir_all(IMAGES)?;
    chown(IMAGES, Some(GATEWAY.uid), Some(GATEWAY.uid))?;
    fs::write(CONF, udi_root_conf()).with_context(|| format!("cannot write {CONF}"))?;
    Ok(())
}

fn udi_root_conf() -> String {
    let (owner, port) = (GATEWAY.uid, gateway::PORT);
    format!(
        "imagePath = {IMAGES}\n\
         imageOwner = {owner}\n\
         system = {SYSTEM}\n\
         imageGateway = http://127.0.0.1:{port}\n\
         siteFs = /home:/home\n\
         populateEtcDynamically = 1\n\
         maxGroupCount = 31\n"
    )
}

/// The set-user-id program.
pub const SUID: &str = "/usr/libexec/gantry/gantry-suid";

/// The configuration of runtime, plugin and commands.
pub const CONF: &str = "/etc/gantry/udiRoot.conf";

/// The image directory, on the disk that all nodes share.
pub const IMAGES: &str = "/srv/gantry/images";

/// The cluster's name in the gateway's routes.
pub const SYSTEM: &str = "testbed";
