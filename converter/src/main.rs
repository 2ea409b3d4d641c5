//! `gantry-convert`: started by the gateway, never by people.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("--check"), None) => converter::check(),
        (Some("--parent"), Some(parent)) => match parent.parse() {
            Ok(parent) => converter::run(parent),
            Err(_) => usage(),
        },
        _ => usage(),
    }
}

#[expect(clippy::print_stderr, reason = "somebody started it by hand")]
fn usage() -> ExitCode {
    eprintln!(
        "gantry-convert: the gateway starts this program\nhint: `gantry-convert --check` tells whether its sandbox works here"
    );
    ExitCode::from(64)
}
