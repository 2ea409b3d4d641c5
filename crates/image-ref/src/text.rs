//! Digests as text, `sha256:` in front: how documents, people and programs other than the set-user-id one write them.

use crate::{Digest, DigestError};
use core::str::FromStr;

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
