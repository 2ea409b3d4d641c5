//! `imgctl`: images, as the calling user. One verb, one file.

mod args;
mod doctor;
mod import;
mod inspect;
mod list;
mod pull;
mod resolve;
mod rm;

use crate::exit::{Exit, Failure};
use crate::output;
use crate::site::Site;
use crate::usage::{self, Answer};
use args::{Args, Command};
use clap::Parser as _;
use image_ref::ImageRef;
use std::ffi::OsString;

/// The name in front of every message.
const PROGRAM: &str = "imgctl";

/// Runs one command line, tells what went wrong, and says how to end.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => match usage::answer(&error, "imgctl --help") {
            Answer::Text(text) => {
                output::print(&text);
                return Exit::Success;
            }
            Answer::Wrong(failure) => return tell(&failure),
        },
    };
    match run(args) {
        Ok(exit) => exit,
        Err(failure) => tell(&failure),
    }
}

fn run(args: Args) -> Result<Exit, Failure> {
    let wishes = args.site.wishes();
    match args.command {
        // Must work where nothing else does.
        Command::Doctor(doctor) => return doctor::run(&wishes, &doctor),
        Command::Pull(pull) => pull::run(&Site::load(&wishes)?, &pull)?,
        Command::Import(import) => import::run(&Site::load(&wishes)?, &import)?,
        Command::List(list) => list::run(&Site::load(&wishes)?, &list)?,
        Command::Inspect(inspect) => inspect::run(&Site::load(&wishes)?, &inspect)?,
        Command::Rm(rm) => return rm::run(&Site::load(&wishes)?, &rm),
        Command::Resolve(resolve) => resolve::run(&wishes, &resolve)?,
    }
    Ok(Exit::Success)
}

fn tell(failure: &Failure) -> Exit {
    output::failure(PROGRAM, failure);
    failure.exit
}

/// Reads a reference as it was typed.
fn parse_reference(text: &str) -> Result<ImageRef, Failure> {
    text.parse().map_err(|error| {
        Failure::new(Exit::Usage, format!("`{text}` is not an image reference: {error}"))
            .with_hint("write [docker:][registry/]name[:tag], such as docker:ubuntu:24.04")
    })
}

/// A value that must have a JSON form, printed.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    output::print_json(value)
        .map_err(|error| Failure::new(Exit::Other, format!("cannot write JSON: {error}")))
}
