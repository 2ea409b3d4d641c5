//! Carries out a plan, step by step. Decides nothing that the plan could have decided.
//!
//! The order is the design's: everything of the caller's is opened as the caller, the image is checked before
//! anything is mounted, the drop is last but one.
#![forbid(unsafe_code)]

use crate::accounts;
use crate::caller::Caller;
use crate::environment;
use crate::error::{Error, Shown, cannot, complain};
use crate::image;
use crate::mounts::{self, Kind};
use crate::namespaces;
use crate::plan::{Bind, Plan, Rule};
use crate::privileges::{self, Dropped, FileIdentity};
use crate::request::{Run, Workdir};
use crate::sanitize::Inherited;
use crate::skeleton::{self, Place, Problem, TargetError};
use crate::sys::{self, Errno, Fd, c_path};
use crate::trust;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::ffi::CStr;
use image_ref::Sidecar;
use libc::{EACCES, EFBIG, EISDIR, ELOOP, ENOENT, ENOTDIR};
use udiroot_conf::volume::check_target;
use udiroot_conf::{EnvRules, Origin};

/// What a run needs beside its plan.
#[derive(Debug)]
pub struct Context<'a> {
    /// Who called.
    pub caller: &'a Caller,
    /// What was asked.
    pub run: &'a Run,
    /// What the command gets back.
    pub inherited: &'a Inherited,
    /// The caller's environment, as data.
    pub environment: &'a [&'a CStr],
    /// Changes to the environment, in order.
    pub rules: Vec<&'a EnvRules>,
    /// The modules' hooks, in their order.
    pub hooks: Vec<&'a str>,
    /// Where the caller was, on the host.
    pub working_directory: Result<Vec<u8>, Errno>,
}

/// Does what was planned; in the end this process is the command. What a step needs, an earlier one returned.
///
/// # Errors
/// The first step's that fails. Nothing is left behind then: all mounts are this process's own.
pub fn all(plan: &Plan, context: &Context<'_>) -> Result<Infallible, Error> {
    let caller = context.caller;
    let mut clock = Clock::start(context.run.time);
    let of_user = plan.volumes.iter().map(|bind| open_volume(caller, bind));
    let of_user: Vec<Opened<'_>> = of_user.collect::<Result<_, _>>()?;
    clock.took("open the volumes, as the caller");
    let (file, sidecar) = image::open_for(caller, &plan.shelf, &plan.wanted)?;
    check_command(context.run, &sidecar)?;
    clock.took("open the image and check who may use it");
    namespaces::make_private()?;
    clock.took("make a private mount namespace");
    // Looked up while it is still the host's: later an image lies on it, whose root may be anybody's to write.
    let staging = Staging(trust::open_directory(crate::STAGING_PATH, &[0])?);
    let image = mounts::mount_image(caller, &file)?;
    drop(file);
    clock.took("mount the image");
    let mut binds = Vec::new();
    for bind in &plan.site {
        binds.extend(open_site(bind)?);
    }
    clock.took("open what the site binds");
    if plan.accounts {
        binds.extend(write_accounts(context, &image, &staging)?);
        clock.took("write /etc/passwd and /etc/group");
    }
    // The user's are mounted last.
    binds.extend(of_user);
    let root = assemble(caller, image, binds, &staging)?;
    clock.took("find or make the mount points and mount everything");
    namespaces::enter(&root)?;
    clock.took("make the image the root directory (pivot_root)");
    let proof = privileges::drop_for_ever(caller)?;
    clock.took("drop every privilege for ever and verify it");
    if context.run.time {
        sys::write_to(1, clock.lines.as_bytes()).map_err(cannot("print the times"))?;
        sys::exit(0);
    }
    run_command(context, &sidecar, &proof)
}

/// What each step took, where somebody wants to know (`--explain --time`).
struct Clock {
    runs: bool,
    begun: u64,
    lines: String,
}

impl Clock {
    fn start(runs: bool) -> Self {
        Self { runs, begun: if runs { sys::microseconds() } else { 0 }, lines: String::new() }
    }

    fn took(&mut self, step: &str) {
        if self.runs {
            let now = sys::microseconds();
            self.lines += &format!("{:7} us  {step}\n", now.saturating_sub(self.begun));
            self.begun = now;
        }
    }
}

/// A bind whose source is open: a detached clone.
struct Opened<'a> {
    target: &'a str,
    rule: Rule,
    tree: Fd,
    kind: Kind,
}

impl<'a> Opened<'a> {
    fn clone_of(bind: &'a Bind, (source, kind): &(Fd, Kind)) -> Result<Self, Errno> {
        let tree = mounts::clone_with(source, bind.attributes, bind.propagation)?;
        Ok(Self { target: &bind.target, rule: bind.rule, tree, kind: *kind })
    }

    fn fail(&self, problem: Problem) -> TargetError {
        TargetError { target: self.target.into(), problem }
    }
}

fn open_volume<'a>(caller: &Caller, bind: &'a Bind) -> Result<Opened<'a>, Error> {
    let doing = |verb| cannot(format!("{verb} volume source {}", Shown(bind.source.as_bytes())));
    let path = c_path(&bind.source).map_err(doing("open"))?;
    let source = privileges::as_caller(caller, || mounts::open_source(&path))?;
    Opened::clone_of(bind, &source.map_err(doing("open"))?).map_err(doing("bind"))
}

fn open_site(bind: &Bind) -> Result<Option<Opened<'_>>, Error> {
    match c_path(&bind.source).and_then(|path| mounts::open_source(&path)) {
        Err(Errno(ENOENT)) if bind.rule == Rule::Default => Ok(None),
        source => source
            .and_then(|source| Opened::clone_of(bind, &source).map(Some))
            .map_err(cannot(format!("open the site's {}", Shown(bind.source.as_bytes())))),
    }
}

/// What the image alone decides about the command is said before anything is mounted.
fn check_command(run: &Run, sidecar: &Sidecar) -> Result<(), Error> {
    let missing = if environment::command(run, sidecar).is_none() {
        "entrypoint"
    } else if run.workdir == Workdir::Image && sidecar.workdir.is_empty() {
        "working directory"
    } else {
        return Ok(());
    };
    let name = Shown(run.request.as_deref().unwrap_or("the image").as_bytes());
    Err(cannot(format!("use the {missing} of {name}: it has none"))(Errno(ENOENT)))
}

/// Makes passwd and group on a tmpfs that ends up below the image, out of sight, and clones them from there.
fn write_accounts(
    context: &Context<'_>,
    image: &Fd,
    staging: &Staging,
) -> Result<Vec<Opened<'static>>, Error> {
    let Context { run, caller, .. } = context;
    let passwd = match &run.passwd {
        Some(line) => accounts::merge_passwd(line, &read_from_image(image, "etc/passwd")?, caller),
        None => None,
    };
    let group = match &*run.groups {
        [] => None,
        lines => accounts::merge_groups(lines, &read_from_image(image, "etc/group")?, caller),
    };
    let files = [("/etc/passwd", c"passwd", passwd), ("/etc/group", c"group", group)];
    let failed = || cannot("write account files");
    let _identity = FileIdentity::assume(caller, 0)?;
    let directory = mounts::make_tmpfs()?;
    staging.attach(&directory)?;
    for (_, name, text) in &files {
        if let Some(text) = text {
            write_file(&directory, name, text).map_err(failed())?;
        }
    }
    mounts::add(&directory, mounts::READ_ONLY | mounts::NO_EXEC).map_err(failed())?;
    let mut opened = Vec::new();
    for (target, name, _) in files.iter().filter(|(.., text)| text.is_some()) {
        let tree = sys::clone_tree(Some(&directory), name, 0).map_err(failed())?;
        opened.push(Opened { target, rule: Rule::Default, tree, kind: Kind::File });
    }
    Ok(opened)
}

/// Finds the mount points, makes a skeleton if some are missing, and mounts; returns what is to be the root.
fn assemble(
    caller: &Caller,
    image: Fd,
    opened: Vec<Opened<'_>>,
    staging: &Staging,
) -> Result<Fd, Error> {
    let mut binds: Vec<(Place, Opened<'_>)> = Vec::new();
    for bind in opened {
        let place = match locate_for(&image, &bind) {
            Err(_) if bind.rule == Rule::Default => continue,
            place => place?,
        };
        let taken = binds.iter().any(|(other, _)| other.path == place.path);
        if !(taken && bind.rule == Rule::Default) {
            binds.push((place, bind));
        }
    }
    staging.attach(&image)?;
    let skeleton = make_skeleton(caller, &image, &mut binds, staging)?;
    let mut own = Vec::new();
    for fd in [Some(&image), skeleton.as_ref()].into_iter().flatten() {
        own.push(sys::stat(fd).map_err(cannot("look at the root"))?.device);
    }
    let top = skeleton.as_ref().unwrap_or(&image);
    for (index, (place, bind)) in binds.iter().enumerate() {
        let mut earlier = binds.iter().take(index);
        // The site knows its own trees: one of its volumes may lie within another.
        let nested = bind.rule == Rule::Site
            && earlier.clone().any(|(other, outer)| {
                outer.rule == Rule::Site && is_below(&place.path, &other.path)
            });
        let mounted = if earlier.any(|(other, _)| is_below(&other.path, &place.path)) {
            Err(bind.fail(Problem::HidesMount))
        } else {
            mount_at(top, place, bind, if nested { None } else { Some(&own) })
        };
        match mounted {
            Err(_) if bind.rule == Rule::Default => {}
            mounted => mounted?,
        }
    }
    if let Some(root) = &skeleton {
        mounts::add(root, mounts::READ_ONLY).map_err(cannot("make the root read-only"))?;
    }
    Ok(skeleton.unwrap_or(image))
}

/// Makes the missing mount points, or where they cannot all be had those that somebody asked for.
fn make_skeleton(
    caller: &Caller,
    image: &Fd,
    binds: &mut Vec<(Place, Opened<'_>)>,
    staging: &Staging,
) -> Result<Option<Fd>, Error> {
    let plan = |binds: &[(Place, Opened<'_>)]| {
        let places: Vec<(Place, Kind)> =
            binds.iter().map(|(place, bind)| (place.clone(), bind.kind)).collect();
        skeleton::plan(&places, image)
    };
    let _identity = FileIdentity::assume(caller, 0)?;
    let actions = plan(binds).or_else(|_| {
        binds.retain(|(place, bind)| place.found.is_some() || bind.rule != Rule::Default);
        plan(binds)
    })?;
    if actions.is_empty() {
        return Ok(None);
    }
    let root = mounts::make_tmpfs()?;
    staging.attach(&root)?;
    skeleton::build(&root, image, &actions)?;
    Ok(Some(root))
}

/// Where our namespace alone sees a mount: before Linux 6.15 nothing can be mounted on a detached one.
struct Staging(Fd);

impl Staging {
    fn attach(&self, mount: &Fd) -> Result<(), Error> {
        sys::move_mount(mount, &self.0).map_err(cannot("attach a mount to its staging directory"))
    }
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// Finds a bind's mount point and applies the policy to where the kernel says it is, not to what was written.
fn locate_for(image: &Fd, bind: &Opened<'_>) -> Result<Place, TargetError> {
    let found = skeleton::locate(image, bind.target);
    let place = found.map_err(|errno| bind.fail(Problem::Errno(errno)))?;
    let allowed = match bind.rule {
        Rule::Fixed if place.path != bind.target => Err(Problem::Redirected(place.path.clone())),
        Rule::Default if place.path == "/" => Err(Problem::Redirected(place.path.clone())),
        Rule::Fixed | Rule::Default => Ok(()),
        Rule::Site => check_target(&place.path, Origin::Site).map_err(Problem::Forbidden),
        Rule::User => check_target(&place.path, Origin::User).map_err(Problem::Forbidden),
    };
    let fits = match place.found {
        Some(found) if found != bind.kind => Err(Problem::WrongKind(found)),
        _ => Ok(()),
    };
    allowed.and(fits).map(|()| place).map_err(|problem| bind.fail(problem))
}

/// Moves a clone onto its mount point, which must be on one of the devices `own`, where there are such: the image's
/// and the skeleton's, so that nothing hides another mount.
fn mount_at(
    root: &Fd,
    place: &Place,
    bind: &Opened<'_>,
    own: Option<&[u64]>,
) -> Result<(), TargetError> {
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    let moved = c_path(&place.path)
        .and_then(|path| sys::open(Some(root), &path, libc::O_PATH, 0, resolve))
        .and_then(|target| match own {
            Some(own) if !own.contains(&sys::stat(&target)?.device) => Ok(false),
            _ => sys::move_mount(&bind.tree, &target).map(|()| true),
        });
    match moved {
        Ok(true) => Ok(()),
        // The place was found in the image, so where it is missing something else covers it now.
        Ok(false) | Err(Errno(ENOENT | EACCES)) => Err(bind.fail(Problem::WithinMount)),
        Err(errno) => Err(bind.fail(Problem::Errno(errno))),
    }
}

fn read_from_image(image: &Fd, path: &str) -> Result<Vec<u8>, Error> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK;
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    let opened = c_path(path).and_then(|path| sys::open(Some(image), &path, flags, 0, resolve));
    match opened.and_then(|file| trust::read_whole(&file, ACCOUNTS_LIMIT)) {
        Ok(text) => Ok(text),
        // Missing, or not to be had: the container has the caller's lines alone then.
        Err(Errno(ENOENT | ENOTDIR | ELOOP | EISDIR | EACCES | EFBIG)) => Ok(Vec::new()),
        Err(errno) => Err(cannot(format!("read /{path} of the image"))(errno)),
    }
}

fn write_file(directory: &Fd, path: &CStr, text: &[u8]) -> Result<(), Errno> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    let file = sys::open(Some(directory), path, flags, 0o644, libc::RESOLVE_BENEATH)?;
    let mut rest = text;
    while !rest.is_empty() {
        let count = sys::write(&file, rest)?;
        rest = rest.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// Becomes the command, as the caller, without a privilege: `_proof` says so.
fn run_command(
    context: &Context<'_>,
    image: &Sidecar,
    _proof: &Dropped,
) -> Result<Infallible, Error> {
    let Context { run, .. } = context;
    let caller: Vec<&[u8]> = context.environment.iter().map(|item| item.to_bytes()).collect();
    let environment = environment::compose(&caller, image, run, &context.rules);
    let command = environment::command(run, image).unwrap_or_default();
    let command = environment::behind_hooks(&context.hooks, command);
    let program = command.first().cloned().unwrap_or_default();
    enter_workdir(context, image)?;
    sys::close_others_on_exec().map_err(cannot("close descriptors"))?;
    for number in &run.keep_fds {
        sys::keep_open(*number).map_err(cannot(format!("keep descriptor {number}")))?;
    }
    let paths = c_strings(environment::candidates(&program, &environment));
    let (arguments, environment) = (c_strings(command), c_strings(environment));
    context.inherited.restore()?;
    let errno = try_each(&paths, &arguments, &environment);
    Err(Error::Command { program, errno })
}

/// Tries each path as execvp(3) does: on past what is missing, but remembering what was there and not allowed.
fn try_each(paths: &[CString], arguments: &[CString], environment: &[CString]) -> Errno {
    let mut worst = Errno(libc::ENOENT);
    for path in paths {
        match sys::execute(path, arguments, environment) {
            Errno(libc::ENOENT | libc::ENOTDIR) => {}
            Errno(libc::EACCES) => worst = Errno(libc::EACCES),
            // A script without `#!` is the shell's, since before there was `#!`.
            Errno(libc::ENOEXEC) => {
                let mut script = vec![c"sh".into(), path.clone()];
                script.extend(arguments.iter().skip(1).cloned());
                sys::execute(c"/bin/sh", &script, environment);
                return Errno(libc::ENOEXEC);
            }
            errno => return errno,
        }
    }
    worst
}

/// A directory that was asked for must be there; the caller's own is merely tried.
fn enter_workdir(context: &Context<'_>, image: &Sidecar) -> Result<(), Error> {
    let enter = |path: &[u8]| sys::change_directory(&c_path(path)?);
    let asked = match &context.run.workdir {
        Workdir::Path(path) => path,
        Workdir::Image => &image.workdir,
        Workdir::Caller => {
            // The kernel writes `(unreachable)` in front of a directory outside the root: that is no path.
            let here = context.working_directory.as_deref().unwrap_or_default();
            if !here.starts_with(b"/") || enter(here).is_err() {
                let shown = if here.is_empty() { b"which was removed" } else { here };
                let shown = Shown(shown);
                complain(&format!(
                    "gantry: the working directory {shown} is not in the image, starting in /\n"
                ));
            }
            return Ok(());
        }
    };
    enter(asked).map_err(cannot(format!("enter working directory {} in the image", Shown(asked))))
}

fn c_strings(items: Vec<Vec<u8>>) -> Vec<CString> {
    items.into_iter().filter_map(|item| CString::new(item).ok()).collect()
}

/// Larger account files are not read: the tmpfs they go to has a megabyte.
const ACCOUNTS_LIMIT: usize = 256 << 10;
