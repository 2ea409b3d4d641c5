//! What ends a run early: one sentence, a hint where there is one, and the exit code.
//!
//! Nothing here reveals what the caller could not look up himself, and bytes of others are escaped.
#![forbid(unsafe_code)]

use crate::image::ImageError;
use crate::plan::PlanError;
use crate::request::UsageError;
use crate::skeleton::TargetError;
use crate::sys::{self, Errno};
use crate::trust::TrustError;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use udiroot_conf::ConfError;

/// Everything that can go wrong.
#[derive(Debug)]
pub enum Error {
    /// The arguments are not a request.
    Usage(UsageError),
    /// The program has not the rights, or the caller not the standing, that the request needs.
    Standing(Standing),
    /// A file or directory is not to be trusted.
    Trust(TrustError),
    /// udiRoot.conf cannot be used.
    Conf(ConfError),
    /// The request and the configuration do not make a plan.
    Plan(PlanError),
    /// The image cannot be used.
    Image(ImageError),
    /// A mount point cannot be had.
    Target(TargetError),
    /// The kernel refused something.
    System {
        /// What was tried, to follow "cannot".
        doing: String,
        /// Why not.
        errno: Errno,
    },
    /// The command cannot be run.
    Command {
        /// Its name as given.
        program: Vec<u8>,
        /// Why not.
        errno: Errno,
    },
    /// Privileges were dropped and some are still there.
    StillPrivileged(&'static str),
}

/// Why the program will not act for this caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not installed set-user-id root, or on a file system mounted nosuid.
    NotSetUid,
    /// The caller's processes gain no privileges (prctl PR_SET_NO_NEW_PRIVS).
    NoNewPrivileges,
    /// Installed set-group-id too.
    SetGid,
    /// Root asks for a container.
    Root,
    /// Somebody else asks for what only root may.
    OnlyRoot,
}

impl Error {
    /// Writes the sentence and the hint to standard error.
    pub fn report(&self) {
        complain(&format!("gantry: {self}\n"));
        if let Some(hint) = self.hint() {
            complain(&format!("hint: {hint}\n"));
        }
    }

    /// The exit code: 126 and 127 speak of the command, as in a shell; 125 is Gantry's own.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Command { errno: Errno(libc::ENOENT | libc::ENOTDIR), .. } => 127,
            Self::Command { .. } => 126,
            _ => 125,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::System { errno: Errno(libc::ENOSYS), .. } => KERNEL_HINT,
            Self::System { errno: Errno(libc::ENODEV), .. } => {
                "is the squashfs module loaded on this node? try `modprobe squashfs` as root"
            }
            Self::Command { errno: Errno(libc::ENOENT), .. } => {
                "the command is looked for inside the image, in the PATH that the image has"
            }
            Self::Standing(standing) => standing.texts().1?,
            Self::Trust(error) => return error.hint(),
            Self::Image(error) => return error.hint(),
            Self::Plan(error) => error.hint()?,
            Self::Target(error) => error.hint()?,
            _ => return None,
        };
        Some(text.into())
    }
}

/// Writes a line to standard error; nothing can be done where that fails.
pub fn complain(text: &str) {
    let _ = sys::write_to(2, text.as_bytes());
}

/// Names what the kernel refused: `.map_err(cannot("make a private mount namespace"))`.
pub fn cannot(doing: impl Into<String>) -> impl FnOnce(Errno) -> Error {
    let doing = doing.into();
    move |errno| Error::System { doing, errno }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::Standing(standing) => f.write_str(standing.texts().0),
            Self::Trust(error) => error.fmt(f),
            Self::Conf(error) => write!(f, "cannot use {}: {error}", crate::CONF_PATH),
            Self::Plan(error) => error.fmt(f),
            Self::Image(error) => error.fmt(f),
            Self::Target(error) => error.fmt(f),
            Self::System { doing, errno } => write!(f, "cannot {doing}: {errno}"),
            Self::Command { program, errno } => {
                write!(f, "cannot run {} in the image: {errno}", Shown(program))
            }
            Self::StillPrivileged(what) => {
                write!(f, "privileges were dropped but {what} remained, so nothing was run")
            }
        }
    }
}

impl Standing {
    /// What is the matter, and what can be done.
    fn texts(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::NotSetUid => (
                "this program is not set-user-id root, so it can mount nothing",
                Some(
                    "an administrator installs it with owner root and mode 4755, on a file system that is not \
                     nosuid; within a user namespace or a traced process it cannot work",
                ),
            ),
            Self::NoNewPrivileges => (
                "this process may gain no privileges (no_new_privs), so no image can be mounted",
                Some("are you inside a container already? then run the command directly"),
            ),
            Self::SetGid => ("this program is set-group-id, which it must not be", None),
            Self::Root => (
                "root runs no containers, they would run as root of the node",
                Some("become the user first: `runuser -u USER -- gantry ...`"),
            ),
            Self::OnlyRoot => ("only root may do this", None),
        }
    }
}

/// Displays bytes that may be anything: control characters and what is not UTF-8 is escaped, long text cut.
#[derive(Debug)]
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..SHOWN_LIMIT).unwrap_or(self.0);
        for chunk in shown.utf8_chunks() {
            for sign in chunk.valid().chars() {
                if sign.is_control() {
                    write!(f, "{}", sign.escape_default())?
                } else {
                    write!(f, "{sign}")?
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        if shown.len() < self.0.len() { f.write_str("...") } else { Ok(()) }
    }
}

/// There is one code path, for kernels that can do everything by descriptor.
pub const KERNEL_HINT: &str = "gantry needs Linux 5.14 or later";

/// Enough to recognise what is meant; a hostile argument may be megabytes long.
const SHOWN_LIMIT: usize = 300;

macro_rules! from {
    ($($variant:ident($inner:ty)),*) => {
        $(impl From<$inner> for Error {
            fn from(error: $inner) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

from!(
    Usage(UsageError),
    Standing(Standing),
    Trust(TrustError),
    Conf(ConfError),
    Plan(PlanError),
    Image(ImageError),
    Target(TargetError)
);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn bytes_of_others_cannot_write_to_the_terminal() {
        assert_eq!(Shown(b"a\x1b[31m\n\xffz").to_string(), "a\\u{1b}[31m\\n\\xffz");
        assert_eq!(Shown("größe".as_bytes()).to_string(), "größe");
        assert!(Shown(&[b'x'; 5000]).to_string().len() < 320);
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        let command = |number| Error::Command { program: b"x".to_vec(), errno: Errno(number) };
        assert_eq!(command(libc::ENOENT).exit_code(), 127);
        assert_eq!(command(libc::EACCES).exit_code(), 126);
        assert_eq!(Error::Standing(Standing::Root).exit_code(), 125);
    }

    #[test]
    fn an_old_kernel_is_named_as_the_reason() {
        let error = cannot("mount the image")(Errno(libc::ENOSYS));
        assert_eq!(error.to_string(), "cannot mount the image: the kernel has no such call");
        assert_eq!(error.hint().as_deref(), Some(KERNEL_HINT));
    }
}
