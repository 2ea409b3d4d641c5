//! What lies in the image directory beside images and sidecars.
//!
//! Beside every `<digest>.squashfs` lie its sidecar and Shifter's `.meta`. Names of public images are published
//! too, as symbolic links `names/<escaped reference>` whose target is the digest in hexadecimal digits, so that a
//! name can be looked up on a node while the gateway is away.

use crate::{Digest, ImageRef};
use alloc::format;
use alloc::string::String;
use core::fmt::Write;

/// The directory of name links below the image directory.
pub const NAMES_DIRECTORY: &str = "names";

/// The file name of the metadata that Shifter's own runtime reads.
pub fn meta_file(digest: &Digest) -> String {
    format!("{}.meta", digest.hex())
}

/// The file name of the link, below [`NAMES_DIRECTORY`], that stands for `reference`.
///
/// Letters, digits, `.`, `_` and `-` stand for themselves, every other byte is written `%XX`: no two references
/// share a name, and none can point out of the directory. `None` where the name would be longer than the 255
/// bytes that file systems allow.
pub fn name_link(reference: &ImageRef) -> Option<String> {
    let text = format!("{reference}");
    let mut name = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => name.push(byte as char),
            _ => write!(name, "%{byte:02X}").ok()?,
        }
    }
    (name.len() <= 255).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_link_is_one_plain_file_name() {
        let reference: ImageRef = "docker:localhost:5000/org/app:v1".parse().unwrap();
        assert_eq!(
            name_link(&reference).as_deref(),
            Some("docker%3Alocalhost%3A5000%2Forg%2Fapp%3Av1")
        );
    }

    #[test]
    fn a_reference_too_long_for_a_file_name_has_no_link() {
        let reference: ImageRef = format!("docker:{}:v1", ["a"; 120].join("/")).parse().unwrap();
        assert_eq!(name_link(&reference), None);
    }
}
