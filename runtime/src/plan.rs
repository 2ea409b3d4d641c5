//! What will be done for a request: pure, and printed by `--explain`. `execute` decides nothing.
#![forbid(unsafe_code)]

use crate::accounts;
use crate::caller::Caller;
use crate::error::Shown;
use crate::image::{Shelf, Wanted};
use crate::mounts::{NO_DEV, NO_EXEC, NO_SUID, READ_ONLY};
use crate::request::Run;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use image_ref::image_file;
use udiroot_conf::volume::Propagation;
use udiroot_conf::{Conf, EnvRules, Module, ModuleError, Volume};

/// All that a run does, apart from what is the same for every run: see [`describe`] for the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The caller's volumes: opened and cloned as the caller, with all of the caller's credentials.
    pub volumes: Vec<Bind>,
    /// Where images are.
    pub shelf: Shelf,
    /// Which one is opened, and checked: its files, its access list, the caller.
    pub wanted: Wanted,
    /// What ours and the site's binds are, in the order in which they are mounted.
    pub site: Vec<Bind>,
    /// Whether account files are written.
    pub accounts: bool,
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
pub fn plan(caller: &Caller, conf: &Conf, run: &Run) -> Result<Plan, PlanError> {
    check_accounts(caller, run)?;
    let volumes = bind_all(&run.volumes, Rule::User, conf)?;
    let modules = conf.modules(run.modules.as_deref()).map_err(PlanError::Module)?;
    let of_site = conf.site_fs.iter().chain(modules.iter().flat_map(|module| &module.volumes));
    let mut of_site = bind_all(of_site, Rule::Site, conf)?;
    of_site.extend(offered(conf, &modules));
    // What lies within another is mounted after it, whatever their order in the file.
    of_site.sort_by_key(|bind| bind.target.matches('/').count());
    let taken = |path| volumes.iter().chain(&of_site).any(|bind| bind.target == path);
    let own = OWN.iter().filter(|(path, _, rule)| *rule == Rule::Fixed || !taken(*path));
    let mut site: Vec<Bind> = own.map(own_bind).collect();
    site.extend(of_site);
    Ok(Plan {
        volumes,
        shelf: Shelf { directory: conf.image_path.clone(), owner: conf.image_owner },
        wanted: Wanted { digest: run.digest, request: run.request.clone() },
        site,
        accounts: run.passwd.is_some() || !run.groups.is_empty(),
    })
}

/// Directories that Shifter copies into every container: the site's own and the modules'.
fn offered(conf: &Conf, modules: &[&Module]) -> impl Iterator<Item = Bind> {
    let own = conf.opt_udi_image.clone().map(|source| (source, String::from("/opt/udiImage")));
    let of_modules = modules.iter().filter_map(|module| {
        Some((module.directory.clone()?, format!("/opt/udiImage/modules/{}", module.name)))
    });
    own.into_iter().chain(of_modules).map(|(source, target)| {
        let attributes = NO_SUID | NO_DEV | READ_ONLY;
        Bind { source, target, attributes, propagation: libc::MS_SLAVE, rule: Rule::Site }
    })
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

/// A path that is the same on the host and inside, what is added to it, and which rule holds.
type Own = (&'static str, u64, Rule);

fn own_bind(&(path, attributes, rule): &Own) -> Bind {
    let path = String::from(path);
    Bind { source: path.clone(), target: path, attributes, propagation: libc::MS_SLAVE, rule }
}

/// The host's own trees, cloned and not mounted afresh: hidepid and what else the site set up there is kept.
const OWN: [Own; 7] = [
    ("/proc", NO_SUID | NO_DEV | NO_EXEC, Rule::Fixed),
    ("/sys", NO_SUID | NO_DEV | NO_EXEC | READ_ONLY, Rule::Fixed),
    ("/dev", NO_SUID, Rule::Fixed),
    ("/tmp", NO_SUID | NO_DEV, Rule::Default),
    ("/var/tmp", NO_SUID | NO_DEV, Rule::Default),
    ("/etc/hosts", NO_SUID | NO_DEV | NO_EXEC | READ_ONLY, Rule::Default),
    ("/etc/resolv.conf", NO_SUID | NO_DEV | NO_EXEC | READ_ONLY, Rule::Default),
];

/// Prints what `execute` does, one numbered line per step.
pub fn describe(plan: &Plan) -> String {
    let Shelf { directory, owner } = &plan.shelf;
    let publisher = match owner {
        Some(owner) => format!("uid {owner}"),
        None => format!("the owner of {directory}"),
    };
    let image = format!("{directory}/{}", image_file(&plan.wanted.digest));
    let volumes = plan.volumes.iter().map(|bind| format!("open, as the caller, volume {bind}"));
    let mut steps: Vec<String> = volumes.collect();
    steps.push(format!("open, as {publisher}, image {image} and check who may use it"));
    steps.push("make a private mount namespace".into());
    steps.push("mount the image on its shared loop device (ro nosuid nodev)".into());
    steps.extend(plan.site.iter().map(|bind| format!("open {bind}")));
    if plan.accounts {
        let text = "write /etc/passwd and /etc/group: the caller's lines, then the image's";
        steps.push(text.into());
    }
    steps.push("find or make the mount points and mount everything".into());
    steps.push("make the image the root directory (pivot_root)".into());
    steps.push("drop every privilege for ever and verify it".into());
    steps.push("execute the command".into());
    steps.iter().zip(1..).map(|(step, number)| format!("{number:2}. {step}\n")).collect()
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
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NodeCache(_) => Some("use node-local storage that the site offers, such as /tmp"),
            Self::Accounts(_) | Self::Module(_) => None,
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeCache(target) => {
                let target = Shown(target.as_bytes());
                write!(f, "volume on {target}: this version makes no per-node caches")
            }
            Self::Module(error) => error.fmt(f),
            Self::Accounts(option) => {
                write!(f, "{option} wants a well-formed line for the caller's own ids")
            }
        }
    }
}

/// The environment rules of a run that was planned, its modules' before the site's, and its modules' hooks.
pub fn rules_and_hooks<'a>(conf: &'a Conf, run: &Run) -> (Vec<&'a EnvRules>, Vec<&'a str>) {
    let modules = conf.modules(run.modules.as_deref()).unwrap_or_default();
    let rules = modules.iter().map(|module| &module.env).chain([&conf.site_env]).collect();
    (rules, modules.iter().filter_map(|module| module.user_hook.as_deref()).collect())
}

#[cfg(test)]
mod tests;
