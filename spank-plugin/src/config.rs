//! The words behind the plugin's path in plugstack.conf.
//!
//! Read in every program, used only where `--image` is: a mistake here must not keep jobs without an image from
//! running, so nobody may fail on it before it matters.

use crate::devices::Devices;
use std::fmt;
use std::path::{Path, PathBuf};

/// What the administrator wrote, with the defaults for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// `conf=`: the udiRoot.conf that the commands of users read, where it is not their own default.
    pub(crate) conf: Option<PathBuf>,
    /// `imgctl=`: asks the gateway at submission.
    pub(crate) imgctl: PathBuf,
    /// `gantry=`: the front end, for tasks that cannot be given to the runtime directly.
    pub(crate) gantry: PathBuf,
    /// `suid=`: the runtime.
    pub(crate) suid: PathBuf,
    /// `enter=`: what runs inside.
    pub(crate) enter: Enter,
    /// `pyxis_options=yes`: whether Pyxis' options are taken too.
    pub(crate) pyxis_options: bool,
    /// `gpu_devices=`: the devices of a task that was granted GPUs and names none.
    pub(crate) gpu_devices: Option<Devices>,
}

/// What of a job with an image runs inside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Enter {
    /// The tasks of every srun; the batch script stays on the host, where srun and sbatch are.
    #[default]
    Steps,
    /// The batch script and salloc's shell on a node, too.
    All,
    /// Nothing but what says `gantry` or `shifter` itself; Shifter's way.
    Explicit,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            conf: None,
            imgctl: "/usr/bin/imgctl".into(),
            gantry: "/usr/bin/gantry".into(),
            suid: udiroot_conf::SUID_PATH.into(),
            enter: Enter::default(),
            pyxis_options: false,
            gpu_devices: None,
        }
    }
}

/// Parses the words of one line of plugstack.conf.
///
/// # Errors
/// The first word that is none, or whose value cannot be.
pub(crate) fn parse(words: &[String]) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            return Err(ConfigError::Unknown(word.clone()));
        };
        match key {
            "conf" => config.conf = Some(absolute(word, value)?),
            "imgctl" => config.imgctl = absolute(word, value)?,
            "gantry" => config.gantry = absolute(word, value)?,
            "suid" => config.suid = absolute(word, value)?,
            "enter" => {
                config.enter = match value {
                    "steps" => Enter::Steps,
                    "all" => Enter::All,
                    "explicit" => Enter::Explicit,
                    _ => return Err(ConfigError::Enter(word.clone())),
                }
            }
            "pyxis_options" => {
                config.pyxis_options = match value {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(ConfigError::Switch(word.clone())),
                }
            }
            "gpu_devices" => {
                let devices = Devices::parse(value);
                config.gpu_devices =
                    Some(devices.ok_or_else(|| ConfigError::Devices(word.clone()))?);
            }
            _ => return Err(ConfigError::Unknown(word.clone())),
        }
    }
    Ok(config)
}

fn absolute(word: &str, path: &str) -> Result<PathBuf, ConfigError> {
    let path = Path::new(path);
    if path.is_absolute() { Ok(path.into()) } else { Err(ConfigError::Relative(word.into())) }
}

/// A word in plugstack.conf that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConfigError {
    /// There is no such argument.
    Unknown(String),
    /// The value is no absolute path.
    Relative(String),
    /// The value is none of the three words.
    Enter(String),
    /// The value is neither `yes` nor `no`.
    Switch(String),
    /// The value is no list of devices.
    Devices(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(
                f,
                "plugstack.conf gives the plugin `{}`, which is not one of conf=, imgctl=, gantry=, suid=, enter=, pyxis_options= and gpu_devices=",
                word.escape_debug()
            ),
            Self::Relative(word) => {
                write!(f, "plugstack.conf: `{}` is not an absolute path", word.escape_debug())
            }
            Self::Switch(word) => {
                write!(f, "plugstack.conf: `{}` is neither yes nor no", word.escape_debug())
            }
            Self::Devices(word) => {
                write!(f, "plugstack.conf: `{}` is not a list of devices", word.escape_debug())
            }
            Self::Enter(word) => write!(
                f,
                "plugstack.conf: `{}` is not one of enter=steps, enter=all and enter=explicit",
                word.escape_debug()
            ),
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn no_words_mean_the_defaults() {
        assert_eq!(parse(&[]), Ok(Config::default()));
        assert_eq!(Config::default().enter, Enter::Steps);
    }

    #[test]
    fn every_documented_word_is_taken() {
        let line = "conf=/c imgctl=/i gantry=/g suid=/s enter=all pyxis_options=yes \
                    gpu_devices=nvidia.com/gpu=all";
        let expected = Config {
            conf: Some("/c".into()),
            imgctl: "/i".into(),
            gantry: "/g".into(),
            suid: "/s".into(),
            enter: Enter::All,
            pyxis_options: true,
            gpu_devices: Devices::parse("nvidia.com/gpu=all"),
        };
        assert_eq!(parse(&words(line)), Ok(expected));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, error) in [
            ("shifter_config=/x", ConfigError::Unknown("shifter_config=/x".into())),
            ("long_options", ConfigError::Unknown("long_options".into())),
            ("suid=gantry-suid", ConfigError::Relative("suid=gantry-suid".into())),
            ("enter=batch", ConfigError::Enter("enter=batch".into())),
            ("gpu_devices=a;b", ConfigError::Devices("gpu_devices=a;b".into())),
            ("pyxis_options=1", ConfigError::Switch("pyxis_options=1".into())),
        ] {
            assert_eq!(parse(&words(line)), Err(error), "{line}");
        }
    }
}
