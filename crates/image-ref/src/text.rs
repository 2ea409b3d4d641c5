//! Digests as text, `sha256:` in front: how documents, people and programs other than the set-user-id one write them.

use crate::Digest;
use core::fmt;
use core::str::FromStr;

impl Digest {
    /// Parses 64 lower-case hexadecimal digits without the algorithm in front.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        Self::from_digits(hex.as_bytes()).ok_or(match hex.len() {
            64 => DigestError::Digit,
            length => DigestError::Length(length),
        })
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text.split_once(':') {
            Some(("sha256", hex)) => Self::from_hex(hex),
            Some(_) => Err(DigestError::Algorithm),
            None => Err(DigestError::NoAlgorithm),
        }
    }
}

/// Why a text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestError {
    /// There is no `:` between algorithm and digits.
    NoAlgorithm,
    /// The algorithm is not `sha256`.
    Algorithm,
    /// There are not exactly 64 digits but this many bytes.
    Length(usize),
    /// A character is not a lower-case hexadecimal digit.
    Digit,
}

impl fmt::Display for DigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAlgorithm => f.write_str("a digest starts with `sha256:`"),
            Self::Algorithm => f.write_str("only sha256 digests are accepted"),
            Self::Length(found) => write!(f, "a sha256 digest has 64 digits, not {found}"),
            Self::Digit => f.write_str("a digest has lower-case hexadecimal digits only"),
        }
    }
}

impl core::error::Error for DigestError {}

#[cfg(feature = "serde")]
mod serde_impl {
    use super::Digest;
    use alloc::borrow::Cow;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    impl Serialize for Digest {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    impl<'de> Deserialize<'de> for Digest {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    #[test]
    fn a_digest_survives_being_written_and_read() {
        let text = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let digest: Digest = text.parse().unwrap();
        assert_eq!(digest.to_string(), text);
        assert_eq!(Digest::from_hex(&digest.hex().to_string()), Ok(digest));
    }

    #[test]
    fn what_is_not_a_sha256_digest_is_refused_with_the_reason() {
        let hex = "a".repeat(64);
        for (text, error) in [
            ("", DigestError::NoAlgorithm),
            (hex.as_str(), DigestError::NoAlgorithm),
            (&format!("md5:{hex}"), DigestError::Algorithm),
            (&format!("SHA256:{hex}"), DigestError::Algorithm),
            ("sha256:", DigestError::Length(0)),
            (&format!("sha256:{hex}a"), DigestError::Length(65)),
            (&format!("sha256:{}", "A".repeat(64)), DigestError::Digit),
            (&format!("sha256:../{}", "a".repeat(61)), DigestError::Digit),
            (&format!("sha256:{}é", "a".repeat(62)), DigestError::Digit),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        }
    }
}
