//! `imgctl`: pulls, lists, shows and removes images.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::imgctl::main(std::env::args_os()).code()
}
