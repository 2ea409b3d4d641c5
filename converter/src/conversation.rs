//! What the converter says to the gateway and asks of it, from all its threads.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use converter_api::{Answer, Channel, ChannelError, Reply, Request};

/// The converter's side of the socket.
#[derive(Debug)]
pub(crate) struct Conversation {
    channel: Channel,
    /// Held from a question to its answer.
    asking: Mutex<()>,
}

impl Conversation {
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel, asking: Mutex::new(()) }
    }

    /// Waits for the first message; `None` where the gateway went away without one.
    pub(crate) fn first(&self) -> Result<Option<(Request, Vec<OwnedFd>)>, ChannelError> {
        self.channel.receive()
    }

    /// Says something that is not answered.
    pub(crate) fn tell(&self, reply: &Reply) -> Result<(), ChannelError> {
        self.channel.send(reply, &[])
    }

    /// Asks for the blob of a layer, which ends early where the download does.
    ///
    /// # Errors
    /// Where the gateway is gone or answers something else.
    pub(crate) fn open_layer(&self, layer: usize) -> io::Result<File> {
        match self.ask(&Reply::Open { layer })? {
            (Answer::Layer { layer: given }, mut pipe) if given == layer => {
                pipe.pop().map(File::from).ok_or_else(other_answer)
            }
            _ => Err(other_answer()),
        }
    }

    /// Says something that the gateway answers, and waits for the answer.
    ///
    /// # Errors
    /// Where the gateway is gone or does not keep to the protocol.
    pub(crate) fn ask(&self, reply: &Reply) -> io::Result<(Answer, Vec<OwnedFd>)> {
        let _turn = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        self.channel.send(reply, &[]).map_err(io::Error::other)?;
        let answer = self.channel.receive().map_err(io::Error::other)?;
        answer.ok_or_else(|| io::Error::other("the gateway went away"))
    }
}

fn other_answer() -> io::Error {
    io::Error::other("the gateway answered something else than was asked")
}
