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
mod statistics;
mod storage;

use ::tests::Machine;
use ::tests::machine::workspace;
use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use std::fs;
use std::path::{Path, PathBuf};

use crate::layers::{Kind, Layers};

/// Measures conversion and reading beside what others use.
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
}

#[derive(Args, Clone, Debug)]
struct Options {
    /// An image of 200 MB instead of 3 GB: to try the bench itself
    #[arg(long)]
    small: bool,
    /// Print the keys as JSON and nothing else
    #[arg(long)]
    json: bool,
    /// Run by the outer process, on its machine
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (options, words): (&Options, &[&str]) = match &arguments.what {
        What::Convert { options, ours: false } => (options, &["convert"]),
        What::Convert { options, ours: true } => (options, &["convert", "--ours"]),
        What::Read { options, settings: false } => (options, &["read"]),
        What::Read { options, settings: true } => (options, &["read", "--settings"]),
    };
    let kind = if options.small { Kind::Small } else { Kind::Big };
    let Some(directory) = &options.inside else {
        Layers::make(kind)?;
        return run_on_a_machine(words, options);
    };
    let machine = Machine::enter(Path::new("/"), directory)?;
    let layers = Layers::make(kind)?;
    let result = match &arguments.what {
        What::Convert { ours, .. } => convert::run(&machine, &layers, *ours)?,
        What::Read { settings: false, .. } => read::run(&machine, &layers)?,
        What::Read { settings: true, .. } => settings::run(&machine, &layers)?,
    };
    println!("{}", if options.json { result.json()? } else { result.text() });
    Ok(())
}

/// Runs this program again in namespaces of its own, with a directory on disk that is empty before and gone after.
fn run_on_a_machine(words: &[&str], options: &Options) -> Result<()> {
    let directory = workspace().join("target/bench/machine");
    remove(&directory)?;
    fs::create_dir_all(&directory)?;
    let place = directory.display().to_string();
    let mut arguments = words.to_vec();
    arguments.extend(["--inside", &place]);
    arguments.extend(options.small.then_some("--small"));
    arguments.extend(options.json.then_some("--json"));
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
