//! A socket that carries one message at a time, with its descriptors.
//!
//! SEQPACKET keeps messages apart and in order and says when the other end is gone (unix(7)). A message that is not
//! understood is an error, and the descriptors that came with it are closed.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::message::{MAX_SOURCES, Message};

/// One end of the conversation; blocks while it sends and receives.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Makes both ends, neither of which is inherited by programs that are run.
    ///
    /// # Errors
    /// socketpair(2)'s.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // A whole message has to fit, whatever the machine's default is.
        for end in [&one, &other] {
            rustix::net::sockopt::set_socket_send_buffer_size(end, 4 * MESSAGE_LIMIT)?;
        }
        Ok((Self(one), Self(other)))
    }

    /// Sends a message with its descriptors, which stay the caller's.
    ///
    /// # Errors
    /// [`ChannelError`]; broken pipe as [`ChannelError::Socket`] where the other end is gone.
    pub fn send<T: Message>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        check_count(message.descriptors(), descriptors.len())?;
        let bytes = serde_json::to_vec(message).map_err(ChannelError::Malformed)?;
        if bytes.len() > MESSAGE_LIMIT {
            return Err(ChannelError::TooLong);
        }
        let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(ChannelError::TooManyDescriptors);
        }
        loop {
            let data = [IoSlice::new(&bytes)];
            match rustix::net::sendmsg(&self.0, &data, &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(socket("send", error)),
            }
        }
    }

    /// Waits for a message and its descriptors; `None` once the other end is gone.
    ///
    /// # Errors
    /// [`ChannelError`]; the descriptors that came with what was refused are closed.
    pub fn receive<T: Message>(&self) -> Result<Option<(T, Vec<OwnedFd>)>, ChannelError> {
        let mut bytes = vec![0; MESSAGE_LIMIT];
        let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut data = [IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(&self.0, &mut data, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            {
                Ok(received) => break received,
                // Reset is said once, where the other end went without reading all; what it sent before is still there.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(error) => return Err(socket("receive", error)),
            }
        };
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(ChannelError::TooLong);
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(ChannelError::TooManyDescriptors);
        }
        let message: T = parse(bytes.get(..received.bytes).unwrap_or_default())?;
        check_count(message.descriptors(), descriptors.len())?;
        Ok(Some((message, descriptors)))
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads a message from its bytes alone.
///
/// # Errors
/// [`ChannelError::Malformed`].
pub fn parse<T: Message>(bytes: &[u8]) -> Result<T, ChannelError> {
    serde_json::from_slice(bytes).map_err(ChannelError::Malformed)
}

fn check_count(expected: usize, found: usize) -> Result<(), ChannelError> {
    if found > MAX_DESCRIPTORS {
        return Err(ChannelError::TooManyDescriptors);
    }
    if expected == found { Ok(()) } else { Err(ChannelError::Descriptors { expected, found }) }
}

fn socket(operation: &'static str, error: Errno) -> ChannelError {
    ChannelError::Socket { operation, source: error.into() }
}

/// The most bytes of a message.
///
/// Linux refuses packets above the socket's send buffer, 208 KiB by default.
pub const MESSAGE_LIMIT: usize = 192 << 10;

const MAX_DESCRIPTORS: usize = MAX_SOURCES + 1;
const ANCILLARY_BYTES: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));

/// Why a message did not come across.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The socket failed.
    #[error("cannot {operation} a message")]
    Socket {
        /// `send` or `receive`.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The message has more bytes than [`MESSAGE_LIMIT`].
    #[error("a message is longer than {MESSAGE_LIMIT} bytes")]
    TooLong,
    /// More descriptors came than any message has.
    #[error("a message comes with more than {MAX_DESCRIPTORS} descriptors")]
    TooManyDescriptors,
    /// Not the descriptors that belong to the message.
    #[error("a message comes with {found} descriptors instead of {expected}")]
    Descriptors {
        /// What belongs to it.
        expected: usize,
        /// What came.
        found: usize,
    },
    /// The bytes are no message.
    #[error("a message is malformed")]
    Malformed(#[source] serde_json::Error),
}

#[cfg(test)]
mod tests;
