//! What can be typed behind `gantry`: Shifter's options in Shifter's spelling.
//!
//! The first word that is no option begins the command, and everything behind it is the command's own.

use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// Runs a command inside an image; without one, a shell.
#[derive(Debug, Parser)]
#[command(
    name = "gantry",
    version,
    disable_version_flag = true,
    after_help = AFTER_HELP,
    override_usage = "gantry [OPTIONS] [--] [COMMAND [ARGUMENTS...]]"
)]
pub(super) struct Options {
    /// The image, such as docker:ubuntu:24.04 or id:DIGEST; `none` runs the command on the host
    #[arg(short, long, value_name = "IMAGE")]
    pub(super) image: Option<String>,
    /// Make a host path visible inside, as FROM:TO[:ro]; may be given several times, or with `;` between
    #[arg(short = 'V', long = "volume", value_name = "FROM:TO[:ro]")]
    pub(super) volumes: Vec<String>,
    /// A device in the words of CDI, such as nvidia.com/gpu=0; several times, or with `,` between; `none` for none
    #[arg(long = "device", value_name = "VENDOR/CLASS=NAME")]
    pub(super) devices: Vec<String>,
    /// Modules of the site in place of its default ones, as NAME[,NAME...]; `none` for none
    #[arg(short, long, value_name = "NAMES")]
    pub(super) module: Option<String>,
    /// Start in DIR inside the image; without DIR, in the image's own working directory
    #[arg(short, long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    pub(super) workdir: Option<Option<OsString>>,
    /// Set an environment variable inside; may be given several times
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = clap::builder::ValueParser::os_string())]
    pub(super) env: Vec<OsString>,
    /// Set the variables of a file, one NAME=VALUE in a line; `#` begins a comment
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<std::path::PathBuf>,
    /// Do not take the environment along
    #[arg(short = 'E', long = "clearenv")]
    pub(super) clear_env: bool,
    /// Run the image's entrypoint, or CMD in its place
    #[arg(
        long,
        visible_alias = "entry",
        value_name = "CMD",
        num_args = 0..=1,
        require_equals = true
    )]
    pub(super) entrypoint: Option<Option<OsString>>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(super) explain: bool,
    /// Print the site's configuration, each value with where it is from
    #[arg(long)]
    pub(super) show_config: bool,
    /// With --explain: do it, but for the command, and print what each step took
    #[arg(long, requires = "explain")]
    pub(super) time: bool,
    /// Tell what is run
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Print the version
    #[arg(long, action = ArgAction::Version)]
    version: Option<bool>,
    /// Accepted for Shifter's sake, without effect
    #[arg(short = 'n', hide = true)]
    no_effect: bool,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub(super) command: Vec<OsString>,
}

/// Parses a command line, `args` with the program's own name first.
///
/// # Errors
/// clap's, for a mistake or a text that was asked for.
pub(super) fn parse(args: &[OsString], program: &'static str) -> Result<Options, clap::Error> {
    let mut command = Options::command().name(program).bin_name(program);
    if program != "gantry" {
        command =
            command.override_usage(format!("{program} [OPTIONS] [--] [COMMAND [ARGUMENTS...]]"));
    }
    let options = Options::from_arg_matches(&command.clone().try_get_matches_from(args)?)?;
    if let Some(bad) = options.env.iter().find(|item| !is_setting(item)) {
        let text = format!("`{}` is not of the form NAME=VALUE", bad.display());
        return Err(command.error(clap::error::ErrorKind::ValueValidation, text));
    }
    Ok(options)
}

fn is_setting(item: &OsStr) -> bool {
    item.as_bytes().iter().position(|&byte| byte == b'=').is_some_and(|at| at > 0)
}

impl Options {
    /// The command, or the shell that stands for none inside an image.
    pub(super) fn command_or_shell(&self) -> Vec<OsString> {
        if self.command.is_empty() { vec!["/bin/sh".into()] } else { self.command.clone() }
    }
}

const AFTER_HELP: &str = "\
Without --image, the image is that of the job: GANTRY_IMAGE, or Shifter's SHIFTER_IMAGE.
The exit code is the command's, or 127 if there is no such command, 126 if it cannot be
executed, 125 if the image cannot be entered.";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Options, String> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        parse(&args, "gantry").map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn options_end_with_the_first_word_that_is_none() {
        let options = parse_line("gantry --image=a ls -l --image=b -- -V").unwrap();
        assert_eq!(options.image.as_deref(), Some("a"));
        assert_eq!(options.command, ["ls", "-l", "--image=b", "--", "-V"]);
        let options = parse_line("gantry -i a -- --odd-name -x").unwrap();
        assert_eq!(options.command, ["--odd-name", "-x"]);
    }

    #[test]
    fn shifters_spellings_are_understood() {
        let options = parse_line(
            "gantry -V /a:/b --volume=/c:/d:ro -E -e A=1 --env=B= --workdir=/w --entry=/bin/x -v -n sh",
        )
        .unwrap();
        assert_eq!(options.volumes, ["/a:/b", "/c:/d:ro"]);
        assert!(options.clear_env && options.verbose);
        assert_eq!(options.env, ["A=1", "B="]);
        assert_eq!(options.workdir, Some(Some("/w".into())));
        assert_eq!(options.entrypoint, Some(Some("/bin/x".into())));
        assert_eq!(options.command, ["sh"]);
    }

    #[test]
    fn optional_values_do_not_swallow_the_command() {
        let options = parse_line("gantry --entrypoint -w sh").unwrap();
        assert_eq!(options.entrypoint, Some(None));
        assert_eq!(options.workdir, Some(None));
        assert_eq!(options.command, ["sh"]);
    }

    #[test]
    fn mistakes_are_not_taken_for_commands() {
        for (line, text) in [
            ("gantry --imgae=a ls", "'--imgae'"),
            ("gantry --env=A ls", "`A` is not of the form NAME=VALUE"),
            ("gantry --env==b ls", "`=b` is not"),
            ("gantry --image", "a value is required for '--image <IMAGE>'"),
        ] {
            let error = parse_line(line).unwrap_err();
            assert!(error.contains(text), "{line}: {error}");
        }
    }

    #[test]
    fn a_variable_need_not_be_text() {
        use std::os::unix::ffi::OsStringExt as _;
        let odd = OsString::from_vec(b"A=\xff".to_vec());
        let args = ["gantry".into(), "-e".into(), odd.clone(), "sh".into()];
        assert_eq!(parse(&args, "gantry").unwrap().env, [odd]);
    }
}
