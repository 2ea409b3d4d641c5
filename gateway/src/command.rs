//! The command line: what the program is told to do, and its exit codes.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::app::{self, App};
use crate::config::{self, Config};
use crate::http::{router, server};
use crate::telemetry;

/// Pulls, converts, publishes and remembers images for the clusters of a site.
///
/// Exit codes: 0 after being told to stop, 1 after a failure, 2 for wrong arguments, 78 where the configuration or the
/// account is wrong, so that starting again would not help.
#[derive(Debug, Parser)]
#[command(name = "gantry-gateway", version)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, env = "GWCONFIG", default_value = config::DEFAULT_PATH, global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// Serves; what the program does without a command.
    Serve,
    /// Reads the configuration, says what is wrong or means nothing in it, and changes nothing.
    Check,
}

/// Does what the arguments say.
pub fn run(arguments: &Arguments) -> ExitCode {
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => return refuse(&anyhow::Error::from(error)),
    };
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Check => check(arguments, &config),
        Command::Serve if nix::unistd::geteuid().is_root() => refuse(&anyhow::anyhow!(
            "the gateway does not run as root: it handles what strangers send\nhint: run it as a user of its own, as the systemd unit does"
        )),
        Command::Serve => serve(&config),
    }
}

fn serve(config: &Config) -> ExitCode {
    let complaint = telemetry::start(config.log_level.as_deref());
    complaint.into_iter().chain(config::notices(config)).for_each(|notice| warn!("{notice}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.context("cannot start the threads").and_then(|runtime| {
        let result = runtime.block_on(serve_until_told(config));
        // A conversion whose downloads have ended ends by itself; nobody needs to wait for it.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve_until_told(config: &Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let app = Arc::new(App::open(config).context("cannot start")?);
    let listeners = server::listen(&config.listen)
        .await
        .map_err(|(address, why)| anyhow::anyhow!("cannot listen on {address}: {why}"))?;
    app.clean().context("cannot start")?;
    app.report_unrecorded().await.context("cannot start")?;
    app.report_sandbox();
    // Whoever pulls first finds everything ready.
    app.pulls.queue().warm_up();
    for listener in &listeners {
        info!("listens on {}", listener.local_addr()?);
    }
    app.resume().await.context("cannot begin interrupted pulls again")?;
    let stop = CancellationToken::new();
    let serving =
        tokio::spawn(server::serve(listeners, router::router(Arc::clone(&app)), stop.clone()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("stops: lets requests finish and leaves pulls for the next start");
    stop.cancel();
    app.pulls.queue().drain().await;
    serving.await.context("the server failed")
}

fn check(arguments: &Arguments, config: &Config) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let findings = app::check(config);
    let lines = findings.iter().map(|finding| format!("note: {finding}\n")).collect::<String>();
    let path = arguments.config.display();
    let written = writeln!(out, "{lines}{path} is valid, with {} notes", findings.len());
    // Nobody is there to read it.
    if written.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Says why starting makes no sense, on standard error: there is no log yet.
fn refuse(error: &anyhow::Error) -> ExitCode {
    // Where standard error is closed, the exit code says it alone.
    drop(writeln!(std::io::stderr(), "gantry-gateway: {error:#}"));
    ExitCode::from(EX_CONFIG)
}

/// `EX_CONFIG` of sysexits.h; the systemd unit does not start the gateway again after it.
const EX_CONFIG: u8 = 78;
