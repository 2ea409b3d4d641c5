//! The names published beside the images, for when no gateway answers.
//!
//! `<imagePath>/names/` holds a symbolic link for every public reference; its target is the digest. Nothing is
//! followed here: the link is read, and its text must be a digest.

use image_ref::{Digest, ImageRef, NAMES_DIRECTORY, image_file, name_link};
use std::path::Path;

/// The digest that was published under `reference` and whose image is still there.
///
/// `None` where the name is not published (private images' names never are), the link is malformed, or the image
/// file is gone.
pub fn published(image_path: &Path, reference: &ImageRef) -> Option<Digest> {
    let link = image_path.join(NAMES_DIRECTORY).join(name_link(reference)?);
    let target = std::fs::read_link(link).ok()?;
    let digest = Digest::from_hex(target.to_str()?).ok()?;
    image_path.join(image_file(&digest)).is_file().then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_name_is_its_links_target_while_the_image_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let names = directory.path().join(NAMES_DIRECTORY);
        std::fs::create_dir(&names).unwrap();
        let digest = Digest::from_bytes([7; 32]);
        let reference: ImageRef = "docker:host:5000/org/app:v1".parse().unwrap();
        let link = names.join("docker%3Ahost%3A5000%2Forg%2Fapp%3Av1");
        assert_eq!(published(directory.path(), &reference), None);
        symlink(digest.hex().to_string(), &link).unwrap();
        assert_eq!(published(directory.path(), &reference), None, "no image file yet");
        std::fs::write(directory.path().join(image_file(&digest)), "").unwrap();
        assert_eq!(published(directory.path(), &reference), Some(digest));
    }

    #[test]
    fn a_link_to_anything_but_a_digest_is_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let names = directory.path().join(NAMES_DIRECTORY);
        std::fs::create_dir(&names).unwrap();
        for (tag, target) in [("a", "/etc/passwd"), ("b", "../x"), ("c", &"A".repeat(64))] {
            let reference: ImageRef = format!("app:{tag}").parse().unwrap();
            symlink(target, names.join(name_link(&reference).unwrap())).unwrap();
            assert_eq!(published(directory.path(), &reference), None, "{target}");
        }
    }
}
