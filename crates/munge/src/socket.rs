//! A quick look whether somebody listens on munged's socket.
//!
//! libmunge itself tries a refusing socket for 2.25 seconds before it gives up (10 connects with growing pauses,
//! measured with 0.5.15); a request to a gateway whose munged died should not take that long.
#![forbid(unsafe_code)]

use crate::{MungeError, bindings::EPROTOTYPE};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Makes sure that a stream socket is open behind `path`, without disturbing who listens there.
///
/// Connects with a datagram socket, which the kernel refuses with `EPROTOTYPE` exactly where a process holds a stream
/// socket (unix(7)). A stream connection would do too, but munged logs each one on which no request follows.
/// What passes may still hang: a stopped munged costs libmunge's own time limit, 10 seconds.
///
/// # Errors
/// [`MungeError::Socket`] where nothing listens, nothing is there, or the directory cannot be searched.
pub(crate) fn ensure_listener(path: &Path) -> Result<(), MungeError> {
    let probe = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    match probe {
        Err(error) if error.raw_os_error() == i32::try_from(EPROTOTYPE).ok() => Ok(()),
        // A datagram socket is not munged's either, but libmunge knows best how to say so.
        Ok(()) => Ok(()),
        Err(error) => Err(MungeError::Socket { path: path.to_owned(), text: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_listener_is_seen_and_its_absence_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let text = ensure_listener(&path).unwrap_err().to_string();
        assert!(text.contains(path.to_str().unwrap()) && text.contains("No such file"), "{text}");

        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(ensure_listener(&path), Ok(()));
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "the listener was disturbed");

        drop(listener);
        let text = ensure_listener(&path).unwrap_err().to_string();
        assert!(text.contains("Connection refused"), "{text}");
    }
}
