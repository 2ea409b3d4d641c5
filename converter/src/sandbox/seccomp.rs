//! The system calls that a conversion needs; everything else is refused with `EPERM` (seccomp(2)).
//!
//! No call here takes a path, makes a socket, starts a program or touches another process. Refused, not killed: a library
//! that tries something else has another way or says so.

use std::collections::BTreeMap;

use nix::libc;
use rustix::fs::OFlags;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

/// Puts the filters on every thread of this process.
///
/// # Errors
/// [`SeccompError`] where the kernel has no seccomp or refuses the filters.
pub(super) fn enforce() -> Result<(), SeccompError> {
    // clone3 hides its flags from filters. Threads are started with clone instead where it is said not to be there;
    // of two filters that refuse, the newer one decides how, so this is the older one only because the newer allows it.
    let no_clone3 = [(libc::SYS_clone3, vec![])].into();
    install(no_clone3, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?;
    install(allowed()?, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn install(rules: Rules, other: SeccompAction, listed: SeccompAction) -> Result<(), SeccompError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(SeccompError::Build)?;
    let filter = SeccompFilter::new(rules, other, listed, arch).map_err(SeccompError::Build)?;
    let program: BpfProgram = filter.try_into().map_err(SeccompError::Build)?;
    apply_filter_all_threads(&program).map_err(SeccompError::Install)
}

fn allowed() -> Result<Rules, SeccompError> {
    let mut rules: Rules = ALWAYS.iter().map(|call| (*call, vec![])).collect();
    let own = u64::from(std::process::id());
    let mut when = |call: libc::c_long, condition: Result<SeccompCondition, _>| {
        let rule = condition.and_then(|condition| SeccompRule::new(vec![condition]));
        rule.map(|rule| rules.entry(call).or_default().push(rule)).map_err(SeccompError::Build)
    };
    // abort(3) raises its signal this way.
    when(libc::SYS_tgkill, equal(0, own))?;
    when(libc::SYS_prlimit64, equal(0, 0))?;
    when(libc::SYS_prctl, equal(0, libc::PR_SET_NAME as u64))?;
    when(libc::SYS_clone, masked(0, CLONE_MASK, CLONE_THREAD))?;
    // Memory is for data: code that is not there already does not come.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        when(call, masked(2, libc::PROT_EXEC as u64, 0))?;
    }
    for command in [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_DUPFD_CLOEXEC] {
        when(libc::SYS_fcntl, equal(1, command as u64))?;
    }
    for request in [FICLONE, FICLONERANGE] {
        when(libc::SYS_ioctl, equal(1, request))?;
    }
    let mut when_both = |call: libc::c_long, conditions: [Result<SeccompCondition, _>; 2]| {
        let rule = conditions.into_iter().collect::<Result<_, _>>().and_then(SeccompRule::new);
        rule.map(|rule| rules.entry(call).or_default().push(rule)).map_err(SeccompError::Build)
    };
    // A thread's own priority, which it can only lower.
    when_both(libc::SYS_setpriority, [equal(0, libc::PRIO_PROCESS.into()), equal(1, 0)])?;
    let others = !u64::from((OFlags::DIRECT | OFlags::LARGEFILE).bits());
    when_both(libc::SYS_fcntl, [equal(1, libc::F_SETFL as u64), masked(2, others, 0)])?;
    Ok(rules)
}

fn equal(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn masked(
    argument: u8,
    mask: u64,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), value)
}

/// Allowed whatever their arguments are: they work on descriptors that are there, on this process's memory and threads,
/// or tell the time.
///
/// stat(2) is missing in all its forms that take a path, which leaves fstat(2) and lseek(2) to find a file's length.
const ALWAYS: &[libc::c_long] = &[
    // Files.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    libc::SYS_sync_file_range,
    libc::SYS_copy_file_range,
    libc::SYS_close,
    // The socket to the gateway, the only one there is.
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads; clone3 is refused by the other filter.
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // This process's own signals.
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Time, and the seeds of hash maps.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
];

/// What makes the new one a thread of this process.
const CLONE_THREAD: u64 = (libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND) as u64;

/// Those, and the flags that would give it something of its own: namespaces, a tracer, a parent.
const CLONE_MASK: u64 = CLONE_THREAD
    | (libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_PTRACE
        | libc::CLONE_VFORK
        | libc::CLONE_PARENT) as u64;

/// `FICLONE` and `FICLONERANGE` of linux/fs.h, by which a file shares blocks with another.
const FICLONE: u64 = 0x4004_9409;
const FICLONERANGE: u64 = 0x4020_940d;

/// Why system calls could not be restricted.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// There is no filter for this machine.
    #[error("no filter can be made for {}", std::env::consts::ARCH)]
    Build(#[source] seccompiler::BackendError),
    /// The kernel did not take the filter.
    #[error("the kernel does not take the filter")]
    Install(#[source] seccompiler::Error),
}
