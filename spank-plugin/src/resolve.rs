//! Asks the gateway, at submission and as the user: `imgctl resolve --pull`.
//!
//! A program of its own, because nothing with HTTP, TLS or JSON belongs into srun. It gets an argument list and
//! a few variables, never a shell. Its standard error is the user's terminal, where progress and errors show.

use crate::config::Config;
use crate::options::Request;
use crate::variables;
use image_ref::Digest;
use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::{env, fmt};

/// How long to wait for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Until it is there.
    Yes,
    /// Until its digest is known.
    No,
}

/// Returns the digest that `request` means now, after the gateway pulled the image if it was not there.
///
/// Waits as long as a pull takes. An interrupt from the terminal reaches imgctl as well, which ends the wait.
///
/// # Errors
/// See [`ResolveError`].
pub(crate) fn resolve(
    config: &Config,
    request: &Request,
    wait: Wait,
) -> Result<Digest, ResolveError> {
    let program = || config.imgctl.clone();
    let mut command = command(config, request, wait);
    let mut child =
        command.spawn().map_err(|error| ResolveError::Start { program: program(), error })?;
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // A failed read shows as an answer that is no digest.
        let _ = stdout.take(ANSWER_LIMIT).read_to_end(&mut answer);
    }
    let status = child.wait().map_err(|error| ResolveError::Wait { program: program(), error })?;
    if !status.success() {
        return Err(ResolveError::Failed { text: request.text.clone(), status });
    }
    let answer = String::from_utf8_lossy(&answer);
    let answer = answer.trim_end();
    answer.parse().map_err(|_| ResolveError::Answer {
        program: program(),
        answer: answer.chars().take(80).collect(),
    })
}

fn command(config: &Config, request: &Request, wait: Wait) -> Command {
    let mut command = Command::new(&config.imgctl);
    command.args(["resolve", "--pull"]);
    if wait == Wait::No {
        command.arg("--no-wait");
    }
    command.args(["--", &request.text]);
    command.env_clear().envs(env::vars_os().filter(|(name, _)| is_passed_on(name)));
    if let Some(conf) = &config.conf {
        command.env(OsStr::from_bytes(variables::CONF.to_bytes()), conf);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// Where the user's credentials are, how to talk to the terminal, and where the configuration is.
fn is_passed_on(name: &OsStr) -> bool {
    PASSED_ON.iter().any(|known| name == *known) || name.as_bytes().starts_with(b"LC_")
}

const PASSED_ON: &[&str] = &[
    "COLUMNS",
    "DOCKER_CONFIG",
    "GANTRY_CONF",
    "HOME",
    "LANG",
    "LOGNAME",
    "NO_COLOR",
    "PATH",
    "REGISTRY_AUTH_FILE",
    "TERM",
    "TZ",
    "USER",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
];

/// The most that is read of the answer, in bytes; a digest has 71.
const ANSWER_LIMIT: u64 = 4096;

/// Why there is no digest.
#[derive(Debug)]
pub(crate) enum ResolveError {
    /// The program cannot be executed.
    Start {
        /// Which one.
        program: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Its end cannot be waited for.
    Wait {
        /// Which one.
        program: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It said why on standard error, or was interrupted.
    Failed {
        /// What was asked for.
        text: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// It succeeded with something that is no digest.
    Answer {
        /// Which one.
        program: PathBuf,
        /// The beginning of what it said.
        answer: String,
    },
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { program, .. } => {
                write!(f, "--image: cannot start `{}`", program.display())
            }
            Self::Wait { program, .. } => {
                write!(f, "--image: cannot wait for `{}`", program.display())
            }
            Self::Failed { text, status } => match status.signal() {
                Some(signal) => {
                    write!(f, "nothing was submitted: signal {signal} ended the wait for {text}")
                }
                // Why, it has said itself.
                None => write!(f, "nothing was submitted, because of --image={text}"),
            },
            Self::Answer { program, answer } => write!(
                f,
                "--image: `{}` answered `{}`, which is no digest",
                program.display(),
                answer.escape_debug()
            ),
        }
    }
}

impl std::error::Error for ResolveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start { error, .. } | Self::Wait { error, .. } => Some(error),
            Self::Failed { .. } | Self::Answer { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_program::FakeProgram;

    const DIGEST: &str = "sha256:3a1c0f6e9d8b7a6543210fedcba98765432100112233445566778899aabbccdd";

    fn resolve_with(script: &str) -> (FakeProgram, Result<Digest, ResolveError>) {
        let imgctl = FakeProgram::new(script);
        let config = Config {
            imgctl: imgctl.path().into(),
            conf: Some("/site/udiRoot.conf".into()),
            ..Config::default()
        };
        let result = resolve(&config, &Request::parse("docker:a/b:1").unwrap(), Wait::Yes);
        (imgctl, result)
    }

    #[test]
    fn the_answer_is_the_digest() {
        let (imgctl, result) = resolve_with(&format!(r#"echo "$@" >"$0.saw"; echo {DIGEST}"#));
        assert_eq!(result.unwrap().to_string(), DIGEST);
        assert_eq!(imgctl.saw(), "resolve --pull -- docker:a/b:1\n");
    }

    #[test]
    fn only_known_variables_are_passed_on() {
        let (imgctl, result) = resolve_with(&format!(r#"env >"$0.saw"; echo {DIGEST}"#));
        result.unwrap();
        let saw = imgctl.saw();
        assert!(saw.contains("GANTRY_CONF=/site/udiRoot.conf\n"), "{saw}");
        assert!(saw.contains("PATH="), "{saw}");
        // cargo gives every test this one.
        assert!(env::var_os("CARGO_MANIFEST_DIR").is_some());
        assert!(!saw.contains("CARGO_MANIFEST_DIR"), "{saw}");
    }

    #[test]
    fn what_is_no_digest_is_not_believed() {
        for script in [
            "true",
            "echo sha256:00",
            "echo ../../etc/passwd",
            "yes",
            &format!("echo {DIGEST}; echo {DIGEST}"),
        ] {
            let (_, result) = resolve_with(script);
            assert!(result.is_err(), "{script}");
        }
    }

    #[test]
    fn failures_say_what_happened() {
        let (_, failed) = resolve_with(&format!("echo {DIGEST}; exit 3"));
        assert!(
            matches!(failed, Err(ResolveError::Failed { status, .. }) if status.code() == Some(3))
        );
        let (_, killed) = resolve_with("kill -INT $$");
        let text = killed.unwrap_err().to_string();
        assert_eq!(text, "nothing was submitted: signal 2 ended the wait for docker:a/b:1");
        let config = Config { imgctl: "/nonexistent/imgctl".into(), ..Config::default() };
        let missing =
            resolve(&config, &Request::parse("docker:a").unwrap(), Wait::Yes).unwrap_err();
        assert_eq!(missing.to_string(), "--image: cannot start `/nonexistent/imgctl`");
    }
}
