//! A machine of its own for one test, made of namespaces and an overlay over this system.
//!
//! The set-user-id program's paths are constants, as they must be; so the test does not move the paths but the
//! root: what it installs, mounts, listens on and starts is seen by nobody else, and ends with its process namespace.
//! Only the kernel is shared, and with it the loop devices.

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, geteuid, pivot_root};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{caller, daemon, wait};

/// The machine that a test runs on, once it runs on it.
#[derive(Debug)]
pub struct Machine {
    _entered: (),
}

/// Runs `body` as root on a machine of its own and fails where it fails.
///
/// The test runs itself again for this, in new namespaces, under its own name: which it takes from the type of
/// `body`, a closure written in the test function.
///
/// # Errors
/// Where this is not root, or with everything that the inner run printed where that failed.
#[allow(clippy::print_stdout, clippy::exit, reason = "the inner run reports to the outer one")]
pub fn on_a_machine<F>(body: F) -> Result<()>
where
    F: FnOnce(&Machine) -> Result<()>,
{
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let lower = std::env::var_os(LOWER).unwrap_or_else(|| "/".into());
        let machine = Machine::enter(Path::new(&lower), Path::new(&directory))?;
        // A panic unwinds through here as well, after the daemons of the test, whose logs remain.
        let ended = catch_unwind(AssertUnwindSafe(|| body(&machine)));
        if !matches!(ended, Ok(Ok(()))) {
            println!("{}", daemon::log_tails());
        }
        // What follows in the test is for the host.
        return match ended {
            Ok(Ok(())) => std::process::exit(0),
            Ok(Err(failure)) => Err(failure),
            Err(panic) => resume_unwind(panic),
        };
    }
    ensure!(geteuid().is_root(), "this test makes namespaces, users and mounts: it needs root");
    let name = test_name(std::any::type_name::<F>())?;
    let scratch = Scratch::make(name)?;
    let log = scratch.path.join("log");
    let out = fs::File::options().create(true).append(true).open(&log)?;
    let mut arguments = vec!["--exact", name, "--nocapture", "--include-ignored"];
    arguments.push("--test-threads=1");
    let mut child = Machine::command(&scratch.path, &std::env::current_exe()?, &arguments)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .context("cannot run unshare")?;
    let ended = wait::until(&format!("the end of {name}"), LONGEST_TEST, || Ok(child.try_wait()?));
    // Killing unshare kills the process namespace: it was started with --kill-child.
    child.kill().ok();
    child.wait()?;
    let said = fs::read_to_string(&log).unwrap_or_default();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("on its machine the test ended with {status}:\n{said}"),
        Err(late) => bail!("{late}:\n{said}"),
    }
}

impl Machine {
    /// The command that runs `program` as the first real process of a new machine with `directory` for its data.
    ///
    /// `program` is to call [`Machine::enter`]. The shell in between is process 1: it reaps whatever is orphaned.
    pub fn command(directory: &Path, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--net", "--pid", "--uts", "--ipc", "--fork"])
            .args(["--kill-child=SIGKILL", "--propagation", "private", "--"])
            .args(["bash", "-c", "\"$0\" \"$@\"; exit $?"])
            .arg(program)
            .args(arguments)
            .env(DIRECTORY, directory)
            .env("RUST_LIB_BACKTRACE", "0");
        command
    }

    /// Changes into a throw-away copy of the system at `lower`, with `/srv` on disk below `directory`.
    ///
    /// # Errors
    /// Where a mount fails; the caller must be in namespaces made by [`Machine::command`].
    pub fn enter(lower: &Path, directory: &Path) -> Result<Self> {
        let workspace = workspace();
        let own = directory.join("machine");
        let (upper, work, root) = (own.join("upper"), own.join("work"), own.join("root"));
        fs::create_dir_all(&own)?;
        mount_fs("tmpfs", &own, "mode=0755")?;
        for part in [&upper, &work, &root] {
            fs::create_dir_all(part)?;
        }
        let (lower, upper, work) = (lower.display(), upper.display(), work.display());
        mount_fs("overlay", &root, &format!("lowerdir={lower},upperdir={upper},workdir={work}"))?;
        // A sysfs of its own shows its own network interfaces: MPI libraries look for them there.
        mount_fs("sysfs", &below(&root, "/sys"), "")?;
        for kept in ["/dev", "/sys/fs/cgroup"] {
            bind(Path::new(kept), &below(&root, kept))?;
        }
        mount_fs("proc", &below(&root, "/proc"), "")?;
        mount_fs("tmpfs", &below(&root, "/run"), "mode=0755")?;
        mount_fs("tmpfs", &below(&root, "/tmp"), "mode=1777")?;
        mount_fs("tmpfs", &below(&root, "/dev/shm"), "mode=1777")?;
        let data = directory.join("srv");
        fs::create_dir_all(&data)?;
        bind(&data, &below(&root, "/srv"))?;
        bind(&workspace, &below(&root, &workspace.display().to_string()))?;
        chdir(&root)?;
        pivot_root(".", ".").context("cannot change the root of the machine")?;
        umount2(".", MntFlags::MNT_DETACH).context("cannot let go of the old root")?;
        chdir("/")?;
        fs::write("/proc/sys/kernel/hostname", HOST)?;
        let up = Command::new("sh").args(["-ec", NETWORK]).status()?;
        ensure!(up.success(), "cannot bring the network interfaces up");
        fs::write("/etc/hosts", format!("127.0.0.1 localhost {HOST}\n"))?;
        caller::add_accounts()?;
        Ok(Self { _entered: () })
    }
}

/// The directory of this workspace.
pub fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The real place: only that is the same on the machine.
    let manifest = manifest.canonicalize().unwrap_or_else(|_| manifest.to_path_buf());
    manifest.parent().unwrap_or(&manifest).to_path_buf()
}

/// The name of every machine.
pub const HOST: &str = "head";

/// An interface besides the loopback one: getaddrinfo's AI_ADDRCONFIG and Open MPI's TCP both overlook that.
const NETWORK: &str = "ip link set lo up
    ip link add fabric0 type veth peer name fabric1
    ip address add 10.213.77.1/24 dev fabric0
    ip link set fabric0 up
    ip link set fabric1 up";

/// The data of one test on disk, removed when the test ends, however it ends.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn make(name: &str) -> Result<Self> {
        let program = std::env::current_exe()?;
        let program = program.file_stem().and_then(|stem| stem.to_str()).unwrap_or("test");
        let path = workspace().join("target/e2e").join(format!("{program}-{name}"));
        fs::remove_dir_all(&path).ok();
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).ok();
    }
}

/// `submit::a_job_runs::{{closure}}` -> `a_job_runs`.
fn test_name(closure: &str) -> Result<&str> {
    let path = closure.strip_suffix("::{{closure}}").context("call it with a closure")?;
    path.split_once("::").map(|(_, name)| name).context("call it from a test")
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn mount_fs(kind: &str, target: &Path, data: &str) -> Result<()> {
    fs::create_dir_all(target)?;
    mount(Some(kind), target, Some(kind), MsFlags::empty(), Some(data))
        .with_context(|| format!("cannot mount {kind} on {}", target.display()))
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot bind {} on {}", source.display(), target.display()))
}

/// Where the inner run finds the directory for its data; set means: this is the inner run.
const DIRECTORY: &str = "GANTRY_TEST_MACHINE";

/// The root directory that the machine is a copy of, `/` where unset: another release of Debian, for instance.
const LOWER: &str = "GANTRY_TEST_ROOT";

/// No test may take longer, so that a hanging one is told apart from a slow one.
const LONGEST_TEST: Duration = Duration::from_secs(420);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_test_is_read_from_its_closure() {
        assert_eq!(test_name("submit::a_job_runs::{{closure}}").unwrap(), "a_job_runs");
        assert_eq!(test_name("a::b::c::{{closure}}").unwrap(), "b::c");
        assert!(test_name("submit::a_job_runs").is_err());
    }
}
