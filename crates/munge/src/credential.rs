//! Making credentials and reading them.
#![allow(unsafe_code)]

use crate::{Context, MungeError, bindings as c, socket::ensure_listener};
use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use std::ffi::CString;
use std::time::{Duration, SystemTime};

/// What munged says of a valid credential.
#[derive(Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The effective user id of the process that asked for it.
    pub uid: u32,
    /// The effective group id of that process.
    pub gid: u32,
    /// What that process put in; may hold any bytes, and secrets.
    pub payload: Vec<u8>,
    /// When it was made, by the clock of that host.
    pub encoded_at: SystemTime,
    /// How long it is valid.
    pub ttl: Duration,
    /// Who alone, beside root, may decode it; `None` where everybody may.
    pub uid_restriction: Option<u32>,
}

impl Context {
    /// Asks munged for a credential of the calling process around `payload`.
    ///
    /// Blocks for up to 10 seconds where munged is there but does not answer.
    ///
    /// # Errors
    /// [`MungeError::Socket`] where munged is away, [`MungeError::BadLength`] where the payload is too long.
    pub fn encode(&self, payload: &[u8]) -> Result<String, MungeError> {
        let length = c_int::try_from(payload.len()).map_err(|_| MungeError::BadLength)?;
        ensure_listener(&self.socket()?)?;
        let mut text: *mut c_char = ptr::null_mut();
        // SAFETY: the context is live, `payload` is readable for `length` bytes and only read, and `text` takes a
        // pointer that we own afterwards, or NULL.
        let code = unsafe {
            c::munge_encode(&raw mut text, self.as_ptr(), payload.as_ptr().cast(), length)
        };
        let text = Allocation(text.cast());
        self.check(code)?;
        text.to_text()
    }

    /// Asks munged whose credential this is.
    ///
    /// Decode each credential once: munged remembers it, and the next one who tries is told [`MungeError::Replayed`].
    /// Blocks for up to 10 seconds where munged is there but does not answer.
    ///
    /// # Errors
    /// [`MungeError::is_about_credential`] parts those that are the sender's fault from the others.
    pub fn decode(&self, credential: &str) -> Result<Decoded, MungeError> {
        if credential.is_empty() {
            return Err(MungeError::BadCredential); // libmunge would blame its caller
        }
        let credential = CString::new(credential).map_err(|_| MungeError::BadCredential)?;
        ensure_listener(&self.socket()?)?;
        // munge_decode leaves the settings of the decoded credential in its context: those must not become ours.
        let context = self.copy()?;
        let mut payload: *mut c_void = ptr::null_mut();
        let mut length: c_int = 0;
        let (mut uid, mut gid) = (c::uid_t::MAX, c::gid_t::MAX);
        // SAFETY: `credential` is a C string, the context is live, and the four out-pointers are to live variables of
        // the declared types; `payload` takes a pointer that we own afterwards, whatever the code, or NULL.
        let code = unsafe {
            c::munge_decode(
                credential.as_ptr(),
                context.as_ptr(),
                &raw mut payload,
                &raw mut length,
                &raw mut uid,
                &raw mut gid,
            )
        };
        // Expired, rewound and replayed credentials have a payload too: it is freed when `payload` goes.
        let payload = Allocation(payload);
        context.check(code)?;
        Ok(Decoded {
            uid,
            gid,
            payload: payload.to_bytes(length),
            encoded_at: context.encode_time()?,
            ttl: context.ttl()?,
            uid_restriction: context.uid_restriction()?,
        })
    }
}

/// Payloads carry registry passwords, so only their length is shown.
impl std::fmt::Debug for Decoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoded")
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .field("payload", &format_args!("{} bytes", self.payload.len()))
            .field("encoded_at", &self.encoded_at)
            .field("ttl", &self.ttl)
            .field("uid_restriction", &self.uid_restriction)
            .finish()
    }
}

/// Memory that libmunge allocated for us, or NULL.
struct Allocation(*mut c_void);

impl Allocation {
    /// Copies a payload of `length` bytes.
    fn to_bytes(&self, length: c_int) -> Vec<u8> {
        match usize::try_from(length) {
            Ok(length) if !self.0.is_null() => {
                // SAFETY: not NULL, and munge_decode allocated `length` bytes here and initialised them.
                let bytes = unsafe { core::slice::from_raw_parts(self.0.cast::<u8>(), length) };
                bytes.to_vec()
            }
            _ => Vec::new(),
        }
    }

    /// Copies a credential.
    fn to_text(&self) -> Result<String, MungeError> {
        let broken = |text: &str| MungeError::Internal { text: text.to_owned() };
        if self.0.is_null() {
            return Err(broken("it gave no credential"));
        }
        // SAFETY: not NULL, and munge_encode allocated a C string here.
        let text = unsafe { CStr::from_ptr(self.0.cast()) };
        text.to_str().map(str::to_owned).map_err(|_| broken("its credential is not ASCII"))
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: the pointer is NULL or came from malloc(3) in libmunge, which left freeing it to us (munge.h).
        unsafe { c::free(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_never_shows_in_debug_output() {
        let decoded = Decoded {
            uid: 1,
            gid: 2,
            payload: b"user:secret".to_vec(),
            encoded_at: SystemTime::UNIX_EPOCH,
            ttl: Duration::from_secs(60),
            uid_restriction: None,
        };
        let text = format!("{decoded:?}");
        assert!(text.contains("11 bytes") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn a_credential_with_a_nul_byte_is_none() {
        let context = Context::new().unwrap();
        assert_eq!(context.decode("MUNGE:a\0b:"), Err(MungeError::BadCredential));
    }
}
