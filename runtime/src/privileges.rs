//! Which rights are held when: reduced at once, raised in scopes, dropped for ever and verified.
//!
//! Between the calls of this module the process is root by effective id alone: file access is the caller's.
#![forbid(unsafe_code)]

use crate::caller::Caller;
use crate::error::{Error, cannot};
use crate::sys::{self, Errno};

/// Empties the bounding set, keeps the few capabilities that mounting needs and lets files be the caller's.
///
/// # Errors
/// The kernel's; nothing was read or opened before.
pub fn reduce(caller: &Caller) -> Result<(), Error> {
    for capability in 0.. {
        match sys::process_control(libc::PR_CAPBSET_DROP, capability, 0) {
            Ok(_) => {}
            Err(Errno(libc::EINVAL)) if capability >= CAPABILITIES => break,
            Err(errno) => return Err(cannot("empty the capability bounding set")(errno)),
        }
    }
    sys::process_control(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as usize, 0)
        .map_err(cannot("clear ambient capabilities"))?;
    sys::set_capabilities(KEPT, KEPT, 0).map_err(cannot("reduce capabilities"))?;
    become_file_user(caller.uid, caller.gid)
}

fn become_file_user(uid: u32, gid: u32) -> Result<(), Error> {
    if sys::set_file_group(gid) == gid && sys::set_file_user(uid) == uid {
        Ok(())
    } else {
        Err(cannot("change the identity for files")(Errno(libc::EPERM)))
    }
}

/// While it lives, files are opened as another user than the caller.
#[derive(Debug)]
pub struct FileIdentity {
    caller: [u32; 2],
}

impl FileIdentity {
    /// Opens files as `uid` until the value is dropped. Nothing that a user named may be touched meanwhile.
    /// What root makes has root's group too; any other user keeps the caller's.
    ///
    /// # Errors
    /// Where the kernel did not change the identity.
    pub fn assume(caller: &Caller, uid: u32) -> Result<Self, Error> {
        let guard = Self { caller: [caller.uid, caller.gid] };
        become_file_user(uid, if uid == 0 { 0 } else { caller.gid })?;
        Ok(guard)
    }
}

impl Drop for FileIdentity {
    fn drop(&mut self) {
        let [uid, gid] = self.caller;
        if become_file_user(uid, gid).is_err() {
            crate::die_of_a_defect();
        }
    }
}

/// Runs `body` with the caller's full credentials: all three user ids, no capability in effect.
///
/// The file system id alone is not enough: FUSE compares all of them. The process stays undumpable, so the caller
/// can end it meanwhile but not look into it.
///
/// # Errors
/// The kernel's for a change of identity, in which case the program must end.
pub fn as_caller<T>(caller: &Caller, body: impl FnOnce() -> T) -> Result<T, Error> {
    let failed = || cannot("change identity");
    let uid = caller.uid;
    sys::process_control(libc::PR_SET_SECUREBITS, libc::SECBIT_NO_SETUID_FIXUP as usize, 0)
        .map_err(failed())?;
    sys::set_user_ids([uid, uid, uid]).map_err(failed())?;
    sys::set_capabilities(0, KEPT, 0).map_err(failed())?;
    sys::process_control(libc::PR_SET_DUMPABLE, 0, 0).map_err(failed())?;
    let result = body();
    sys::set_capabilities(KEPT, KEPT, 0).map_err(failed())?;
    sys::set_user_ids([uid, 0, 0]).map_err(failed())?;
    sys::process_control(libc::PR_SET_SECUREBITS, 0, 0).map_err(failed())?;
    become_file_user(uid, caller.gid)?;
    Ok(result)
}

/// Proof that nothing is left of root's rights.
#[derive(Debug)]
pub struct Dropped(());

/// Becomes the caller for ever, and reads everything back.
///
/// # Errors
/// The kernel's, or [`Error::StillPrivileged`]: the command must not be run then.
pub fn drop_for_ever(caller: &Caller) -> Result<Dropped, Error> {
    let failed = || cannot("drop privileges");
    sys::process_control(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map_err(failed())?;
    sys::process_control(libc::PR_SET_SECUREBITS, FINAL_SECUREBITS, 0).map_err(failed())?;
    sys::set_group_ids([caller.gid; 3]).map_err(failed())?;
    sys::set_user_ids([caller.uid; 3]).map_err(failed())?;
    sys::set_capabilities(0, 0, 0).map_err(failed())?;
    verify(caller)
}

fn verify(caller: &Caller) -> Result<Dropped, Error> {
    let checks = [
        ("a user id", sys::user_ids() == Ok([caller.uid; 3])),
        ("a group id", sys::group_ids() == Ok([caller.gid; 3])),
        ("other groups", sys::groups().as_ref() == Ok(&caller.groups)),
        ("root's file identity", sys::set_file_user(u32::MAX) == caller.uid),
        ("root's group for files", sys::set_file_group(u32::MAX) == caller.gid),
        ("a capability", sys::any_capabilities() == Ok(0)),
        ("the way to new ones", sys::process_control(libc::PR_GET_NO_NEW_PRIVS, 0, 0) == Ok(1)),
        ("the way back to root", sys::set_user_ids([0, 0, 0]) == Err(Errno(libc::EPERM))),
    ];
    match checks.into_iter().find(|(_, held)| !held) {
        None => Ok(Dropped(())),
        Some((what, _)) => Err(Error::StillPrivileged(what)),
    }
}

/// SYS_ADMIN to mount, SETUID, SETGID and SETPCAP to drop, the DAC pair within [`FileIdentity`] scopes of root.
const KEPT: u64 = 1 << 21 | 1 << 7 | 1 << 6 | 1 << 8 | 1 << 1 | 1 << 2;

/// How many capabilities the oldest kernel has that this runs on (5.14): an end before that is none.
const CAPABILITIES: usize = 41;

/// NOROOT and NO_CAP_AMBIENT_RAISE set, and all four bits locked as they are (capabilities(7)).
const FINAL_SECUREBITS: usize = 0xEB;
