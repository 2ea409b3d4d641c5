//! `cargo xtask`: the project's own chores, one file for each.
//!
//! Nothing here is installed or linked into a product. What a chore decides lives in pure functions with tests;
//! running programs and writing files stays in the chore's own `run`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a chore reports on the terminal")]

mod bindings;
mod ci;
mod command;
mod elf;
mod install;
mod products;
mod source;
mod tidy;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// The project's own chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Checks what rustfmt and clippy cannot: arrows, sizes, places of `unsafe`, paths in documents
    Tidy,
    /// Writes the bindings to libmunge and to Slurm from the installed headers
    Bindings {
        /// Compare with the committed files instead, and fail where they differ
        #[arg(long)]
        check: bool,
    },
    /// Builds what people install into target/products/
    Build {
        /// Build the front ends, the gateway and the plugin without optimisation
        #[arg(long)]
        debug: bool,
    },
    /// Puts the built products, the examples and the units below a root directory
    Install {
        /// The directory that stands for `/`
        #[arg(long, default_value = "/")]
        root: PathBuf,
        /// The directory of Slurm's plugins, below the root
        #[arg(long, default_value = "/usr/lib/x86_64-linux-gnu/slurm-wlm")]
        slurm_plugins: PathBuf,
    },
    /// Everything that must hold before a change is merged, end-to-end tests apart
    Ci,
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<()> {
    match chore {
        Chore::Tidy => tidy::run(),
        Chore::Bindings { check } => bindings::run(check),
        Chore::Build { debug } => products::run(debug),
        Chore::Install { root, slurm_plugins } => install::run(&root, &slurm_plugins),
        Chore::Ci => ci::run(),
    }
}
