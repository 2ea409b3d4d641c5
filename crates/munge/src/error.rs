//! What can go wrong between us and munged, one variant for each error of munge.h.
#![forbid(unsafe_code)]

use std::path::PathBuf;

/// Why a credential could not be made or was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MungeError {
    /// There is no munged behind the socket, or it does not answer.
    #[error("cannot talk to munged on {}: {text}", path.display())]
    Socket {
        /// The socket that was tried.
        path: PathBuf,
        /// What the kernel or libmunge says.
        text: String,
    },
    /// The credential is older than its time to live.
    #[error("the MUNGE credential has expired")]
    Expired,
    /// The credential claims to be made in the future: the clocks of two hosts differ.
    #[error("the MUNGE credential is from the future: the clocks of the hosts differ")]
    Rewound,
    /// The credential was already decoded on this host.
    #[error("the MUNGE credential was already used")]
    Replayed,
    /// The credential is restricted to another user or group.
    #[error("the MUNGE credential is meant for another user to decode")]
    Unauthorized,
    /// The credential was tampered with, or made with another key.
    #[error("the MUNGE credential was not made with this cluster's key")]
    Invalid,
    /// The text is not a credential.
    #[error("this is not a MUNGE credential")]
    BadCredential,
    /// The credential has a format version that munged does not know.
    #[error("the MUNGE credential has an unknown version")]
    BadVersion,
    /// The credential is encrypted in a way that munged does not support.
    #[error("the MUNGE credential has an unsupported cipher")]
    BadCipher,
    /// The credential is authenticated in a way that munged does not support.
    #[error("the MUNGE credential has an unsupported message authentication code")]
    BadMac,
    /// The credential is compressed in a way that munged does not support.
    #[error("the MUNGE credential has an unsupported compression")]
    BadZip,
    /// The credential is from a security realm that munged does not know.
    #[error("the MUNGE credential is from an unknown security realm")]
    BadRealm,
    /// Payload or credential exceed what munged accepts: 1 MiB with its packing.
    #[error("the payload is too long for a MUNGE credential")]
    BadLength,
    /// An argument that libmunge cannot take.
    #[error("not a valid setting for MUNGE: {0}")]
    BadArgument(&'static str),
    /// A buffer of libmunge or munged was too small.
    #[error("a buffer of munged was too small")]
    Overflow,
    /// There is no memory left, here or in munged.
    #[error("out of memory while talking to munged")]
    Memory,
    /// munged or libmunge failed.
    #[error("munged failed: {text}")]
    Internal {
        /// What it says.
        text: String,
    },
    /// An error that this version of Gantry does not know.
    #[error("MUNGE error {code}: {text}")]
    Other {
        /// The number in munge.h.
        code: u32,
        /// What libmunge says.
        text: String,
    },
}

impl MungeError {
    /// Tells whether the credential is at fault, rather than munged or the way to it.
    ///
    /// The one is answered with "who are you?", the other with "try again later".
    pub fn is_about_credential(&self) -> bool {
        match self {
            Self::Expired
            | Self::Rewound
            | Self::Replayed
            | Self::Unauthorized
            | Self::Invalid
            | Self::BadCredential
            | Self::BadVersion
            | Self::BadCipher
            | Self::BadMac
            | Self::BadZip
            | Self::BadRealm
            | Self::BadLength => true,
            Self::Socket { .. }
            | Self::BadArgument(_)
            | Self::Overflow
            | Self::Memory
            | Self::Internal { .. }
            | Self::Other { .. } => false,
        }
    }
}
