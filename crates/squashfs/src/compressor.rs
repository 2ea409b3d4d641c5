//! Which compressor an image uses, at which level.

use std::fmt;
use std::str::FromStr;

/// A compressor and its level, always one that exists.
///
/// Written `zstd:2` or `gzip:6`. Level 2 of zstd is the default: level 3 takes a tenth more of a conversion's time for 2 %
/// of size, higher ones many times it for a few percent, and gzip costs readers about three times the decompression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Compressor {
    method: Method,
    level: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Method {
    Gzip,
    Zstd,
}

impl Compressor {
    /// Chooses zstd at a level from 1 to 22.
    pub fn zstd(level: u8) -> Result<Self, CompressorError> {
        Self::checked(Method::Zstd, level, 22)
    }

    /// Chooses gzip (a zlib stream per block) at a level from 1 to 9.
    pub fn gzip(level: u8) -> Result<Self, CompressorError> {
        Self::checked(Method::Gzip, level, 9)
    }

    fn checked(method: Method, level: u8, highest: u8) -> Result<Self, CompressorError> {
        if (1..=highest).contains(&level) {
            Ok(Self { method, level })
        } else {
            Err(CompressorError::Level { level: level.into(), highest })
        }
    }

    /// Names the library that compresses, with its version where its output may differ between versions.
    pub fn library(self) -> String {
        match self.method {
            Method::Gzip => "zlib-rs".to_owned(),
            Method::Zstd => format!("zstd {}", zstd::zstd_safe::version_string()),
        }
    }

    pub(crate) fn method(self) -> Method {
        self.method
    }

    pub(crate) fn level(self) -> u8 {
        self.level
    }

    /// The number of the compressor in the superblock.
    pub(crate) fn id(self) -> u16 {
        match self.method {
            Method::Gzip => 1,
            Method::Zstd => 6,
        }
    }

    /// The compressor options as squashfs-tools writes them, so that `unsquashfs -s` shows the level.
    pub(crate) fn options(self) -> Vec<u8> {
        let mut options = u32::from(self.level).to_le_bytes().to_vec();
        if self.method == Method::Gzip {
            options.extend_from_slice(&15_u16.to_le_bytes()); // window bits
            options.extend_from_slice(&0_u16.to_le_bytes()); // default strategy
        }
        options
    }
}

impl Default for Compressor {
    fn default() -> Self {
        Self { method: Method::Zstd, level: 2 }
    }
}

impl fmt::Display for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.method {
            Method::Gzip => "gzip",
            Method::Zstd => "zstd",
        };
        write!(f, "{name}:{}", self.level)
    }
}

impl FromStr for Compressor {
    type Err = CompressorError;

    fn from_str(text: &str) -> Result<Self, CompressorError> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let level = match level {
            Some(digits) => {
                Some(digits.parse::<u8>().map_err(|_| CompressorError::Number(digits.to_owned()))?)
            }
            None => None,
        };
        match name {
            "zstd" => Self::zstd(level.unwrap_or(2)),
            "gzip" => Self::gzip(level.unwrap_or(6)),
            _ => Err(CompressorError::Name(name.to_owned())),
        }
    }
}

/// Why a text does not name a compressor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressorError {
    /// The name is neither `zstd` nor `gzip`.
    #[error("there is no compressor `{0}`: use zstd or gzip")]
    Name(String),
    /// What follows the colon is not a number.
    #[error("`{0}` is not a compression level")]
    Number(String),
    /// The level is out of range.
    #[error("the compression level {level} is not between 1 and {highest}")]
    Level {
        /// What was asked for.
        level: u32,
        /// The highest one that this compressor has.
        highest: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressor_survives_being_written_and_read() {
        for text in ["zstd:1", "zstd:3", "zstd:22", "gzip:9"] {
            assert_eq!(text.parse::<Compressor>().unwrap().to_string(), text);
        }
        assert_eq!("zstd".parse(), Ok(Compressor::default()));
    }

    #[test]
    fn levels_and_names_that_do_not_exist_are_refused() {
        for text in ["zstd:0", "zstd:23", "gzip:10", "gzip:", "zstd:-1", "lzo", "", "zstd:300"] {
            assert!(text.parse::<Compressor>().is_err(), "{text}");
        }
    }
}
