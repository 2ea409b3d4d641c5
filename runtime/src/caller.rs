//! Who called, as the kernel knows it. Reads nothing that a caller could write.
#![forbid(unsafe_code)]

use crate::error::{Error, Standing, cannot};
use crate::sys;
use alloc::vec::Vec;

/// The calling user's identity: what decides over access, and what the process becomes again.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Supplementary groups, exactly as the caller has them: dropping or adding one changes access
    /// (CVE-2018-7169), and looking them up again may give others.
    pub groups: Vec<u32>,
}

impl Caller {
    /// Reads the ids and checks that the kernel gave this program root's rights for this caller.
    ///
    /// # Errors
    /// [`Standing`] where the program is not set-user-id root, or set-group-id.
    pub fn from_kernel() -> Result<Self, Error> {
        let [uid, effective, _] = sys::user_ids().map_err(cannot("read the user ids"))?;
        let [gid, effective_group, _] = sys::group_ids().map_err(cannot("read the group ids"))?;
        if effective != 0 || (uid != 0 && !sys::started_privileged()) {
            let confined = sys::process_control(libc::PR_GET_NO_NEW_PRIVS, 0, 0) == Ok(1);
            return Err(
                if confined { Standing::NoNewPrivileges } else { Standing::NotSetUid }.into()
            );
        }
        if gid != effective_group {
            return Err(Standing::SetGid.into());
        }
        let groups = sys::groups().map_err(cannot("read the groups"))?;
        Ok(Self { uid, gid, groups })
    }

    /// Whether the caller is the node's root, such as a Prolog.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Primary and supplementary groups.
    pub fn all_groups(&self) -> Vec<u32> {
        self.groups.iter().copied().chain([self.gid]).collect()
    }
}
