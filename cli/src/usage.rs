//! What clap has to say, in the form of every other message: one sentence and one hint, not a page of usage.

use crate::exit::{Exit, Failure};
use clap::error::ErrorKind;

/// What parsing a command line ended with, where it gave nothing to do.
#[derive(Debug)]
pub enum Answer {
    /// Text that was asked for, such as the help: for standard output.
    Text(String),
    /// The command line is wrong.
    Wrong(Failure),
}

/// Turns clap's error, or its request to show a text, into an answer; `help` is the command to point at.
pub fn answer(error: &clap::Error, help: &str) -> Answer {
    let text = error.to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Answer::Text(text.trim_end().to_string());
    }
    let mut failure = Failure::new(Exit::Usage, sentence(&text));
    failure.hint = Some(tip(&text).unwrap_or_else(|| format!("`{help}` shows what there is")));
    Answer::Wrong(failure)
}

/// The first paragraph on one line, without clap's word in front.
fn sentence(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let joined = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    match joined.strip_prefix("error: ") {
        Some(rest) => rest.to_string(),
        // clap shows the whole help where there is no command at all.
        None => "no command was given".to_string(),
    }
}

/// clap's guess at what was meant.
fn tip(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("tip: "))?;
    Some(line.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, Command};

    fn wrong(args: &[&str]) -> Failure {
        let command = Command::new("x")
            .arg_required_else_help(true)
            .arg(Arg::new("image").long("image"))
            .arg(Arg::new("ref").required(true));
        match answer(&command.try_get_matches_from(args).unwrap_err(), "x --help") {
            Answer::Wrong(failure) => failure,
            Answer::Text(text) => panic!("{text}"),
        }
    }

    #[test]
    fn a_mistake_is_one_sentence_with_the_nearest_option_as_hint() {
        let failure = wrong(&["x", "--imgae=a"]);
        assert_eq!(failure.text, "unexpected argument '--imgae' found");
        assert!(failure.hint.unwrap().contains("'--image'"));
        assert_eq!(failure.exit, Exit::Usage);
    }

    #[test]
    fn what_is_missing_is_named_on_the_same_line() {
        let failure = wrong(&["x", "--image=a"]);
        assert_eq!(failure.text, "the following required arguments were not provided: <ref>");
        assert_eq!(failure.hint.as_deref(), Some("`x --help` shows what there is"));
    }

    #[test]
    fn no_argument_at_all_is_a_mistake_too() {
        assert_eq!(wrong(&["x"]).text, "no command was given");
    }
}
