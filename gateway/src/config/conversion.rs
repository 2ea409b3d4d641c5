//! `Conversion`: how images are made.
//!
//! Read here into what the converter knows, so that a typing error stops the gateway and not every pull.

use std::fmt;
use std::num::NonZeroU16;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// Gantry: how images are made.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub struct Conversion {
    /// What blocks are compressed with, such as `zstd:2`, the default.
    pub compressor: Compressor,
    /// Bytes of file data in one block; 131072 by default.
    pub block_size: BlockSize,
    /// Whether layers are taken from images that are there instead of being read again. True by default.
    pub reuse: bool,
    /// Threads that compress, for each image that is made; as many as there are processors by default.
    #[serde(deserialize_with = "workers")]
    pub workers: Option<NonZeroU16>,
}

impl Default for Conversion {
    fn default() -> Self {
        Self {
            compressor: Compressor::default(),
            block_size: BlockSize::default(),
            reuse: true,
            workers: None,
        }
    }
}

/// What an image's bytes depend on, as it is recorded with the image: `zstd:2 131072`.
impl fmt::Display for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.compressor, self.block_size.0)
    }
}

/// A compressor and its level.
///
/// The levels are those of the libraries: 1 to 22 of libzstd, 1 to 9 of zlib.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Compressor {
    /// Zstandard.
    Zstd(u8),
    /// gzip, which is a zlib stream in every block.
    Gzip(u8),
}

impl Default for Compressor {
    fn default() -> Self {
        Self::Zstd(2)
    }
}

impl TryFrom<String> for Compressor {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let level = |text: &str, highest: u8| {
            // No sign, no zero in front: one way to write a level.
            let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
            text.parse().ok().filter(|level| plain && (1..=highest).contains(level))
        };
        let found = match text.split_once(':') {
            Some(("zstd", rest)) => level(rest, ZSTD_HIGHEST).map(Self::Zstd),
            Some(("gzip", rest)) => level(rest, GZIP_HIGHEST).map(Self::Gzip),
            _ => None,
        };
        found.ok_or_else(|| {
            format!(
                "Conversion.Compressor is `{}`, not zstd:1 to zstd:{ZSTD_HIGHEST} or gzip:1 to gzip:{GZIP_HIGHEST}",
                text.escape_debug()
            )
        })
    }
}

impl fmt::Display for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zstd(level) => write!(f, "zstd:{level}"),
            Self::Gzip(level) => write!(f, "gzip:{level}"),
        }
    }
}

/// Bytes of file data in one block: a power of two from 4096 to 1048576, as squashfs has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct BlockSize(u32);

impl BlockSize {
    /// The number of bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }
}

impl Default for BlockSize {
    fn default() -> Self {
        Self(128 << 10)
    }
}

impl TryFrom<u64> for BlockSize {
    type Error = String;

    fn try_from(bytes: u64) -> Result<Self, String> {
        let fits = |bytes: &u32| bytes.is_power_of_two() && (SMALLEST..=LARGEST).contains(bytes);
        u32::try_from(bytes).ok().filter(fits).map(Self).ok_or_else(|| {
            format!(
                "Conversion.BlockSize is {bytes}, not a power of two from {SMALLEST} to {LARGEST}"
            )
        })
    }
}

fn workers<'de, D: Deserializer<'de>>(source: D) -> Result<Option<NonZeroU16>, D::Error> {
    let number = u16::deserialize(source).ok().and_then(NonZeroU16::new);
    let number = number.filter(|number| number.get() <= WORKERS_LIMIT);
    let why =
        || D::Error::custom(format!("Conversion.Workers is no number from 1 to {WORKERS_LIMIT}"));
    number.ok_or_else(why).map(Some)
}

const WORKERS_LIMIT: u16 = 1024;
const ZSTD_HIGHEST: u8 = 22;
const GZIP_HIGHEST: u8 = 9;
const SMALLEST: u32 = 4 << 10;
const LARGEST: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Conversion, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let default = parse("{}").unwrap();
        assert!(default.reuse && default.workers.is_none());
        assert_eq!(default.to_string(), "zstd:2 131072");
        let whole =
            r#"{ "Compressor": "gzip:9", "BlockSize": 4096, "Reuse": false, "Workers": 3 }"#;
        let whole = parse(whole).unwrap();
        assert_eq!((whole.to_string().as_str(), whole.reuse), ("gzip:9 4096", false));
        assert_eq!(whole.workers, NonZeroU16::new(3));
    }

    #[test]
    fn a_value_that_no_converter_has_is_refused_with_its_key() {
        for bad in
            ["", "zstd", "zstd:", "zstd:0", "zstd:23", "zstd:03", "zstd:+3", "zstd:-1", "gzip:10"]
        {
            let error = parse(&format!(r#"{{ "Compressor": "{bad}" }}"#)).unwrap_err();
            assert!(error.contains("Conversion.Compressor is"), "{bad}: {error}");
        }
        for bad in ["ZSTD:3", "xz:6", "zstd:3 ", "zstd:3:1", "lz4"] {
            assert!(parse(&format!(r#"{{ "Compressor": "{bad}" }}"#)).is_err(), "{bad}");
        }
        for bad in
            ["0", "1", "4095", "2048", "131073", "2097152", "4294967296", "18446744073709551615"]
        {
            let error = parse(&format!(r#"{{ "BlockSize": {bad} }}"#)).unwrap_err();
            assert!(error.contains("Conversion.BlockSize is"), "{bad}: {error}");
        }
        for bad in ["0", "1025", "65537", "-1", "\"4\""] {
            let error = parse(&format!(r#"{{ "Workers": {bad} }}"#)).unwrap_err();
            assert!(error.contains("Conversion.Workers is"), "{bad}: {error}");
        }
        for bad in [r#""Reuse": "yes""#, r#""Level": 3"#] {
            assert!(parse(&format!("{{ {bad} }}")).is_err(), "{bad}");
        }
    }
}
