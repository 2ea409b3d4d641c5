//! No path and no port: a Landlock domain in which nothing is allowed.
//!
//! What was opened before, or comes over the socket, stays usable. Kernels before 5.13, and those that were started
//! without it, have no Landlock; older ones know fewer kinds of access. The list of system calls refuses the same.

use std::fmt;

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetError,
    RulesetStatus, Scope,
};

/// What the kernel enforces.
#[derive(Debug)]
pub(super) enum Enforced {
    /// Everything that this program knows of.
    Fully(ABI),
    /// What this older kernel has.
    Partly(ABI),
    /// Nothing: the kernel has no Landlock.
    Not,
}

/// Denies every access to files and network, and signals to others, as far as the kernel can.
///
/// # Errors
/// Where the kernel has Landlock and refuses to enforce it.
pub(super) fn enforce() -> Result<Enforced, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .restrict_self()?;
    let LandlockStatus::Available { effective_abi, .. } = status.landlock else {
        return Ok(Enforced::Not);
    };
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Enforced::Fully(effective_abi),
        RulesetStatus::PartiallyEnforced => Enforced::Partly(effective_abi),
        RulesetStatus::NotEnforced => Enforced::Not,
    })
}

impl fmt::Display for Enforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fully(abi) => write!(f, "on, version {}", *abi as i32),
            Self::Partly(abi) => write!(f, "in part, version {}", *abi as i32),
            Self::Not => f.write_str("off, the kernel has none"),
        }
    }
}

/// Files, truncation, devices, TCP, and the scopes of signals and abstract sockets.
const KNOWN: ABI = ABI::V6;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::ErrorKind;

    #[test]
    fn by_itself_it_denies_files_and_ports_where_the_kernel_has_it() {
        // Around this thread alone; the list of system calls is not in place here.
        let inside = std::thread::spawn(|| {
            let open = File::open("/proc/self/environ").unwrap();
            let enforced = enforce().unwrap();
            let kept = std::io::Read::read(&mut &open, &mut [0; 16]).is_ok();
            let file = File::open("/proc/self/environ").map(drop);
            let port = std::net::TcpListener::bind("127.0.0.1:0").map(drop);
            (enforced, kept, file, port)
        });
        let (enforced, kept, file, port) = inside.join().unwrap();
        assert!(kept, "what was open before stays so");
        match enforced {
            Enforced::Not => assert!(file.is_ok() && port.is_ok()),
            Enforced::Fully(abi) | Enforced::Partly(abi) => {
                assert_eq!(file.unwrap_err().kind(), ErrorKind::PermissionDenied);
                assert_eq!(port.is_err(), abi >= ABI::V4);
            }
        }
    }
}
