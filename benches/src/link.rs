//! A link of limited speed to the registry: a token bucket on the machine's own loopback interface.
//!
//! The kernel's `tbf`, which takes no processor time worth naming. Everything on the interface passes it, so that also
//! what `imgctl` and the gateway say to each other does; that is little.

use ::tests::caller::ROOT;
use anyhow::{Context, Result};

/// A limited link; unlimited again when dropped.
#[derive(Debug)]
pub(crate) struct Link {
    _limited: (),
}

impl Link {
    /// Limits it to [`BYTES_PER_SECOND`].
    ///
    /// # Errors
    /// Where the kernel has no `tbf`.
    pub(crate) fn limit() -> Result<Self> {
        let rate = format!("{}bit", BYTES_PER_SECOND * 8);
        ROOT.run(&[
            "tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", &rate, "burst", "1mb",
            "limit", "16mb",
        ])?
        .ok()
        .context("cannot limit the loopback interface")?;
        Ok(Self { _limited: () })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        ROOT.run(&["tc", "qdisc", "del", "dev", "lo", "root"]).ok();
    }
}

/// 100 MB/s, which is not 100 MiB/s.
pub(crate) const BYTES_PER_SECOND: u64 = 100_000_000;
