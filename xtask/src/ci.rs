//! `cargo xtask ci`: one command for everything that needs no daemons and no root.

use crate::{bindings, command, tidy};
use anyhow::Result;
use std::time::Instant;

/// One check, from its start to its end.
type Step = fn() -> Result<()>;

/// Runs the checks in the order of how soon they fail.
///
/// # Errors
/// The first one that fails.
pub(crate) fn run() -> Result<()> {
    let steps: [(&str, Step); 5] = [
        ("fmt", fmt),
        ("tidy", tidy::run),
        ("bindings", || bindings::run(true)),
        ("clippy", clippy),
        ("test", test),
    ];
    for (name, step) in steps {
        println!("== {name}");
        let start = Instant::now();
        step()?;
        println!("== {name}: {:.1} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn fmt() -> Result<()> {
    command::run(command::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    command::run(command::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

/// What needs root or a machine of its own, the crate `tests` and the runtime's privileged tests, is run by the
/// script `test`.
fn test() -> Result<()> {
    command::run(command::cargo().args([
        "test",
        "--workspace",
        "--exclude=tests",
        "--exclude=runtime",
    ]))?;
    command::run(command::cargo().args(["test", "--package=runtime", "--lib"]))
}
