//! What the environment says: the job's image, its volumes, and whether this process is inside an image already.
//!
//! Whoever runs a job can set any of these; they choose an image and grant nothing.

use crate::exit::{Exit, Failure};
use image_ref::Digest;
use std::ffi::OsString;
use std::path::Path;
use udiroot_conf::volume::{self, Origin};

/// Names the task's own program, where the plugin could not put ours in front of it (Slurm before 23.11).
pub(super) const TASK_PROGRAM: &str = "GANTRY_TASK_PROGRAM";

/// What tells this program about a task, and is nobody else's.
pub(super) const OF_TASK: [&str; 3] = [TASK_PROGRAM, "GANTRY_TASK_WORKDIR", "GANTRY_TASK_ENV"];

/// The devices of the job or step.
const DEVICE: &str = "GANTRY_DEVICE";

/// Slurm carries a job's variables under names with this in front, also with `--export=NONE`.
const SPANK_PREFIX: &str = "SLURM_SPANK_";

/// The program that a task is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TaskProgram(pub(super) OsString);

/// Returns the value of a variable.
type Read = dyn Fn(&str) -> Option<OsString>;

/// The environment of this process.
pub(super) struct Environment {
    read: Box<Read>,
    /// Whether the kernel lets this process gain no privileges, as in every image.
    no_new_privileges: bool,
}

impl Environment {
    /// The real one.
    pub(super) fn of_process() -> Self {
        Self {
            read: Box::new(|name| std::env::var_os(name)),
            no_new_privileges: nix::sys::prctl::get_no_new_privs().unwrap_or(false),
        }
    }

    /// The value of a variable; what is empty or no text counts as not there.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        (self.read)(name)
            .and_then(|value| value.into_string().ok())
            .filter(|value| !value.is_empty())
    }

    /// The value of a variable, or of the job's variable of that name.
    pub(super) fn value_or_jobs(&self, name: &str) -> Option<String> {
        self.value(name).or_else(|| self.value(&format!("{SPANK_PREFIX}{name}")))
    }

    /// Image and request of the step or, with Slurm's prefix, of the job: they belong together.
    pub(super) fn image_pairs(&self) -> [(Option<String>, Option<String>); 2] {
        ["", SPANK_PREFIX].map(|prefix| {
            let value = |name: &str| self.value(&format!("{prefix}{name}"));
            (value("GANTRY_IMAGE"), value("GANTRY_IMAGE_REQUEST"))
        })
    }

    /// The program of the task that this process was put in the place of.
    pub(super) fn task_program(&self) -> Option<TaskProgram> {
        (self.read)(TASK_PROGRAM).filter(|program| !program.is_empty()).map(TaskProgram)
    }

    /// Tells whether this process runs inside an image.
    ///
    /// The variable alone does not prove it: a job inherits the environment that it was submitted from. The bit
    /// of the kernel does, because a job's processes are not descendants of those that submitted it.
    pub(super) fn is_inside(&self) -> bool {
        self.no_new_privileges && self.value("GANTRY_RUNTIME").as_deref() == Some("1")
    }

    /// Tells whether the image that this process is inside of has this digest.
    pub(super) fn is_image(&self, digest: &Digest) -> bool {
        let image = self.value("GANTRY_IMAGE");
        image.and_then(|image| parse_digest(&image)).as_ref() == Some(digest)
    }

    /// The digest of an image that the job was submitted without waiting for.
    pub(super) fn awaited(&self) -> Option<Digest> {
        parse_digest(&self.value_or_jobs("GANTRY_IMAGE_AWAITED")?)
    }

    /// The volumes: those on the command line or else the job's, each in its canonical text.
    ///
    /// # Errors
    /// Where one is malformed or not allowed.
    pub(super) fn volumes(&self, options: &[String]) -> Result<Vec<String>, Failure> {
        if !options.is_empty() {
            return canonical(&options.join(";"));
        }
        let jobs = ["GANTRY_VOLUME", "SHIFTER_VOLUME"].iter().find_map(|n| self.value_or_jobs(n));
        canonical(&jobs.unwrap_or_default())
    }

    /// The volumes of a task that the plugin describes.
    ///
    /// # Errors
    /// Where one is malformed or not allowed.
    pub(super) fn task_volumes(&self) -> Result<Vec<String>, Failure> {
        canonical(&self.value("GANTRY_VOLUME").unwrap_or_default())
    }

    /// The modules: those on the command line or else the job's.
    pub(super) fn modules(&self, option: Option<String>) -> Option<String> {
        let mut names = ["GANTRY_MODULE", "SHIFTER_MODULE"].into_iter();
        option.or_else(|| names.find_map(|name| self.value_or_jobs(name)))
    }

    /// The lists of devices: those on the command line or else the job's.
    pub(super) fn devices(&self, options: Vec<String>) -> Vec<String> {
        if options.is_empty() { self.value_or_jobs(DEVICE).into_iter().collect() } else { options }
    }

    /// The list of devices of a task that the plugin describes.
    pub(super) fn task_devices(&self) -> Vec<String> {
        self.value(DEVICE).into_iter().collect()
    }

    /// Where a task that the plugin describes starts inside.
    pub(super) fn task_workdir(&self) -> Option<OsString> {
        self.value("GANTRY_TASK_WORKDIR").map(Into::into)
    }

    /// Settings of a task that the plugin describes: of the variables that its image does not override.
    pub(super) fn task_env(&self) -> Vec<OsString> {
        let names = self.value("GANTRY_TASK_ENV").unwrap_or_default();
        let setting = |name: &str| Some(format!("{name}={}", self.value(name)?).into());
        names.split(',').filter_map(setting).collect()
    }

    /// Descriptors that the command needs, where they are open: that of Slurm's PMI, and a batch script's, which the
    /// plugin passes by descriptor because no image has the script's path.
    pub(super) fn kept_descriptors(&self) -> Vec<u32> {
        let script = self.value(TASK_PROGRAM);
        let script = script.as_deref().and_then(|path| path.strip_prefix("/proc/self/fd/"));
        let pmi = self.value("PMI_FD");
        let named = [pmi.as_deref(), script].into_iter().flatten();
        named
            .filter_map(|text| text.parse::<u32>().ok())
            .filter(|fd| *fd > 2 && Path::new(&format!("/proc/self/fd/{fd}")).exists())
            .collect()
    }
}

/// A digest with or without `sha256:` in front.
pub(super) fn parse_digest(text: &str) -> Option<Digest> {
    Digest::from_hex(text.strip_prefix("sha256:").unwrap_or(text)).ok()
}

fn canonical(list: &str) -> Result<Vec<String>, Failure> {
    match volume::parse_list(list, Origin::User) {
        Ok(volumes) => Ok(volumes.iter().map(ToString::to_string).collect()),
        Err(error) => Err(Failure::new(Exit::Usage, error.to_string())
            .with_hint("a volume is written FROM:TO or FROM:TO:ro, both paths absolute")),
    }
}

#[cfg(test)]
impl Environment {
    /// An environment of these variables.
    pub(super) fn fake(variables: &[(&str, &str)], no_new_privileges: bool) -> Self {
        let variables: std::collections::BTreeMap<String, OsString> =
            variables.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
        Self { read: Box::new(move |name| variables.get(name).cloned()), no_new_privileges }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_travelled_with_a_job_is_no_proof_of_being_inside() {
        let variables = [("GANTRY_RUNTIME", "1")];
        assert!(!Environment::fake(&variables, false).is_inside());
        assert!(Environment::fake(&variables, true).is_inside());
        assert!(!Environment::fake(&[], true).is_inside());
    }

    #[test]
    fn volumes_typed_replace_the_jobs() {
        let environment = Environment::fake(
            &[("GANTRY_VOLUME", "/j:/job"), ("SHIFTER_VOLUME", "/s:/shifter")],
            false,
        );
        assert_eq!(environment.volumes(&[]).unwrap(), ["/j:/job"]);
        let typed = ["/a:/b;/c:/d:RO".to_string(), "/e:/f".to_string()];
        assert_eq!(environment.volumes(&typed).unwrap(), ["/a:/b", "/c:/d:ro", "/e:/f"]);
        let shifter = Environment::fake(&[("SLURM_SPANK_SHIFTER_VOLUME", "/s:/t")], false);
        assert_eq!(shifter.volumes(&[]).unwrap(), ["/s:/t"]);
        assert!(shifter.task_volumes().unwrap().is_empty());
    }

    #[test]
    fn devices_typed_replace_the_jobs() {
        let job = Environment::fake(&[("SLURM_SPANK_GANTRY_DEVICE", "a.b/c=d")], false);
        assert_eq!(job.devices(vec![]), ["a.b/c=d"]);
        assert_eq!(job.devices(vec!["none".into()]), ["none"]);
        assert!(job.task_devices().is_empty());
    }

    #[test]
    fn a_bad_volume_is_named() {
        let environment = Environment::fake(&[], false);
        let failure = environment.volumes(&["/home:/etc".to_string()]).unwrap_err();
        assert!(failure.text.contains("/home:/etc"), "{}", failure.text);
    }

    #[test]
    fn only_an_open_descriptor_above_the_standard_ones_is_kept() {
        for (value, kept) in [("2", 0), ("-1", 0), ("99999", 0), ("x", 0), ("", 0)] {
            let environment = Environment::fake(&[("PMI_FD", value)], false);
            assert_eq!(environment.kept_descriptors().len(), kept, "{value}");
        }
        use std::os::fd::AsRawFd as _;
        let file = std::fs::File::open("/dev/null").unwrap();
        let number = u32::try_from(file.as_raw_fd()).unwrap();
        let environment = Environment::fake(&[("PMI_FD", &number.to_string())], false);
        assert_eq!(environment.kept_descriptors(), [number]);
        let path = format!("/proc/self/fd/{number}");
        let environment = Environment::fake(&[("GANTRY_TASK_PROGRAM", &path)], false);
        assert_eq!(environment.kept_descriptors(), [number]);
    }
}
