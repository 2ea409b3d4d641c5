//! Running other programs from the root of the workspace.
//!
//! Every program is named with its arguments when it fails, so that a chore's error can be repeated by hand.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The root of the workspace: that of the `cargo xtask` that runs this, else of where this program was built.
///
/// A checkout that was copied or moved may still have the program that was built in its old place.
pub(crate) fn workspace_root() -> PathBuf {
    let running = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let xtask = running.filter(|directory| directory.ends_with("xtask"));
    let xtask = xtask.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    xtask.parent().map_or_else(|| xtask.clone(), Path::to_path_buf)
}

/// The cargo that runs this chore, ready to take arguments, in the root of the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root());
    command
}

/// Runs a command to its end, its output going where ours goes.
///
/// # Errors
/// Where the program cannot be started or does not end with success; the error repeats the command line.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = command_line(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs a command to its end and takes what it writes to standard output.
///
/// # Errors
/// As [`run`], and where the output is not UTF-8.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let line = command_line(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` did not write UTF-8"))
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_with_its_arguments() {
        let error = run(Command::new("false").args(["--really", "x"])).unwrap_err();
        assert!(error.to_string().starts_with("`false --really x` failed"), "{error}");
        assert!(output_of(&mut Command::new("/nonexistent/program")).is_err());
    }

    #[test]
    fn output_is_handed_back_as_text() {
        assert_eq!(output_of(Command::new("printf").arg("a b")).unwrap(), "a b");
    }
}
