//! `gantry-gateway`: see the library beside it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use gateway::command::{Arguments, run};

fn main() -> ExitCode {
    run(&Arguments::parse())
}
