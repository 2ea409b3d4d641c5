//! `imgctl doctor`: looks at everything a job with an image needs on this host, and says what to do about it.
//!
//! Changes nothing, needs no privilege. One line for each finding; any `FAIL` makes the exit code 1.

mod clock;
mod host;
mod service;

use super::args::DoctorArgs;
use super::print_json;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::site::{Site, Wishes};
use serde::Serialize;

/// Runs the command.
///
/// # Errors
/// None but that the findings cannot be printed.
pub(super) fn run(wishes: &Wishes, args: &DoctorArgs) -> Result<Exit, Failure> {
    let findings = examine(wishes);
    if args.json {
        print_json(&findings)?;
    } else {
        findings.iter().for_each(|finding| output::print(&finding.lines()));
    }
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    Ok(if failed { Exit::Other } else { Exit::Success })
}

fn examine(wishes: &Wishes) -> Vec<Finding> {
    let mut findings = Vec::new();
    match Site::load(wishes) {
        Ok(site) => {
            findings.extend(host::configuration(&site));
            findings.extend(service::examine(&site));
            findings.extend(host::images(&site));
            findings.push(host::suid(&site.suid_path));
        }
        Err(failure) => {
            let finding = Finding::fail("configuration", failure.text);
            findings.push(match failure.hint {
                Some(hint) => finding.hint(hint),
                None => finding,
            });
        }
    }
    findings.push(host::squashfs());
    findings.push(host::loop_control());
    findings.push(host::plugin());
    findings
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { check, verdict, text: text.into(), hint: None }
    }

    fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, text)
    }

    fn warn(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warn, text)
    }

    fn fail(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Verdict::Fail, text)
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The finding as a line, the hint as a second one.
    fn lines(&self) -> String {
        let word = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        let line = format!("{word:<5} {:<14} {}", self.check, output::printable(&self.text));
        match &self.hint {
            Some(hint) => format!("{line}\n{:21}hint: {}", "", output::printable(hint)),
            None => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_and_its_hint_another() {
        let finding = Finding::fail("munge", "cannot talk\n").hint("start it");
        assert_eq!(
            finding.lines(),
            "FAIL  munge          cannot talk\\n\n                     hint: start it"
        );
        assert_eq!(Finding::ok("munge", "works").lines(), "ok    munge          works");
    }

    #[test]
    fn without_a_configuration_the_rest_is_still_examined() {
        let wishes = Wishes { conf: Some("/nonexistent".into()), ..Wishes::default() };
        let findings = examine(&wishes);
        assert_eq!(findings[0].verdict, Verdict::Fail);
        let checks: Vec<&str> = findings.iter().map(|finding| finding.check).collect();
        assert_eq!(checks, ["configuration", "squashfs", "loop devices", "slurm plugin"]);
    }
}
