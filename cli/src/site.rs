//! What the site's configuration tells the commands: where images lie, who serves them, what enters them.
//!
//! Read from udiRoot.conf, with the command line's own wishes on top. Trusts nothing: the set-user-id program reads
//! its own configuration and asks nobody.

use crate::exit::{Exit, Failure};
use std::env;
use std::error::Error as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use udiroot_conf::{CommandConf, LoadError, SUID_PATH};

/// The options that every `imgctl` command takes, and `gantry` by its environment.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Another udiRoot.conf.
    pub conf: Option<PathBuf>,
    /// Another system than the configured one.
    pub system: Option<String>,
    /// Other gateways than the configured ones.
    pub gateways: Vec<String>,
}

/// The site as the commands see it.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// The file that was read; `None` where there is none and the command line said enough.
    pub conf: Option<PathBuf>,
    /// URLs of the gateways.
    pub gateways: Vec<String>,
    /// The name of this system in the gateway's routes.
    pub system: Option<String>,
    /// The image directory.
    pub image_path: Option<PathBuf>,
    /// The account that owns the images, where the configuration says it.
    pub image_owner: Option<u32>,
    /// How long a gateway may take to answer.
    pub timeout: Option<Duration>,
    /// munged's socket, where it is not the default one.
    pub munge_socket: Option<PathBuf>,
    /// The set-user-id program.
    pub suid_path: PathBuf,
    /// Lines of the file that have no effect.
    pub notices: Vec<String>,
}

impl Site {
    /// Reads the configuration that `wishes` names, or the environment, or the first of [`CONF_PATHS`] that is there.
    ///
    /// # Errors
    /// Where the file is not there or cannot be used; a file that is not there is no error where `wishes` names
    /// both gateway and system.
    pub fn load(wishes: &Wishes) -> Result<Self, Failure> {
        let path = conf_path(wishes.conf.as_deref(), env::var_os(CONF_VARIABLE).map(PathBuf::from));
        let mut site = match udiroot_conf::load(&path) {
            Ok(conf) => Self::from_conf(path, conf),
            Err(LoadError::Read { ref source, .. })
                if source.kind() == std::io::ErrorKind::NotFound
                    && wishes.conf.is_none()
                    && wishes.system.is_some()
                    && !wishes.gateways.is_empty() =>
            {
                Self { suid_path: SUID_PATH.into(), ..Self::default() }
            }
            Err(error) => return Err(unusable(&error)),
        };
        if !wishes.gateways.is_empty() {
            site.gateways.clone_from(&wishes.gateways);
        }
        if wishes.system.is_some() {
            site.system.clone_from(&wishes.system);
        }
        Ok(site)
    }

    fn from_conf(path: PathBuf, conf: CommandConf) -> Self {
        Self {
            conf: Some(path),
            gateways: conf.image_gateway,
            system: conf.system,
            image_path: Some(conf.conf.image_path.into()),
            image_owner: conf.conf.image_owner,
            timeout: conf.gateway_timeout.map(|seconds| Duration::from_secs(seconds.into())),
            munge_socket: conf.munge_socket_path.map(PathBuf::from),
            suid_path: conf.gantry_suid_path.into(),
            notices: conf.notices.iter().map(ToString::to_string).collect(),
        }
    }

    /// The account that the gateway runs as: the owner of the images, named by the configuration or seen at the
    /// image directory.
    ///
    /// `None` where neither says it; root is no answer, for no gateway runs as root. Whoever answers at the
    /// gateway's address is never asked: that may be anybody.
    pub fn gateway_account(&self) -> Option<u32> {
        let seen = || std::fs::metadata(self.image_path.as_ref()?).ok().map(|found| found.uid());
        self.image_owner.or_else(seen).filter(|uid| *uid != 0)
    }

    /// The configuration file's name, for messages.
    pub fn conf_name(&self) -> String {
        self.conf
            .as_ref()
            .map_or_else(|| "udiRoot.conf".to_string(), |path| path.display().to_string())
    }
}

/// The option, the environment, the first file that is there; the first of them all where none is.
fn conf_path(option: Option<&Path>, variable: Option<PathBuf>) -> PathBuf {
    option
        .map(Path::to_path_buf)
        .or(variable.filter(|path| !path.as_os_str().is_empty()))
        .or_else(|| CONF_PATHS.iter().map(PathBuf::from).find(|path| path.exists()))
        .unwrap_or_else(|| CONF_PATHS[0].into())
}

fn unusable(error: &LoadError) -> Failure {
    let why = error.source().map(ToString::to_string).unwrap_or_default();
    let why = why.split(" (os error").next().unwrap_or_default().to_string();
    let failure = Failure::new(Exit::Other, format!("{error}: {why}"));
    match error {
        LoadError::Read { .. } => failure.with_hint(format!(
            "Gantry is configured in {}; `--conf` or {CONF_VARIABLE} name another file",
            CONF_PATHS[0]
        )),
        LoadError::Parse { .. } => {
            failure.with_hint("tell your administrators: jobs with images fail")
        }
    }
}

/// Where udiRoot.conf is looked for: our own place, then Shifter's.
pub const CONF_PATHS: [&str; 2] = ["/etc/gantry/udiRoot.conf", "/etc/shifter/udiRoot.conf"];

/// The variable that names another file, for the unprivileged programs only.
const CONF_VARIABLE: &str = "GANTRY_CONF";

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("udiRoot.conf");
        std::fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let (_directory, path) = write(
            "imagePath=/images\nsystem=c1\nimageGateway=http://a:1 http://b:2\ngatewayTimeout=3\n",
        );
        let wishes = Wishes { conf: Some(path), ..Wishes::default() };
        let site = Site::load(&wishes).unwrap();
        assert_eq!(site.gateways, ["http://a:1", "http://b:2"]);
        assert_eq!(site.system.as_deref(), Some("c1"));
        assert_eq!(site.timeout, Some(Duration::from_secs(3)));
        let wishes =
            Wishes { system: Some("c2".into()), gateways: vec!["http://c".into()], ..wishes };
        let site = Site::load(&wishes).unwrap();
        assert_eq!(site.gateways, ["http://c"]);
        assert_eq!(site.system.as_deref(), Some("c2"));
        assert_eq!(site.image_path.as_deref(), Some(Path::new("/images")));
    }

    #[test]
    fn a_file_that_is_away_or_wrong_is_named_with_the_line() {
        let away = Wishes { conf: Some("/nonexistent/udiRoot.conf".into()), ..Wishes::default() };
        let failure = Site::load(&away).unwrap_err();
        assert_eq!(
            failure.text,
            "cannot read /nonexistent/udiRoot.conf: No such file or directory"
        );
        let (_directory, path) = write("imagePath=/images\nimagePth=/images\n");
        let wrong = Wishes { conf: Some(path.clone()), ..Wishes::default() };
        let failure = Site::load(&wrong).unwrap_err();
        assert!(failure.text.contains("line 2: there is no key `imagePth`"), "{}", failure.text);
        assert!(failure.text.contains(path.to_str().unwrap()));
    }

    #[test]
    fn the_option_goes_before_the_environment_before_the_usual_places() {
        let variable = || Some(PathBuf::from("/env"));
        assert_eq!(conf_path(Some(Path::new("/opt")), variable()), Path::new("/opt"));
        assert_eq!(conf_path(None, variable()), Path::new("/env"));
        let usual = conf_path(None, Some(PathBuf::new()));
        assert!(CONF_PATHS.iter().any(|path| usual == Path::new(path)));
    }
}
