//! Carries out a plan, step by step. Decides nothing that the plan could have decided.
#![forbid(unsafe_code)]

use crate::accounts;
use crate::caller::Caller;
use crate::environment;
use crate::error::{Error, Shown, cannot, complain};
use crate::image::{self, Image, Wanted};
use crate::mounts::{self, Kind};
use crate::namespaces;
use crate::plan::{Bind, Rule, Step};
use crate::privileges::{self, Dropped, FileIdentity};
use crate::request::{Run, Workdir};
use crate::sanitize::Inherited;
use crate::skeleton::{self, Place, Problem, TargetError, c_path};
use crate::sys::{self, Errno, Fd};
use crate::trust;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::ffi::CStr;
use image_ref::Sidecar;
use libc::{EACCES, EFBIG, EISDIR, ELOOP, ENOENT, ENOTDIR};
use udiroot_conf::EnvRules;
use udiroot_conf::volume::check_target;

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
    /// Where the caller was, on the host.
    pub working_directory: Result<Vec<u8>, Errno>,
}

/// Walks the steps; the last one becomes the command.
///
/// # Errors
/// The first step's that fails. Nothing is left behind then: all mounts are this process's own.
pub fn all(steps: Vec<Step>, context: &Context<'_>) -> Result<Infallible, Error> {
    let mut build = Build {
        context,
        opened: Vec::new(),
        user: Vec::new(),
        staging: None,
        image: None,
        sidecar: None,
        mount: None,
        root: None,
        dropped: None,
    };
    let mut times = String::new();
    for step in steps {
        let (name, begun) = (context.run.time.then(|| format!("{step}")), sys::microseconds());
        match step {
            Step::OpenVolume(bind) => build.open_volume(bind)?,
            Step::OpenImage(shelf, wanted) => {
                let (image, sidecar) = image::open_for(context.caller, &shelf, &wanted)?;
                build.check_command(&sidecar, &wanted)?;
                (build.image, build.sidecar) = (Some(image), Some(sidecar));
            }
            Step::PrivateMounts => {
                namespaces::make_private()?;
                build.staging = Some(trust::open_directory(crate::STAGING_PATH, &[0])?);
            }
            Step::MountImage => {
                let image = build.image.take().ok_or_else(out_of_order)?;
                build.mount = Some(mounts::mount_image(context.caller, &image)?);
            }
            Step::OpenSite(bind) => build.open_site(bind)?,
            Step::WriteAccounts => build.write_accounts()?,
            Step::AssembleRoot => build.assemble()?,
            Step::EnterRoot => namespaces::enter(&build.root.take().ok_or_else(out_of_order)?)?,
            Step::DropPrivileges => {
                build.dropped = Some(privileges::drop_for_ever(context.caller)?)
            }
            Step::RunCommand => {
                let proof = build.dropped.take().ok_or_else(out_of_order)?;
                if name.is_some() {
                    sys::write_to(1, times.as_bytes()).map_err(cannot("print the times"))?;
                    sys::exit(0);
                }
                return run_command(
                    context,
                    build.sidecar.as_ref().ok_or_else(out_of_order)?,
                    &proof,
                );
            }
        }
        if let Some(name) = name {
            times += &format!("{:7} us  {name}\n", sys::microseconds().saturating_sub(begun));
        }
    }
    Err(out_of_order())
}

struct Build<'a> {
    context: &'a Context<'a>,
    /// The site's and our own binds; mounted before the user's.
    opened: Vec<Opened>,
    user: Vec<Opened>,
    /// Looked up while it is still the host's: later an image lies on it, whose root may be anybody's to write.
    staging: Option<Fd>,
    image: Option<Image>,
    sidecar: Option<Sidecar>,
    mount: Option<Fd>,
    root: Option<Fd>,
    dropped: Option<Dropped>,
}

/// A bind whose source is open: a detached clone.
struct Opened {
    target: String,
    rule: Rule,
    tree: Fd,
    kind: Kind,
}

impl Build<'_> {
    fn open_volume(&mut self, bind: Bind) -> Result<(), Error> {
        let doing = || cannot(format!("open volume source {}", Shown(bind.source.as_bytes())));
        let path = c_path(&bind.source).map_err(doing())?;
        let (source, kind) =
            privileges::as_caller(self.context.caller, || mounts::open_source(&path))?
                .map_err(doing())?;
        let tree = mounts::clone_with(&source, bind.attributes, bind.propagation)
            .map_err(cannot(format!("bind volume source {}", Shown(bind.source.as_bytes()))))?;
        self.user.push(Opened { target: bind.target, rule: bind.rule, tree, kind });
        Ok(())
    }

    fn open_site(&mut self, bind: Bind) -> Result<(), Error> {
        let doing = || cannot(format!("open the site's {}", Shown(bind.source.as_bytes())));
        match mounts::open_source(&c_path(&bind.source).map_err(doing())?) {
            Err(Errno(libc::ENOENT)) if bind.rule == Rule::Default => Ok(()),
            Err(errno) => Err(doing()(errno)),
            Ok((source, kind)) => {
                let tree = mounts::clone_with(&source, bind.attributes, bind.propagation)
                    .map_err(doing())?;
                self.opened.push(Opened { target: bind.target, rule: bind.rule, tree, kind });
                Ok(())
            }
        }
    }

    /// What the image alone decides about the command is said before anything is mounted.
    fn check_command(&self, sidecar: &Sidecar, wanted: &Wanted) -> Result<(), Error> {
        let run = self.context.run;
        let missing = if environment::command(run, sidecar).is_none() {
            "entrypoint"
        } else if run.workdir == Workdir::Image && sidecar.workdir.is_empty() {
            "working directory"
        } else {
            return Ok(());
        };
        let name = wanted.request.as_deref().unwrap_or("the image");
        Err(cannot(format!("use the {missing} of {}: it has none", Shown(name.as_bytes())))(Errno(
            libc::ENOENT,
        )))
    }

    /// Makes passwd and group on a tmpfs that ends up below the image, out of sight, and clones them from there.
    fn write_accounts(&mut self) -> Result<(), Error> {
        let image = self.mount.as_ref().ok_or_else(out_of_order)?;
        let Context { run, caller, .. } = self.context;
        let read = |path| read_from_image(image, path);
        let mut files: Vec<(&str, Vec<u8>)> = Vec::new();
        if let Some(line) = &run.passwd {
            files.extend(
                accounts::merge_passwd(line, &read("etc/passwd")?, caller)
                    .map(|text| ("passwd", text)),
            );
        }
        if !run.groups.is_empty() {
            files.extend(
                accounts::merge_groups(&run.groups, &read("etc/group")?, caller)
                    .map(|text| ("group", text)),
            );
        }
        let _identity = FileIdentity::assume(caller, 0)?;
        let directory = mounts::make_tmpfs()?;
        self.attach(&directory)?;
        for (name, text) in &files {
            let path = c_path(name).map_err(cannot("write account files"))?;
            write_file(&directory, &path, text).map_err(cannot("write account files"))?;
        }
        mounts::add(&directory, mounts::READ_ONLY | mounts::NO_EXEC)
            .map_err(cannot("write account files"))?;
        for (name, _) in &files {
            let path = c_path(name).map_err(cannot("bind account files"))?;
            let tree = sys::clone_tree(Some(&directory), &path, 0)
                .map_err(cannot("bind account files"))?;
            let target = format!("/etc/{name}");
            self.opened.push(Opened { target, rule: Rule::Default, tree, kind: Kind::File });
        }
        Ok(())
    }

    /// Finds the mount points, makes a skeleton if some are missing, and mounts: ours and the site's, then the user's.
    fn assemble(&mut self) -> Result<(), Error> {
        let image = self.mount.take().ok_or_else(out_of_order)?;
        let mut binds: Vec<(Place, Opened)> = Vec::new();
        for bind in self.opened.drain(..).chain(self.user.drain(..)) {
            let place = match locate_for(&image, &bind) {
                Err(_) if bind.rule == Rule::Default => continue,
                place => place?,
            };
            let taken = binds.iter().any(|(other, _)| other.path == place.path);
            if !(taken && bind.rule == Rule::Default) {
                binds.push((place, bind));
            }
        }
        self.attach(&image)?;
        let root = self.make_skeleton(&image, &mut binds)?;
        let device =
            |fd: &Fd| sys::stat(fd).map(|stat| stat.device).map_err(cannot("look at the root"));
        let mut own = alloc::vec![device(&image)?];
        if let Some(root) = &root {
            own.push(device(root)?);
        }
        let top = root.as_ref().unwrap_or(&image);
        for (index, (place, bind)) in binds.iter().enumerate() {
            let earlier = || binds.iter().take(index);
            // The site knows its own trees: one of its volumes may lie within another.
            let nested = bind.rule == Rule::Site
                && earlier().any(|(other, outer)| {
                    outer.rule == Rule::Site && is_below(&place.path, &other.path)
                });
            let mounted = if earlier().any(|(other, _)| is_below(&other.path, &place.path)) {
                let target = bind.target.clone();
                Err(TargetError { target, problem: Problem::HidesMount })
            } else {
                mount_at(top, place, bind, if nested { None } else { Some(&own) })
            };
            match mounted {
                Err(_) if bind.rule == Rule::Default => {}
                mounted => mounted?,
            }
        }
        if let Some(root) = &root {
            mounts::add(root, mounts::READ_ONLY).map_err(cannot("make the root read-only"))?;
        }
        self.root = Some(root.unwrap_or(image));
        Ok(())
    }

    /// Makes the missing mount points, or where they cannot all be had those that somebody asked for.
    fn make_skeleton(
        &self,
        image: &Fd,
        binds: &mut Vec<(Place, Opened)>,
    ) -> Result<Option<Fd>, Error> {
        let plan = |binds: &[(Place, Opened)]| {
            let places: Vec<(Place, Kind)> =
                binds.iter().map(|(place, bind)| (place.clone(), bind.kind)).collect();
            skeleton::plan(&places, image)
        };
        let _identity = FileIdentity::assume(self.context.caller, 0)?;
        let actions = plan(binds).or_else(|_| {
            binds.retain(|(place, bind)| place.found.is_some() || bind.rule != Rule::Default);
            plan(binds)
        })?;
        if actions.is_empty() {
            return Ok(None);
        }
        let root = mounts::make_tmpfs()?;
        self.attach(&root)?;
        skeleton::build(&root, image, &actions)?;
        Ok(Some(root))
    }

    /// Attaches a mount where our namespace alone sees it: before Linux 6.15 nothing can be mounted on a detached one.
    fn attach(&self, mount: &Fd) -> Result<(), Error> {
        let staging = self.staging.as_ref().ok_or_else(out_of_order)?;
        sys::move_mount(mount, staging).map_err(cannot("attach a mount to its staging directory"))
    }
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// Finds a bind's mount point and applies the policy to where the kernel says it is, not to what was written.
fn locate_for(image: &Fd, bind: &Opened) -> Result<Place, Error> {
    let fail = |problem| TargetError { target: bind.target.clone(), problem };
    let place =
        skeleton::locate(image, &bind.target).map_err(|errno| fail(Problem::Errno(errno)))?;
    match bind.rule {
        Rule::Fixed if place.path != bind.target => {
            return Err(fail(Problem::Redirected(place.path)).into());
        }
        Rule::Default if place.path == "/" => {
            return Err(fail(Problem::Redirected(place.path)).into());
        }
        Rule::Fixed | Rule::Default => {}
        rule => check_target(&place.path, rule.origin())
            .map_err(|reason| fail(Problem::Forbidden(reason)))?,
    }
    match place.found {
        Some(found) if found != bind.kind => Err(fail(Problem::WrongKind(found)).into()),
        _ => Ok(place),
    }
}

/// Moves a clone onto its mount point, which must be on one of the devices `own`, where there are such: the image's
/// and the skeleton's, so that nothing hides another mount.
fn mount_at(
    root: &Fd,
    place: &Place,
    bind: &Opened,
    own: Option<&[u64]>,
) -> Result<(), TargetError> {
    let fail = |problem| TargetError { target: bind.target.clone(), problem };
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    let moved = c_path(&place.path)
        .and_then(|path| sys::open(Some(root), &path, libc::O_PATH, 0, resolve))
        .and_then(|target| match own {
            Some(own) if !own.contains(&sys::stat(&target)?.device) => Ok(false),
            _ => sys::move_mount(&bind.tree, &target).map(|()| true),
        });
    match moved {
        Ok(true) => Ok(()),
        Ok(false) => Err(fail(Problem::WithinMount)),
        // The place was found in the image, so something else covers it now.
        Err(Errno(libc::ENOENT | libc::EACCES)) => Err(fail(Problem::WithinMount)),
        Err(errno) => Err(fail(Problem::Errno(errno))),
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
    let program = command.first().cloned().unwrap_or_default();
    enter_workdir(context, image)?;
    sys::close_others_on_exec().map_err(cannot("close descriptors"))?;
    for number in &run.keep_fds {
        sys::keep_open(*number).map_err(cannot(format!("keep descriptor {number}")))?;
    }
    let paths = c_strings(environment::candidates(&program, &environment));
    let (arguments, environment) = (c_strings(command), c_strings(environment));
    context.inherited.restore()?;
    let errno = try_each(&paths, &references(&arguments), &references(&environment));
    Err(Error::Command { program, errno })
}

/// Tries each path as execvp(3) does: on past what is missing, but remembering what was there and not allowed.
fn try_each(paths: &[CString], arguments: &[&CStr], environment: &[&CStr]) -> Errno {
    let mut worst = Errno(libc::ENOENT);
    for path in paths {
        match sys::execute(path, arguments, environment) {
            Errno(libc::ENOENT | libc::ENOTDIR) => {}
            Errno(libc::EACCES) => worst = Errno(libc::EACCES),
            // A script without `#!` is the shell's, since before there was `#!`.
            Errno(libc::ENOEXEC) => {
                let rest = arguments.get(1..).unwrap_or_default().iter().copied();
                let script: Vec<&CStr> = [c"sh", path.as_c_str()].into_iter().chain(rest).collect();
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
    let enter = |path: &[u8]| {
        let path = CString::new(path).map_err(|_| Errno(libc::EINVAL))?;
        sys::change_directory(&path)
    };
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

fn references(items: &[CString]) -> Vec<&CStr> {
    items.iter().map(CString::as_c_str).collect()
}

/// The plan's order is fixed by `plan`, so this is a defect of ours.
fn out_of_order() -> Error {
    cannot("follow the plan: its steps are out of order")(Errno(libc::EINVAL))
}

/// Larger account files are not read: the tmpfs they go to has a megabyte.
const ACCOUNTS_LIMIT: usize = 256 << 10;
