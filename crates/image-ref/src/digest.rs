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
    pub fn from_digits(digits: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        let (pairs, []) = digits.as_chunks() else { return None };
        if pairs.len() != bytes.len() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Some(Self(bytes))
    }

    /// The 64 hexadecimal digits alone, as Shifter writes image ids and as files are named.
    pub const fn hex(&self) -> Hex<'_> {
        Hex(self)
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
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
