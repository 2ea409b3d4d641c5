//! The platform an image runs on, as an index names it.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

/// Operating system, architecture and variant (OCI image specification, image index, `platform`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `ppc64le`: the names of the Go language.
    pub architecture: String,
    /// `v8` for arm64, `v3` for amd64; seldom set.
    pub variant: Option<String>,
}

impl Platform {
    /// The platform that this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = if cfg!(target_arch = "aarch64") {
            ("arm64", Some("v8".to_string()))
        } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
            ("ppc64le", None)
        } else if cfg!(target_arch = "riscv64") {
            ("riscv64", None)
        } else {
            ("amd64", None)
        };
        Self { os: "linux".to_string(), architecture: architecture.to_string(), variant }
    }

    /// Tells whether an image for `offered` runs on this platform.
    ///
    /// A variant counts only where both sides name one.
    pub fn accepts(&self, offered: &Platform) -> bool {
        self.os == offered.os
            && self.architecture == offered.architecture
            && match (&self.variant, &offered.variant) {
                (Some(own), Some(other)) => own == other,
                _ => true,
            }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let word = |w: &str| {
            (!w.is_empty()
                && w.len() <= 32
                && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.'))
            .then(|| w.to_string())
            .ok_or(PlatformError)
        };
        let mut parts = text.split('/');
        let os = word(parts.next().unwrap_or_default())?;
        let architecture = word(parts.next().unwrap_or_default())?;
        let variant = parts.next().map(word).transpose()?;
        match parts.next() {
            None => Ok(Self { os, architecture, variant }),
            Some(_) => Err(PlatformError),
        }
    }
}

/// A text is not `os/architecture` or `os/architecture/variant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformError;

impl fmt::Display for PlatformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a platform is written os/architecture, such as linux/amd64 or linux/arm64/v8")
    }
}

impl core::error::Error for PlatformError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_as_docker_writes_them() {
        assert_eq!("linux/arm64/v8".parse::<Platform>().unwrap().to_string(), "linux/arm64/v8");
        assert!("linux".parse::<Platform>().is_err());
        assert!("linux/amd64/v1/x".parse::<Platform>().is_err());
        assert!("linux/".parse::<Platform>().is_err());
        assert!("linux/am d64".parse::<Platform>().is_err());
    }

    #[test]
    fn a_variant_counts_only_where_both_sides_name_one() {
        let plain: Platform = "linux/arm64".parse().unwrap();
        let v8: Platform = "linux/arm64/v8".parse().unwrap();
        let v7: Platform = "linux/arm64/v7".parse().unwrap();
        assert!(plain.accepts(&v8) && v8.accepts(&plain) && !v8.accepts(&v7));
        assert!(!plain.accepts(&"linux/amd64".parse().unwrap()));
    }
}
