//! Tests of the image directory.

use super::*;

fn sidecar(number: u8, access: Access) -> Sidecar {
    Sidecar {
        digest: Digest::from_bytes([number; 32]),
        owner: 1000,
        access,
        env: vec![],
        entrypoint: vec![],
        cmd: vec![],
        workdir: vec![],
        platform: "linux/amd64".into(),
        made_by: "test".into(),
    }
}

fn publish(dir: &ImageDir, sidecar: &Sidecar) {
    let partial = dir.partial().unwrap();
    partial.file().write_all(b"image").unwrap();
    dir.publish(&partial, sidecar).unwrap();
}

fn modes(dir: &ImageDir, digest: &Digest) -> Vec<u32> {
    [image_file(digest), sidecar_file(digest), meta_file(digest)]
        .iter()
        .map(|name| dir.path().join(name).metadata().unwrap().mode() & 0o7777)
        .collect()
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_image_is_published_whole_and_removed_whole() {
    let root = tempfile::tempdir().unwrap();
    let dir = ImageDir::open(root.path()).unwrap();
    let public = sidecar(1, Access::Public);
    assert!(!dir.holds(&public.digest, 5).unwrap());
    publish(&dir, &public);
    assert!(dir.holds(&public.digest, 5).unwrap());
    assert!(!dir.holds(&public.digest, 6).unwrap(), "cut short");
    assert_eq!(modes(&dir, &public.digest), [0o444; 3]);
    let read = std::fs::read(root.path().join(sidecar_file(&public.digest))).unwrap();
    assert_eq!(Sidecar::decode(&read), Ok(public.clone()));
    assert_eq!(names(&root.path().join(PARTIAL_DIRECTORY)), [""; 0]);
    dir.remove(&public.digest).unwrap();
    dir.remove(&public.digest).unwrap();
    assert_eq!(names(root.path()), [PARTIAL_DIRECTORY, NAMES_DIRECTORY]);
}

#[test]
fn a_published_image_is_opened_only_where_it_is_the_file_that_was_published() {
    let root = tempfile::tempdir().unwrap();
    let dir = ImageDir::open(root.path()).unwrap();
    let public = sidecar(1, Access::Public);
    let path = root.path().join(image_file(&public.digest));
    let opens = |size| dir.open_image(&public.digest, size).map(|file| file.is_some());
    assert!(!opens(5).unwrap(), "not there");
    publish(&dir, &public);
    let mut file = dir.open_image(&public.digest, 5).unwrap().unwrap();
    assert!(!opens(6).unwrap(), "cut short");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
    let set = OpenOptions::new().write(true).open(&path).unwrap().set_modified(later);
    assert!(set.is_ok() && !opens(5).unwrap(), "written to");
    dir.remove(&public.digest).unwrap();
    let mut read = String::new();
    std::io::Read::read_to_string(&mut file, &mut read).unwrap();
    assert_eq!(read, "image", "who has it open keeps it");
    assert!(file.write_all(b"x").is_err(), "to be read alone");
    symlink("/etc/hostname", &path).unwrap();
    assert!(opens(5).is_err(), "a link is followed nowhere");
    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(!opens(0).unwrap(), "nobody waits for a pipe");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(!opens(5).unwrap());
}

#[test]
fn only_the_owner_reads_the_files_of_a_private_image() {
    let root = tempfile::tempdir().unwrap();
    let dir = ImageDir::open(root.path()).unwrap();
    let private = sidecar(1, Access::Listed { uids: vec![1000], gids: vec![] });
    publish(&dir, &private);
    assert_eq!(modes(&dir, &private.digest), [0o400; 3]);
    dir.describe(&sidecar(1, Access::Public)).unwrap();
    assert_eq!(modes(&dir, &private.digest), [0o444; 3]);
}

#[test]
fn leftovers_are_cleaned_and_unfinished_files_vanish() {
    let root = tempfile::tempdir().unwrap();
    let dir = ImageDir::open(root.path()).unwrap();
    drop(dir.partial().unwrap());
    let partials = root.path().join(PARTIAL_DIRECTORY);
    assert_eq!(names(&partials), [""; 0]);
    std::fs::write(partials.join("77.0"), b"half").unwrap();
    assert_eq!(dir.clean().unwrap(), 1);
    assert_eq!(names(&partials), [""; 0]);
    assert_eq!(partials.metadata().unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_name_points_at_one_image_and_moves_in_one_step() {
    let root = tempfile::tempdir().unwrap();
    let dir = ImageDir::open(root.path()).unwrap();
    let reference: ImageRef = "docker:org/app:1".parse().unwrap();
    let path = root.path().join(NAMES_DIRECTORY).join(name_link(&reference).unwrap());
    for number in [1, 2, 2] {
        let digest = Digest::from_bytes([number; 32]);
        dir.link(&reference, &digest).unwrap();
        assert_eq!(std::fs::read_link(&path).unwrap(), Path::new(&digest.hex().to_string()));
    }
    dir.unlink_from(&reference, &Digest::from_bytes([1; 32])).unwrap();
    assert!(std::fs::read_link(&path).is_ok(), "it is about another image by now");
    dir.unlink_from(&reference, &Digest::from_bytes([2; 32])).unwrap();
    assert!(std::fs::read_link(&path).is_err());
    dir.unlink_from(&reference, &Digest::from_bytes([2; 32])).unwrap();
    dir.link(&reference, &Digest::from_bytes([1; 32])).unwrap();
    dir.unlink(&reference).unwrap();
    dir.unlink(&reference).unwrap();
    assert_eq!(names(&root.path().join(NAMES_DIRECTORY)), [""; 0]);
    assert_eq!(names(&root.path().join(PARTIAL_DIRECTORY)), [""; 0]);
}

#[test]
fn a_directory_that_is_missing_or_a_file_is_refused() {
    let root = tempfile::tempdir().unwrap();
    assert!(ImageDir::open(&root.path().join("none")).is_err());
    let file = root.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert!(ImageDir::open(&file).is_err());
}
