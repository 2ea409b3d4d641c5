//! One `munge_ctx`: the socket to use and what to ask of munged.
#![allow(unsafe_code)]

use crate::{MungeError, bindings as c};
use core::ffi::{CStr, c_char, c_int};
use core::ptr::NonNull;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How to talk to munged; cheap to make, one per thread.
///
/// Neither `Send` nor `Sync`: munge.h wants one context per thread. Whatever was decoded with a context, what it
/// encodes afterwards depends on the `with_` functions alone.
#[derive(Debug)]
pub struct Context {
    raw: NonNull<c::munge_ctx>,
}

impl Context {
    /// Makes a context for the socket that libmunge was built with.
    ///
    /// # Errors
    /// [`MungeError::Memory`] where there is none.
    pub fn new() -> Result<Self, MungeError> {
        // SAFETY: munge_ctx_create takes nothing and returns an owned context or NULL.
        let raw = unsafe { c::munge_ctx_create() };
        NonNull::new(raw).map(|raw| Self { raw }).ok_or(MungeError::Memory)
    }

    /// Uses the munged behind this socket.
    ///
    /// # Errors
    /// [`MungeError::BadArgument`] for a path with a NUL byte.
    pub fn with_socket(self, path: &Path) -> Result<Self, MungeError> {
        let path = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| MungeError::BadArgument("a socket path with a NUL byte"))?;
        let option = c::MUNGE_OPT_SOCKET as c_int;
        // SAFETY: `raw` is live until drop; MUNGE_OPT_SOCKET takes a C string and copies it (munge_ctx.3).
        let code = unsafe { c::munge_ctx_set(self.raw.as_ptr(), option, path.as_ptr()) };
        self.check(code)?;
        Ok(self)
    }

    /// Lets credentials live that long, in whole seconds, at least one; munged's own maximum still holds.
    ///
    /// # Errors
    /// [`MungeError::BadArgument`] beyond `i32::MAX` seconds.
    pub fn with_ttl(self, ttl: Duration) -> Result<Self, MungeError> {
        // Zero would not mean "at once" but munged's default.
        let seconds = c_int::try_from(ttl.as_secs().max(1))
            .map_err(|_| MungeError::BadArgument("a time to live of more than 68 years"))?;
        let option = c::MUNGE_OPT_TTL as c_int;
        // SAFETY: `raw` is live until drop; MUNGE_OPT_TTL takes an int (munge.h, enum munge_opt).
        let code = unsafe { c::munge_ctx_set(self.raw.as_ptr(), option, seconds) };
        self.check(code)?;
        Ok(self)
    }

    /// Lets only this user, and root, decode the credentials.
    ///
    /// # Errors
    /// [`MungeError::BadArgument`] for `u32::MAX`, which libmunge reads as "any user".
    pub fn with_uid_restriction(self, uid: u32) -> Result<Self, MungeError> {
        if uid == UID_ANY {
            return Err(MungeError::BadArgument("a restriction to the user id -1"));
        }
        let option = c::MUNGE_OPT_UID_RESTRICTION as c_int;
        // SAFETY: `raw` is live until drop; MUNGE_OPT_UID_RESTRICTION takes a uid_t (munge.h, enum munge_opt).
        let code = unsafe { c::munge_ctx_set(self.raw.as_ptr(), option, uid) };
        self.check(code)?;
        Ok(self)
    }

    /// The socket of the munged that is asked.
    ///
    /// # Errors
    /// [`MungeError::Internal`] where the context has none.
    pub fn socket(&self) -> Result<PathBuf, MungeError> {
        let mut text: *const c_char = core::ptr::null();
        let option = c::MUNGE_OPT_SOCKET as c_int;
        // SAFETY: `raw` is live until drop; MUNGE_OPT_SOCKET stores a pointer to a C string through `text`.
        let code = unsafe { c::munge_ctx_get(self.raw.as_ptr(), option, &raw mut text) };
        self.check(code)?;
        if text.is_null() {
            return Err(MungeError::Internal { text: "the context has no socket".into() });
        }
        // SAFETY: not NULL, and a C string of the context, which lives as long as `self` and is copied here.
        let text = unsafe { CStr::from_ptr(text) };
        Ok(PathBuf::from(OsStr::from_bytes(text.to_bytes())))
    }

    /// A second context with the same settings.
    pub(crate) fn copy(&self) -> Result<Self, MungeError> {
        // SAFETY: `raw` is live until drop; munge_ctx_copy returns an owned context or NULL.
        let raw = unsafe { c::munge_ctx_copy(self.raw.as_ptr()) };
        NonNull::new(raw).map(|raw| Self { raw }).ok_or(MungeError::Memory)
    }

    /// The pointer for a call that does not keep it.
    pub(crate) fn as_ptr(&self) -> c::munge_ctx_t {
        self.raw.as_ptr()
    }

    /// When the credential was made that this context decoded last.
    pub(crate) fn encode_time(&self) -> Result<SystemTime, MungeError> {
        let mut seconds: c::time_t = 0;
        let option = c::MUNGE_OPT_ENCODE_TIME as c_int;
        // SAFETY: `raw` is live until drop; MUNGE_OPT_ENCODE_TIME stores a time_t through `seconds`.
        let code = unsafe { c::munge_ctx_get(self.raw.as_ptr(), option, &raw mut seconds) };
        self.check(code)?;
        // munged's times are 32 bits wide and never before 1970.
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0)))
    }

    /// The time to live of the credential that this context decoded last.
    pub(crate) fn ttl(&self) -> Result<Duration, MungeError> {
        let mut seconds: c_int = 0;
        let option = c::MUNGE_OPT_TTL as c_int;
        // SAFETY: `raw` is live until drop; MUNGE_OPT_TTL stores an int through `seconds`.
        let code = unsafe { c::munge_ctx_get(self.raw.as_ptr(), option, &raw mut seconds) };
        self.check(code)?;
        Ok(Duration::from_secs(seconds.try_into().unwrap_or(0)))
    }

    /// The only user, beside root, who may decode the credential that this context decoded last.
    pub(crate) fn uid_restriction(&self) -> Result<Option<u32>, MungeError> {
        let mut uid: c::uid_t = UID_ANY;
        let option = c::MUNGE_OPT_UID_RESTRICTION as c_int;
        // SAFETY: `raw` is live until drop; MUNGE_OPT_UID_RESTRICTION stores a uid_t through `uid`.
        let code = unsafe { c::munge_ctx_get(self.raw.as_ptr(), option, &raw mut uid) };
        self.check(code)?;
        Ok((uid != UID_ANY).then_some(uid))
    }

    /// Turns an error code of the last call on this context into an error.
    pub(crate) fn check(&self, code: c::munge_err_t) -> Result<(), MungeError> {
        use MungeError as E;
        Err(match code {
            c::EMUNGE_SUCCESS => return Ok(()),
            c::EMUNGE_SNAFU => E::Internal { text: self.error_text(code) },
            c::EMUNGE_BAD_ARG => E::BadArgument("libmunge refuses an argument"),
            c::EMUNGE_BAD_LENGTH => E::BadLength,
            c::EMUNGE_OVERFLOW => E::Overflow,
            c::EMUNGE_NO_MEMORY => E::Memory,
            c::EMUNGE_SOCKET | c::EMUNGE_TIMEOUT => {
                let text = self.error_text(code);
                E::Socket { path: self.socket()?, text }
            }
            c::EMUNGE_BAD_CRED => E::BadCredential,
            c::EMUNGE_BAD_VERSION => E::BadVersion,
            c::EMUNGE_BAD_CIPHER => E::BadCipher,
            c::EMUNGE_BAD_MAC => E::BadMac,
            c::EMUNGE_BAD_ZIP => E::BadZip,
            c::EMUNGE_BAD_REALM => E::BadRealm,
            c::EMUNGE_CRED_INVALID => E::Invalid,
            c::EMUNGE_CRED_EXPIRED => E::Expired,
            c::EMUNGE_CRED_REWOUND => E::Rewound,
            c::EMUNGE_CRED_REPLAYED => E::Replayed,
            c::EMUNGE_CRED_UNAUTHORIZED => E::Unauthorized,
            code => E::Other { code, text: self.error_text(code) },
        })
    }

    /// What libmunge has to say of the last error, or of the code where it has nothing.
    fn error_text(&self, code: c::munge_err_t) -> String {
        // SAFETY: `raw` is live until drop; the result is NULL or a C string that the context owns.
        let mut text = unsafe { c::munge_ctx_strerror(self.raw.as_ptr()) };
        if text.is_null() {
            // SAFETY: takes any number and returns a static C string.
            text = unsafe { c::munge_strerror(code) };
        }
        if text.is_null() {
            return "no further explanation".to_owned();
        }
        // SAFETY: not NULL, and a C string that nothing changes before it is copied here.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: `raw` came from munge_ctx_create or munge_ctx_copy and is destroyed nowhere else.
        unsafe { c::munge_ctx_destroy(self.raw.as_ptr()) }
    }
}

/// `MUNGE_UID_ANY` as a `uid_t`.
const UID_ANY: c::uid_t = c::MUNGE_UID_ANY as c::uid_t;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_remembers_what_it_was_told() {
        let context = Context::new().unwrap();
        assert!(context.socket().unwrap().is_absolute());
        let context = context
            .with_socket(Path::new("/nowhere/munge"))
            .and_then(|context| context.with_ttl(Duration::from_millis(1)))
            .and_then(|context| context.with_uid_restriction(0))
            .unwrap();
        assert_eq!(context.socket().unwrap(), Path::new("/nowhere/munge"));
        let copy = context.copy().unwrap();
        drop(context);
        assert_eq!(copy.socket().unwrap(), Path::new("/nowhere/munge"));
        assert_eq!(copy.ttl().unwrap(), Duration::from_secs(1));
        assert_eq!(copy.uid_restriction().unwrap(), Some(0));
    }

    #[test]
    fn settings_that_libmunge_would_misread_are_refused() {
        let context = || Context::new().unwrap();
        assert!(matches!(
            context().with_uid_restriction(u32::MAX),
            Err(MungeError::BadArgument(_))
        ));
        assert!(matches!(context().with_ttl(Duration::MAX), Err(MungeError::BadArgument(_))));
        let path = Path::new(OsStr::from_bytes(b"/run/a\0b"));
        assert!(matches!(context().with_socket(path), Err(MungeError::BadArgument(_))));
    }

    #[test]
    fn every_code_of_the_header_has_its_own_error() {
        let context = Context::new().unwrap();
        let texts: std::collections::BTreeSet<String> = (c::EMUNGE_SNAFU
            ..=c::EMUNGE_CRED_UNAUTHORIZED)
            .filter(|code| *code != c::EMUNGE_TIMEOUT)
            .map(|code| context.check(code).unwrap_err().to_string())
            .collect();
        assert_eq!(texts.len(), 17, "{texts:#?}");
        assert!(matches!(context.check(200), Err(MungeError::Other { code: 200, .. })));
    }
}
