//! The sidecar `<digest>.gantry`: what the runtime must know of an image beside its bytes.
//!
//! Eight bytes of magic, then records of a four-byte key, a 32-bit little-endian length and that many bytes, then
//! the record `LAST`. Values are never parsed for structure, so no environment variable of a hostile image can
//! pretend to be an access list (Shifter's line format allows just that). Unknown, missing or repeated records and
//! trailing bytes are errors: whoever reads a sidecar that it does not understand must refuse the image.

use crate::Digest;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The largest sidecar that is read or written, in bytes.
pub const SIDECAR_LIMIT: usize = 1 << 20;

pub(crate) const MAGIC: &[u8; 8] = b"GANTRY\x01\n";

/// What is published beside an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// The digest the image is published under.
    pub digest: Digest,
    /// The user who pulled or imported it; may always use it.
    pub owner: u32,
    /// Who else may use it.
    pub access: Access,
    /// The image's environment, each `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// The image's entrypoint; empty where it has none.
    pub entrypoint: Vec<Vec<u8>>,
    /// The image's default command; empty where it has none.
    pub cmd: Vec<Vec<u8>>,
    /// The image's working directory; empty where it has none.
    pub workdir: Vec<u8>,
    /// `os/architecture` of the image.
    pub platform: String,
    /// What made the file: program, version and the options that decide its bytes.
    pub made_by: String,
}

/// Who may use an image beside its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every user of the platform.
    Public,
    /// These users and the members of these groups; with both lists empty, nobody.
    Listed {
        /// User ids.
        uids: Vec<u32>,
        /// Group ids.
        gids: Vec<u32>,
    },
}

impl Sidecar {
    /// Tells whether a user with these ids may use the image.
    ///
    /// `gids` holds the primary and the supplementary groups as the kernel has them.
    pub fn admits(&self, uid: u32, gids: &[u32]) -> bool {
        match &self.access {
            Access::Public => true,
            Access::Listed { uids, gids: listed } => {
                uid == self.owner
                    || uids.contains(&uid)
                    || gids.iter().any(|gid| listed.contains(gid))
            }
        }
    }

    /// Decodes a sidecar.
    ///
    /// # Errors
    /// Any deviation from the format: see [`SidecarError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SidecarError> {
        let mut records = Records::split(bytes)?;
        let public = records.perhaps(b"PUBL", |value| value.is_empty().then_some(()))?;
        let uids = records.perhaps(b"UIDS", numbers)?;
        let access = match (public, uids, records.perhaps(b"GIDS", numbers)?) {
            (Some(()), None, None) => Access::Public,
            (None, Some(uids), Some(gids)) => Access::Listed { uids, gids },
            _ => return Err(SidecarError::Missing(*b"PUBL")),
        };
        let sidecar = Self {
            digest: records.one(b"DIGE", |value| value.try_into().ok().map(Digest::from_bytes))?,
            owner: records.one(b"OWNR", |value| value.try_into().ok().map(u32::from_le_bytes))?,
            access,
            env: records.all(b"ENVI", c_text)?,
            entrypoint: records.all(b"ENTR", c_text)?,
            cmd: records.all(b"CMDA", c_text)?,
            workdir: records.one(b"WDIR", c_text)?,
            platform: records.one(b"PLAT", utf8)?,
            made_by: records.one(b"MADE", utf8)?,
        };
        match records.0.first() {
            Some((key, _)) => Err(SidecarError::UnknownKey(*key)),
            None => Ok(sidecar),
        }
    }
}

/// The records that nobody took yet.
struct Records<'a>(Vec<([u8; 4], &'a [u8])>);

impl<'a> Records<'a> {
    fn split(bytes: &'a [u8]) -> Result<Self, SidecarError> {
        if bytes.len() > SIDECAR_LIMIT {
            return Err(SidecarError::TooLarge);
        }
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(SidecarError::Magic)?;
        let mut records = Self(Vec::new());
        loop {
            let (key, behind) = rest.split_first_chunk().ok_or(SidecarError::Truncated)?;
            let (length, behind) = behind.split_first_chunk().ok_or(SidecarError::Truncated)?;
            let length = u32::from_le_bytes(*length) as usize;
            let (value, behind) = behind.split_at_checked(length).ok_or(SidecarError::Truncated)?;
            match (key, value, behind) {
                (b"LAST", [], []) => return Ok(records),
                (b"LAST", ..) => return Err(SidecarError::Trailing),
                _ => records.0.push((*key, value)),
            }
            rest = behind;
        }
    }

    /// Takes the records of this key, in their order.
    fn all<T>(&mut self, key: &[u8; 4], parse: Parse<T>) -> Result<Vec<T>, SidecarError> {
        let taken = self.0.extract_if(.., |(other, _)| other == key);
        taken.map(|(key, value)| parse(value).ok_or(SidecarError::Value(key))).collect()
    }

    fn perhaps<T>(&mut self, key: &[u8; 4], parse: Parse<T>) -> Result<Option<T>, SidecarError> {
        let mut values = self.all(key, parse)?;
        if values.len() > 1 { Err(SidecarError::Repeated(*key)) } else { Ok(values.pop()) }
    }

    fn one<T>(&mut self, key: &[u8; 4], parse: Parse<T>) -> Result<T, SidecarError> {
        self.perhaps(key, parse)?.ok_or(SidecarError::Missing(*key))
    }
}

/// What makes of a value what it stands for, where it can.
type Parse<T> = fn(&[u8]) -> Option<T>;

/// Values end up as C strings in `execve(2)`: a NUL byte would cut them short.
fn c_text(value: &[u8]) -> Option<Vec<u8>> {
    (!value.contains(&0)).then(|| value.to_vec())
}

fn utf8(value: &[u8]) -> Option<String> {
    core::str::from_utf8(value).ok().map(String::from)
}

fn numbers(value: &[u8]) -> Option<Vec<u32>> {
    let (chunks, rest) = value.as_chunks();
    rest.is_empty().then(|| chunks.iter().map(|chunk| u32::from_le_bytes(*chunk)).collect())
}

/// Why bytes are not a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SidecarError {
    /// The file does not start with the magic of this version.
    Magic,
    /// The file ends inside a record or without `LAST`.
    Truncated,
    /// Bytes follow `LAST`.
    Trailing,
    /// The file exceeds [`SIDECAR_LIMIT`].
    TooLarge,
    /// A record that this version does not know.
    UnknownKey([u8; 4]),
    /// A record that may be there once is there twice.
    Repeated([u8; 4]),
    /// A record that must be there is not.
    Missing([u8; 4]),
    /// A record's value has the wrong length or content.
    Value([u8; 4]),
}

impl fmt::Display for SidecarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("it is not a sidecar of this version"),
            Self::Truncated => f.write_str("it is cut short"),
            Self::Trailing => f.write_str("it has bytes behind its end"),
            Self::TooLarge => write!(f, "it exceeds {SIDECAR_LIMIT} bytes"),
            Self::UnknownKey(key) => write!(f, "record {} is unknown", key.escape_ascii()),
            Self::Repeated(key) => write!(f, "record {} is there twice", key.escape_ascii()),
            Self::Missing(key) => write!(f, "record {} is missing", key.escape_ascii()),
            Self::Value(key) => write!(f, "record {} has a bad value", key.escape_ascii()),
        }
    }
}

impl core::error::Error for SidecarError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn sample(access: Access) -> Sidecar {
        Sidecar {
            digest: Digest::from_bytes([7; 32]),
            owner: 1000,
            access,
            env: vec![b"A=1\nUSERACL: 0".to_vec(), b"PATH=/bin".to_vec()],
            entrypoint: vec![b"/bin/sh".to_vec(), b"it's".to_vec()],
            cmd: vec![],
            workdir: b"/w".to_vec(),
            platform: "linux/amd64".into(),
            made_by: "gantry 0.1.0 zstd:3 131072".into(),
        }
    }

    fn listed(uids: &[u32], gids: &[u32]) -> Access {
        Access::Listed { uids: uids.to_vec(), gids: gids.to_vec() }
    }

    #[test]
    fn a_sidecar_survives_being_written_and_read() {
        for access in [Access::Public, listed(&[], &[]), listed(&[1, 2], &[3])] {
            let sidecar = sample(access);
            assert_eq!(Sidecar::decode(&sidecar.encode().unwrap()), Ok(sidecar));
        }
    }

    #[test]
    fn access_is_the_owner_the_listed_and_otherwise_nobody() {
        let private = sample(listed(&[], &[]));
        assert!(private.admits(1000, &[]) && !private.admits(1001, &[1001]));
        let shared = sample(listed(&[1001], &[50]));
        assert!(shared.admits(1001, &[]) && shared.admits(2000, &[2000, 50]));
        assert!(!shared.admits(2000, &[2000]) && !shared.admits(0, &[0]));
        assert!(sample(Access::Public).admits(4, &[]));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = sample(listed(&[1], &[2])).encode().unwrap();
        for end in 0..bytes.len() {
            assert!(Sidecar::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn unknown_repeated_missing_and_trailing_records_are_refused() {
        let good = sample(Access::Public).encode().unwrap();
        let with = |record: &[u8]| {
            let mut bytes = good[..8].to_vec();
            bytes.extend_from_slice(record);
            bytes.extend_from_slice(&good[8..]);
            Sidecar::decode(&bytes)
        };
        assert_eq!(with(b"WHAT\0\0\0\0"), Err(SidecarError::UnknownKey(*b"WHAT")));
        assert_eq!(with(b"OWNR\x04\0\0\0\0\0\0\0"), Err(SidecarError::Repeated(*b"OWNR")));
        assert_eq!(with(b"ENVI\x02\0\0\0A\0"), Err(SidecarError::Value(*b"ENVI")));
        assert_eq!(with(b"UIDS\x04\0\0\0\x01\0\0\0"), Err(SidecarError::Missing(*b"PUBL")));
        let mut longer = good.clone();
        longer.push(0);
        assert_eq!(Sidecar::decode(&longer), Err(SidecarError::Trailing));
        assert_eq!(
            Sidecar::decode(b"GANTRY\x01\nLAST\0\0\0\0"),
            Err(SidecarError::Missing(*b"PUBL"))
        );
        assert_eq!(Sidecar::decode(b"GANTRY\x02\n"), Err(SidecarError::Magic));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Sidecar::decode(&bytes);
            bytes.splice(0..0, MAGIC.iter().copied());
            let _ = Sidecar::decode(&bytes);
        }

        #[test]
        fn a_flipped_byte_never_panics(at in 0usize..300, flip in 1u8..) {
            let mut bytes = sample(listed(&[1], &[2])).encode().unwrap();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            let _ = Sidecar::decode(&bytes);
        }
    }
}
