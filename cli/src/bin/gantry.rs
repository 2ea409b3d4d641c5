//! `gantry`, installed as `shifter` too: runs a command inside an image.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::gantry::main(std::env::args_os())
}
