//! How long to wait for a registry, and how often to ask it again.

use crate::failure::Failure;
use std::time::Duration;

/// How patient a session is.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// How long connecting may take, TLS included.
    pub connect: Duration,
    /// How long nothing may come, be it an answer or the next part of one.
    pub idle: Duration,
    /// How often one thing is tried in all, at least once.
    pub tries: u32,
    /// How long to wait before the second try; doubled before each further one.
    pub pause: Duration,
    /// The longest `Retry-After` that is waited for; a registry that asks for more is reported busy.
    pub longest_pause: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            tries: 4,
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// Counts failures of one thing and waits between tries.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    timeouts: &'a Timeouts,
    failures: u32,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(timeouts: &'a Timeouts) -> Self {
        Self::after(timeouts, 0)
    }

    /// Goes on where an earlier one had counted so many failures.
    pub(crate) fn after(timeouts: &'a Timeouts, failures: u32) -> Self {
        Self { timeouts, failures }
    }

    /// Waits until the next try, or gives the failure back where there shall be none.
    pub(crate) async fn wait(&mut self, failure: Failure) -> Result<(), Failure> {
        self.failures += 1;
        if !failure.is_temporary() || self.failures >= self.timeouts.tries {
            return Err(failure);
        }
        let doubled = self.timeouts.pause.saturating_mul(1 << (self.failures - 1).min(10));
        let pause = failure.retry_after().unwrap_or(doubled);
        if pause > self.timeouts.longest_pause {
            return Err(failure);
        }
        tracing::debug!(failures = self.failures, ?pause, "trying again: {failure:?}");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}
