//! The log: lines on standard error, for journald or a terminal.
//!
//! Texts from users and registries are escaped where they are logged; secrets have no `Debug` or `Display` to leak by.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Starts the log at this level, in Shifter's words; `RUST_LOG` goes before it. Returns a complaint about a word that
/// means no level.
pub fn start(level: Option<&str>) -> Option<String> {
    let (level, complaint) = match level.map(str::to_ascii_lowercase).as_deref() {
        None | Some("info") => ("info", None),
        Some("debug") => ("debug", None),
        Some("warn" | "warning") => ("warn", None),
        Some("error" | "critical") => ("error", None),
        Some(other) => {
            ("info", Some(format!("LogLevel is {other:?}, which is no level; using info")))
        }
    };
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("warn,gateway={level}")));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    // Under journald, which has its own clock.
    let under_journald = std::env::var_os("JOURNAL_STREAM").is_some();
    let started = if under_journald { log.without_time().try_init() } else { log.try_init() };
    // A second start, in tests, keeps the first log.
    drop(started);
    complaint
}
