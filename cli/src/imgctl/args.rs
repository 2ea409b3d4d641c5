//! What can be typed behind `imgctl`.

use crate::progress::Mode;
use crate::site::Wishes;
use clap::{Args as ClapArgs, Parser, Subcommand};
use std::path::PathBuf;

/// Pulls, lists, shows and removes the images that jobs run in.
#[derive(Debug, Parser)]
#[command(
    name = "imgctl",
    version,
    after_help = EXIT_CODES,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) site: SiteArgs,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Where to ask, instead of what udiRoot.conf says.
#[derive(Debug, ClapArgs)]
pub(super) struct SiteArgs {
    /// Read this udiRoot.conf [default: $GANTRY_CONF, /etc/gantry/udiRoot.conf, /etc/shifter/udiRoot.conf]
    #[arg(long, global = true, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// The system (cluster) whose images are meant
    #[arg(long, global = true, value_name = "NAME")]
    system: Option<String>,
    /// Ask this gateway; may be given several times, the first that answers decides
    #[arg(long, global = true, value_name = "URL")]
    gateway: Vec<String>,
}

impl SiteArgs {
    pub(super) fn wishes(&self) -> Wishes {
        Wishes {
            conf: self.conf.clone(),
            system: self.system.clone(),
            gateways: self.gateway.clone(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Fetch an image from its registry, so that jobs can use it
    Pull(PullArgs),
    /// Make an image of a file: of docker save, an OCI layout, a tar archive, a squashfs or a SIF
    Import(ImportArgs),
    /// List the images that you may use
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show everything that is known of an image
    Inspect(InspectArgs),
    /// Remove images that you own
    Rm(RmArgs),
    /// Print the digest that a reference stands for
    Resolve(ResolveArgs),
    /// Check this host's set-up, from the configuration to the gateway
    Doctor(DoctorArgs),
}

#[derive(Debug, ClapArgs)]
pub(super) struct PullArgs {
    /// The image, such as docker:ubuntu:24.04 or registry.example.org/team/app:v2
    #[arg(value_name = "IMAGE")]
    pub(super) reference: String,
    /// Who else may use a private image: user names or ids with commas between them
    #[arg(long, value_name = "LIST")]
    pub(super) user: Option<String>,
    /// Which groups may use a private image: names or ids with commas between them
    #[arg(long, value_name = "LIST")]
    pub(super) group: Option<String>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ImportArgs {
    /// The file, or a directory that is an OCI layout; what it is shows in its bytes, not in its name
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// What to call the image: NAME[:TAG], used as custom:NAME:TAG
    #[arg(long, value_name = "NAME")]
    pub(super) name: String,
    /// Let everybody use the image
    #[arg(long)]
    pub(super) public: bool,
    /// Who else may use the image: user names or ids with commas between them
    #[arg(long, alias = "user", value_name = "LIST", conflicts_with = "public")]
    pub(super) allow_user: Option<String>,
    /// Which groups may use the image: names or ids with commas between them
    #[arg(long, alias = "group", value_name = "LIST", conflicts_with = "public")]
    pub(super) allow_group: Option<String>,
    /// Which image of the file, by its name there, where there are several
    #[arg(long, value_name = "NAME")]
    pub(super) from: Option<String>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// What is printed of how an image is made.
#[derive(Debug, ClapArgs)]
pub(super) struct OutputArgs {
    /// Print the digest alone, and no progress
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto", conflicts_with = "quiet", value_name = "HOW")]
    pub(super) progress: Mode,
    /// Print the outcome as JSON
    #[arg(long, conflicts_with = "quiet")]
    pub(super) json: bool,
}

impl OutputArgs {
    /// How progress is to be shown.
    pub(super) fn mode(&self) -> Mode {
        if self.quiet { Mode::None } else { self.progress }
    }
}

#[derive(Debug, ClapArgs)]
pub(super) struct ListArgs {
    /// Only images whose reference has this in it; `*` and `?` stand for any characters
    #[arg(value_name = "PATTERN")]
    pub(super) pattern: Option<String>,
    /// Print the records as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct InspectArgs {
    /// The image: a reference, or id:DIGEST
    #[arg(value_name = "IMAGE")]
    pub(super) reference: String,
    /// Print everything as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct RmArgs {
    /// The images; the file of an image goes with its last reference
    #[arg(value_name = "IMAGE", required = true)]
    pub(super) references: Vec<String>,
    /// Print the outcomes as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ResolveArgs {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub(super) reference: String,
    /// Have the gateway pull the image first, if it is not there yet or its tag has moved
    #[arg(long)]
    pub(super) pull: bool,
    /// Do not wait until the image is made, only until the registry has said which one it is
    #[arg(long, requires = "pull")]
    pub(super) no_wait: bool,
    /// How the progress of a pull is shown, on standard error
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    pub(super) progress: Mode,
}

#[derive(Debug, ClapArgs)]
pub(super) struct DoctorArgs {
    /// Print the findings as JSON
    #[arg(long)]
    pub(super) json: bool,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  another failure
  2  the command line is wrong
  3  there is no such image
  4  you may not do this, or could not prove who you are
  5  the registry refused, has no such image, or could not be reached
  6  the image gateway or munged is away
  7  the image is no good: malformed, too large, or for another platform";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_documents_its_exit_codes() {
        let mut command = Args::command();
        command.build();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        for code in 0..=7 {
            assert!(help.contains(&format!("\n  {code}  ")), "{code} is missing");
        }
    }

    #[test]
    fn options_for_the_site_may_stand_behind_the_verb() {
        let args = ["imgctl", "list", "--gateway", "http://a", "--system=c", "--gateway=http://b"];
        let wishes = Args::try_parse_from(args).unwrap().site.wishes();
        assert_eq!(wishes.gateways, ["http://a", "http://b"]);
        assert_eq!(wishes.system.as_deref(), Some("c"));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            "imgctl rm",
            "imgctl pull a --quiet --json",
            "imgctl pull",
            "imgctl resolve a b",
            "imgctl import f",
        ] {
            assert!(Args::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
