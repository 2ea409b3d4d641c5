//! Waiting for something to become so, never longer than said, and saying what it was.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Asks `probe` until it answers with something, and returns that.
///
/// # Errors
/// Where nothing came within `limit`; the text names `what` was waited for. An error of `probe` ends the wait.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if begun.elapsed() > limit {
            bail!("waited {} s in vain for {what}", limit.as_secs());
        }
        std::thread::sleep(PAUSE);
    }
}

/// How long a daemon may take to come up on a busy machine.
pub const START: Duration = Duration::from_secs(30);

/// How long a short job may take on a busy machine.
pub const JOB: Duration = Duration::from_secs(120);

/// Between two looks: short beside everything that is waited for.
const PAUSE: Duration = Duration::from_millis(20);
