//! SHA-256 digests: the only name an image has once it was resolved.

use core::fmt;

/// The SHA-256 of some content, such as a manifest, a layer or a configuration.
///
/// Written `sha256:` and 64 lower-case hexadecimal digits (OCI image specification, descriptor, "Digests").
/// Other algorithms are refused: an allow-list of one cannot be talked into a weak one (CVE-2022-39237), and a
/// digest that is checked here is safe as a file name (CVE-2024-3727).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Wraps the 32 bytes that a SHA-256 computation ended with.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses 64 lower-case hexadecimal digits without the algorithm in front.
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let digits = hex.as_bytes();
        if digits.len() != 64 {
            return Err(DigestError::Length(digits.len()));
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = match pair {
                [high, low] => nibble(*high)? << 4 | nibble(*low)?,
                _ => return Err(DigestError::Length(digits.len())),
            };
        }
        Ok(Self(bytes))
    }

    /// The 64 hexadecimal digits alone, as Shifter writes image ids and as files are named.
    pub const fn hex(&self) -> Hex<'_> {
        Hex(self)
    }
}

fn nibble(digit: u8) -> Result<u8, DigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(DigestError::Digit),
    }
}

/// Displays a digest as bare hexadecimal digits.
#[derive(Clone, Copy)]
pub struct Hex<'a>(&'a Digest);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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
