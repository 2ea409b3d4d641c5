//! A munged of the machine's own, at Debian's default socket.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::Path;
use std::process::Command;

use crate::caller::{ROOT, finish};
use crate::machine::Machine;

/// A running munged.
#[derive(Debug)]
pub struct Munged {
    _started: (),
}

impl Munged {
    /// Makes a key and starts munged; it returns when the socket is there.
    ///
    /// # Errors
    /// Where munged does not start, with what it said.
    pub fn start(_machine: &Machine) -> Result<Self> {
        let id =
            |flag| -> Result<u32> { Ok(ROOT.run(&["id", flag, "munge"])?.ok()?.trim().parse()?) };
        let (uid, gid) = (id("-u")?, id("-g")?);
        for (directory, mode) in [("/run/munge", 0o755), ("/srv/munge", 0o700)] {
            if !Path::new(directory).exists() {
                fs::DirBuilder::new().mode(mode).create(directory)?;
                chown(directory, Some(uid), Some(gid))?;
            }
        }
        if !Path::new(KEY).exists() {
            let mut random = [0; 128];
            let mut source = fs::File::open("/dev/urandom")?;
            std::io::Read::read_exact(&mut source, &mut random)?;
            let mut key = fs::File::options().write(true).create_new(true).mode(0o400).open(KEY)?;
            std::io::Write::write_all(&mut key, &random)?;
            chown(KEY, Some(uid), Some(gid))?;
        }
        // It refuses to run as root on a socket directory that belongs to its own account.
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "munge", "--regid", "munge", "--clear-groups", "munged"])
            .arg(format!("--key-file={KEY}"))
            .arg(format!("--socket={SOCKET}"))
            .args(["--pid-file=/srv/munge/munged.pid", "--log-file=/srv/munge/munged.log"])
            .args(["--seed-file=/srv/munge/munged.seed", "--num-threads=4"]);
        let outcome = finish("munged", &mut command).context("cannot start munged")?;
        ensure!(outcome.code == 0, "munged does not start: {outcome}");
        Ok(Self { _started: () })
    }

    /// Stops munged; [`Munged::start`] starts another with the same key.
    ///
    /// # Errors
    /// Where none is running.
    pub fn stop(self) -> Result<()> {
        let stop =
            ["munged", "--stop", &format!("--socket={SOCKET}"), "--pid-file=/srv/munge/munged.pid"];
        ROOT.run(&stop)?.ok().map(drop)
    }
}

/// Debian's default, so that no client needs telling.
pub const SOCKET: &str = "/run/munge/munge.socket.2";

const KEY: &str = "/srv/munge/munge.key";
