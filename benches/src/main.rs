//! `./bench`: Gantry's programs beside what others use, on the same images, on one machine, in one run.
//!
//! The outer process makes the layers and then runs itself on a machine of its own, as the end-to-end tests do; nothing
//! is measured outside. Progress goes to standard error, the result to standard output.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it reports to who called it")]

mod bound;
mod compare;
mod convert;
mod copy;
mod layers;
mod link;
mod measure;
mod peers;
mod processes;
mod read;
mod report;
mod settings;
mod site;
mod srun;
mod start_up;
mod statistics;
mod storage;

use ::tests::Machine;
use ::tests::machine::workspace;
use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use std::fs;
use std::path::{Path, PathBuf};

use crate::layers::{Kind, Layers};

/// Measures conversion, reading and starting beside what others use.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// From a registry to an image: cold, warm, over a slow link, beside Shifter's way, enroot's and tar2sqfs
    Convert {
        #[command(flatten)]
        options: Options,
        /// Leave out the others, which takes most of the time, and their keys
        #[arg(long)]
        ours: bool,
    },
    /// What a program in an image waits for, cold, beside mksquashfs' default output
    Read {
        #[command(flatten)]
        options: Options,
        /// Compare compressors, levels and block sizes of ours instead
        #[arg(long)]
        settings: bool,
    },
    /// From a command line to a program that runs in a mounted image, beside fork and exec and bwrap
    StartUp {
        #[command(flatten)]
        run: Run,
    },
    /// A step of a running job without the plugin, with it, and with an image
    Srun {
        #[command(flatten)]
        run: Run,
    },
}

#[derive(Args, Clone, Debug)]
struct Options {
    /// An image of 200 MB instead of 3 GB: to try the bench itself
    #[arg(long)]
    small: bool,
    #[command(flatten)]
    run: Run,
}

#[derive(Args, Clone, Debug)]
struct Run {
    /// Print the keys as JSON and nothing else
    #[arg(long)]
    json: bool,
    /// Run by the outer process, on its machine
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let run = match &arguments.what {
        What::Convert { options, .. } | What::Read { options, .. } => &options.run,
        What::StartUp { run } | What::Srun { run } => run,
    };
    let Some(directory) = &run.inside else {
        if let What::Convert { options, .. } | What::Read { options, .. } = &arguments.what {
            options.layers()?;
        }
        return run_on_a_machine();
    };
    let machine = Machine::enter(Path::new("/"), directory)?;
    let result = match &arguments.what {
        What::Convert { options, ours } => convert::run(&machine, &options.layers()?, *ours)?,
        What::Read { options, settings: false } => read::run(&machine, &options.layers()?)?,
        What::Read { options, settings: true } => settings::run(&machine, &options.layers()?)?,
        What::StartUp { .. } => start_up::run(&machine)?,
        What::Srun { .. } => srun::run(&machine)?,
    };
    println!("{}", if run.json { result.json()? } else { result.text() });
    Ok(())
}

impl Options {
    /// Makes the layers, or finds them made.
    fn layers(&self) -> Result<Layers> {
        Layers::make(if self.small { Kind::Small } else { Kind::Big })
    }
}

/// Runs this program again in namespaces of its own, with a directory on disk that is empty before and gone after.
fn run_on_a_machine() -> Result<()> {
    let directory = workspace().join("target/bench/machine");
    remove(&directory)?;
    fs::create_dir_all(&directory)?;
    let place = directory.display().to_string();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut arguments: Vec<&str> = words.iter().map(String::as_str).collect();
    arguments.extend(["--inside", &place]);
    let ended = Machine::command(&directory, &std::env::current_exe()?, &arguments)
        .status()
        .context("cannot run unshare")?;
    remove(&directory)?;
    ensure!(ended.success(), "the bench failed on its machine: {ended}");
    Ok(())
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
