//! What will be done for a request, as a list of steps: pure, and printed by `--explain`.
//!
//! The order is the design's: everything of the caller's is opened as the caller, the image is checked before
//! anything is mounted, the drop is last but one. `execute` decides nothing.
#![forbid(unsafe_code)]

use crate::accounts;
use crate::caller::Caller;
use crate::image::{Shelf, Wanted};
use crate::mounts::{NO_DEV, NO_EXEC, NO_SUID, READ_ONLY};
use crate::request::Run;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use udiroot_conf::volume::Propagation;
use udiroot_conf::{Conf, EnvRules, Module, ModuleError, Origin, Volume};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Opens and clones a source as the caller, with all of the caller's credentials.
    OpenVolume(Bind),
    /// Opens the image and checks files, access list and caller.
    OpenImage(Shelf, Wanted),
    /// Leaves the host's mount namespace.
    PrivateMounts,
    /// Mounts the image, detached.
    MountImage,
    /// Opens and clones a source of the site's.
    OpenSite(Bind),
    /// Writes the account files.
    WriteAccounts,
    /// Finds or makes every mount point, and puts everything in its place.
    AssembleRoot,
    /// Makes that the root directory.
    EnterRoot,
    /// Becomes the caller for ever.
    DropPrivileges,
    /// Changes to the working directory and executes the command.
    RunCommand,
}

/// A source, a target, and what a mount between them is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The host path.
    pub source: String,
    /// The path inside.
    pub target: String,
    /// Attributes that are added to it and to all mounts below.
    pub attributes: u64,
    /// `MS_SLAVE` or `MS_PRIVATE`.
    pub propagation: u64,
    /// Which rules hold for it.
    pub rule: Rule,
}

/// Which rules hold for a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The target must be at this very path in the image.
    Fixed,
    /// Left out where the host has no source, another bind has the target, or the image has no place for it.
    Default,
    /// From udiRoot.conf.
    Site,
    /// From the caller.
    User,
}

/// Plans a run.
///
/// # Errors
/// [`PlanError`], for what cannot be done however the node looks.
pub fn plan(caller: &Caller, conf: &Conf, run: &Run) -> Result<Vec<Step>, PlanError> {
    check_accounts(caller, run)?;
    let users: Vec<Bind> = bind_all(&run.volumes, Rule::User, conf)?;
    let modules = conf.modules(run.modules.as_deref()).map_err(PlanError::Module)?;
    let volumes = conf.site_fs.iter().chain(modules.iter().flat_map(|module| &module.volumes));
    let mut site = bind_all(volumes, Rule::Site, conf)?;
    site.extend(offered(conf, &modules).map(|(source, target)| {
        let attributes = NO_SUID | NO_DEV | READ_ONLY;
        Bind { source, target, attributes, propagation: libc::MS_SLAVE, rule: Rule::Site }
    }));
    // What lies within another is mounted after it, whatever their order in the file.
    site.sort_by_key(|bind| bind.target.matches('/').count());
    let taken = |target: &str| users.iter().chain(&site).any(|bind| bind.target == target);
    let mut own: Vec<Bind> = FIXED.iter().map(|row| row.bind(Rule::Fixed)).collect();
    own.extend(DEFAULTS.iter().filter(|row| !taken(row.path)).map(|row| row.bind(Rule::Default)));
    let wanted = Wanted { digest: run.digest, request: run.request.clone() };
    let shelf = Shelf { directory: conf.image_path.clone(), owner: conf.image_owner };
    let mut steps: Vec<Step> = users.into_iter().map(Step::OpenVolume).collect();
    steps.extend([Step::OpenImage(shelf, wanted), Step::PrivateMounts, Step::MountImage]);
    steps.extend(own.into_iter().chain(site).map(Step::OpenSite));
    if run.passwd.is_some() || !run.groups.is_empty() {
        steps.push(Step::WriteAccounts);
    }
    steps.extend([Step::AssembleRoot, Step::EnterRoot, Step::DropPrivileges, Step::RunCommand]);
    Ok(steps)
}

/// Directories that Shifter copies into every container: the site's own and the modules'.
fn offered<'a>(
    conf: &'a Conf,
    modules: &'a [&Module],
) -> impl Iterator<Item = (String, String)> + 'a {
    let own = conf.opt_udi_image.iter().map(|source| (source.clone(), "/opt/udiImage".into()));
    own.chain(modules.iter().filter_map(|module| {
        let target = alloc::format!("/opt/udiImage/modules/{}", module.name);
        Some((module.directory.clone()?, target))
    }))
}

fn check_accounts(caller: &Caller, run: &Run) -> Result<(), PlanError> {
    if let Some(line) = &run.passwd {
        accounts::merge_passwd(line, b"", caller).ok_or(PlanError::Accounts("--passwd"))?;
    }
    accounts::merge_groups(&run.groups, b"", caller).ok_or(PlanError::Accounts("--group")).map(drop)
}

fn bind_all<'a>(
    volumes: impl IntoIterator<Item = &'a Volume>,
    rule: Rule,
    conf: &Conf,
) -> Result<Vec<Bind>, PlanError> {
    volumes.into_iter().map(|volume| bind(volume, rule, conf)).collect()
}

fn bind(volume: &Volume, rule: Rule, conf: &Conf) -> Result<Bind, PlanError> {
    if volume.flags.per_node_cache.is_some() {
        return Err(PlanError::NodeCache(volume.target.clone()));
    }
    let read_only = if volume.flags.read_only { READ_ONLY } else { 0 };
    let propagation = match volume.flags.propagation.unwrap_or(conf.mount_propagation) {
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Private => libc::MS_PRIVATE,
    };
    Ok(Bind {
        source: volume.source.clone(),
        target: volume.target.clone(),
        attributes: NO_SUID | NO_DEV | read_only,
        propagation,
        rule,
    })
}

impl Rule {
    /// Whose wish it is, for the policy on targets.
    pub fn origin(self) -> Origin {
        if self == Self::User { Origin::User } else { Origin::Site }
    }
}

/// A path that is the same on the host and inside.
struct Row {
    path: &'static str,
    attributes: u64,
}

impl Row {
    fn bind(&self, rule: Rule) -> Bind {
        let path = || self.path.into();
        let (attributes, propagation) = (self.attributes, libc::MS_SLAVE);
        Bind { source: path(), target: path(), attributes, propagation, rule }
    }
}

/// The host's own trees, cloned and not mounted afresh: hidepid and what else the site set up there is kept.
const FIXED: [Row; 3] = [
    Row { path: "/proc", attributes: NO_SUID | NO_DEV | NO_EXEC },
    Row { path: "/sys", attributes: NO_SUID | NO_DEV | NO_EXEC | READ_ONLY },
    Row { path: "/dev", attributes: NO_SUID },
];

const DEFAULTS: [Row; 4] = [
    Row { path: "/tmp", attributes: NO_SUID | NO_DEV },
    Row { path: "/var/tmp", attributes: NO_SUID | NO_DEV },
    Row { path: "/etc/hosts", attributes: NO_SUID | NO_DEV | NO_EXEC | READ_ONLY },
    Row { path: "/etc/resolv.conf", attributes: NO_SUID | NO_DEV | NO_EXEC | READ_ONLY },
];

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenVolume(bind) => write!(f, "open, as the caller, volume {bind}"),
            Self::OpenImage(shelf, wanted) => {
                let Shelf { directory, owner } = shelf;
                let digest = wanted.digest.hex();
                match owner {
                    Some(owner) => write!(f, "open, as uid {owner},")?,
                    None => write!(f, "open, as the owner of {directory},")?,
                }
                write!(f, " image {directory}/{digest}.squashfs and check who may use it")
            }
            Self::PrivateMounts => f.write_str("make a private mount namespace"),
            Self::MountImage => {
                f.write_str("mount the image on its shared loop device (ro nosuid nodev)")
            }
            Self::OpenSite(bind) => write!(f, "open {bind}"),
            Self::WriteAccounts => f.write_str(
                "write /etc/passwd and /etc/group: the caller's lines, then the image's",
            ),
            Self::AssembleRoot => f.write_str("find or make the mount points and mount everything"),
            Self::EnterRoot => f.write_str("make the image the root directory (pivot_root)"),
            Self::DropPrivileges => f.write_str("drop every privilege for ever and verify it"),
            Self::RunCommand => f.write_str("execute the command"),
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {} (", self.source, self.target)?;
        let names =
            [(READ_ONLY, "ro "), (NO_SUID, "nosuid "), (NO_DEV, "nodev "), (NO_EXEC, "noexec ")];
        for (_, name) in names.iter().filter(|(bit, _)| self.attributes & bit != 0) {
            f.write_str(name)?;
        }
        f.write_str(if self.propagation == libc::MS_SLAVE { "slave)" } else { "private)" })
    }
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// A volume asks for a per-node cache.
    NodeCache(String),
    /// A line for passwd or group is malformed or somebody else's.
    Accounts(&'static str),
    /// A module that there is not, or two that do not go together.
    Module(ModuleError),
}

impl PlanError {
    /// What an administrator or the user can do.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NodeCache(_) => "use node-local storage that the site offers, such as /tmp",
            Self::Accounts(_) | Self::Module(_) => return None,
        };
        Some(text.into())
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeCache(volume) => {
                write!(
                    f,
                    "volume `{}`: this version makes no per-node caches",
                    volume.escape_debug()
                )
            }
            Self::Module(error) => error.fmt(f),
            Self::Accounts(option) => {
                write!(f, "{option} wants a well-formed line for the caller's own ids")
            }
        }
    }
}

/// Prints a plan, one numbered line per step.
pub fn describe(steps: &[Step]) -> String {
    let lines: Vec<String> = steps
        .iter()
        .enumerate()
        .map(|(index, step)| alloc::format!("{:2}. {step}\n", index + 1))
        .collect();
    lines.concat()
}

/// The environment rules of a run that was planned, its modules' before the site's, and its modules' hooks.
pub fn rules_and_hooks<'a>(conf: &'a Conf, run: &Run) -> (Vec<&'a EnvRules>, Vec<&'a str>) {
    let modules = conf.modules(run.modules.as_deref()).unwrap_or_default();
    let rules = modules.iter().map(|module| &module.env).chain([&conf.site_env]).collect();
    (rules, modules.iter().filter_map(|module| module.user_hook.as_deref()).collect())
}

#[cfg(test)]
mod tests;
