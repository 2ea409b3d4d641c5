//! Pyxis' options in our words, so that the scripts of a site that had it run unchanged.
//!
//! Taken only where plugstack.conf says `pyxis_options=yes`. What cannot be had here is refused with what to do instead,
//! and never passed over.

use crate::spank::OptionText;
use std::fmt;

/// The image that `[USER@][REGISTRY#]IMAGE[:TAG]` means.
///
/// # Errors
/// A file, a login in the name, or a source other than a registry.
pub(crate) fn image(text: &str) -> Result<String, PyxisError> {
    let name = text.strip_prefix("docker://").unwrap_or(text);
    if name.starts_with(['/', '.']) {
        return Err(PyxisError::File(text.into()));
    }
    if let Some((scheme, _)) = name.split_once("://") {
        return Err(PyxisError::Scheme(scheme.into()));
    }
    let (registry, image) = match name.split_once('#') {
        Some((registry, image)) => (Some(registry), image),
        None => (None, name),
    };
    let has_login = |part: &str| part.split_once('@').is_some_and(|(_, end)| !is_digest(end));
    if has_login(registry.unwrap_or(image)) {
        return Err(PyxisError::Login(text.into()));
    }
    Ok(match registry {
        Some(registry) => format!("docker:{registry}/{image}"),
        None => format!("docker:{image}"),
    })
}

fn is_digest(text: &str) -> bool {
    text.starts_with("sha256:")
}

/// The volumes that `SRC[:DST[:FLAGS]][,...]` means, as `--volume` has them.
///
/// # Errors
/// A flag or a source that is not a directory's or file's path.
pub(crate) fn mounts(text: &str) -> Result<String, PyxisError> {
    let items = text.split(',').filter(|item| !item.is_empty());
    Ok(items.map(mount).collect::<Result<Vec<_>, _>>()?.join(";"))
}

fn mount(item: &str) -> Result<String, PyxisError> {
    let refuse = || PyxisError::Mount(item.into());
    let mut parts = item.splitn(3, ':');
    let source = parts.next().filter(|source| source.starts_with('/')).ok_or_else(refuse)?;
    let target = parts.next().unwrap_or(source);
    let mut read_only = false;
    for flag in parts.next().into_iter().flat_map(|flags| flags.split('+')) {
        match flag {
            "ro" => read_only = true,
            // What a volume is anyway.
            "rw" | "bind" | "rbind" | "nosuid" | "nodev" | "slave" | "rslave" | "x-create=auto" => {
            }
            _ => return Err(refuse()),
        }
    }
    Ok(format!("{source}:{target}{}", if read_only { ":ro" } else { "" }))
}

/// The names of `NAME[,NAME...]`.
///
/// # Errors
/// What is no name of a variable.
pub(crate) fn names(text: &str) -> Result<Vec<String>, PyxisError> {
    let names = text.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
    let names: Vec<String> = names.collect();
    match names.iter().find(|name| name.contains(['=', '\0'])) {
        Some(bad) => Err(PyxisError::Name(bad.clone())),
        None => Ok(names),
    }
}

/// By which number Slurm calls back for each.
pub(crate) const IMAGE: i32 = 11;
pub(crate) const MOUNTS: i32 = 12;
pub(crate) const WORKDIR: i32 = 13;
pub(crate) const ENV: i32 = 14;
pub(crate) const WRITABLE: i32 = 15;
pub(crate) const READONLY: i32 = 16;

/// Pyxis' options, of those that it has and we can follow or have to refuse.
pub(crate) const OPTIONS: [OptionText; 6] = [
    OptionText {
        name: c"container-image",
        argument: Some(c"[REGISTRY#]IMAGE[:TAG]"),
        usage: c"as --image, in the words of Pyxis (Gantry)",
        number: IMAGE,
    },
    OptionText {
        name: c"container-mounts",
        argument: Some(c"FROM[:TO[:ro]][,...]"),
        usage: c"as --volume, in the words of Pyxis (Gantry)",
        number: MOUNTS,
    },
    OptionText {
        name: c"container-workdir",
        argument: Some(c"DIR"),
        usage: c"where tasks start inside the image (Gantry)",
        number: WORKDIR,
    },
    OptionText {
        name: c"container-env",
        argument: Some(c"NAME[,...]"),
        usage: c"variables that the image does not override (Gantry)",
        number: ENV,
    },
    OptionText {
        name: c"container-writable",
        argument: None,
        usage: c"refused: images are read-only here (Gantry)",
        number: WRITABLE,
    },
    OptionText {
        name: c"container-readonly",
        argument: None,
        usage: c"without effect: images are read-only here (Gantry)",
        number: READONLY,
    },
];

/// What Pyxis has and this site's images cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PyxisError {
    /// `--container-image` is a path.
    File(String),
    /// `--container-image` has a user's name in it.
    Login(String),
    /// `--container-image` names another source than a registry.
    Scheme(String),
    /// An item of `--container-mounts`.
    Mount(String),
    /// An item of `--container-env`.
    Name(String),
    /// `--container-workdir` is no absolute path.
    Directory(String),
    /// `--container-writable`.
    Writable,
}

impl fmt::Display for PyxisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(text) => write!(
                f,
                "--container-image={}: images are run from the site's store, not from files\nhint: `imgctl import FILE --name NAME:TAG`, then --image=custom:NAME:TAG",
                text.escape_debug()
            ),
            Self::Login(text) => write!(
                f,
                "--container-image={}: a login does not stand in the name\nhint: leave the part with `@` out and log in with `podman login` or `docker login`",
                text.escape_debug()
            ),
            Self::Scheme(scheme) => write!(
                f,
                "--container-image: images come from registries, not from `{}`",
                scheme.escape_debug()
            ),
            Self::Mount(item) => write!(
                f,
                "--container-mounts: `{}` is not of the form FROM[:TO[:ro]] with absolute paths",
                item.escape_debug()
            ),
            Self::Name(name) => {
                write!(f, "--container-env: `{}` is no name of a variable", name.escape_debug())
            }
            Self::Directory(path) => write!(
                f,
                "--container-workdir={}: the path does not start with `/`",
                path.escape_debug()
            ),
            Self::Writable => f.write_str(
                "--container-writable: images are read-only\nhint: write to /tmp or to a volume, such as --container-mounts=DIR:DIR",
            ),
        }
    }
}

impl std::error::Error for PyxisError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_pyxis_are_references_of_ours() {
        for (text, reference) in [
            ("ubuntu", "docker:ubuntu"),
            ("ubuntu:24.04", "docker:ubuntu:24.04"),
            ("docker://org/app:1", "docker:org/app:1"),
            ("nvcr.io#nvidia/pytorch:24.05-py3", "docker:nvcr.io/nvidia/pytorch:24.05-py3"),
            ("docker://quay.io#a/b", "docker:quay.io/a/b"),
            ("reg.example.org:5000#a:1", "docker:reg.example.org:5000/a:1"),
            ("app@sha256:00", "docker:app@sha256:00"),
        ] {
            assert_eq!(image(text).unwrap(), reference, "{text}");
        }
    }

    #[test]
    fn files_logins_and_other_sources_are_refused_with_what_to_do() {
        for (text, hint) in [
            ("/shared/app.sqsh", "hint: `imgctl import"),
            ("./app.sqsh", "hint: `imgctl import"),
            ("user@nvcr.io#a/b", "hint: leave the part"),
            ("$oauthtoken@a/b", "hint: leave the part"),
            ("dockerd://app", "not from `dockerd`"),
        ] {
            let error = image(text).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn mounts_of_pyxis_are_volumes_of_ours() {
        for (text, volumes) in [
            ("/data:/mnt", "/data:/mnt"),
            ("/data", "/data:/data"),
            ("/a:/b:ro,/c:/d:rw+rbind,", "/a:/b:ro;/c:/d"),
            ("/a:/b:x-create=auto+ro", "/a:/b:ro"),
        ] {
            assert_eq!(mounts(text).unwrap(), volumes, "{text}");
        }
        for bad in ["data:/mnt", "tmpfs:/x", "/a:/b:exec", "/a:/b:", "umount:/x"] {
            mounts(bad).unwrap_err();
        }
    }

    #[test]
    fn variables_are_listed_by_name() {
        assert_eq!(names("A,B,,C").unwrap(), ["A", "B", "C"]);
        assert_eq!(names("A,B=1"), Err(PyxisError::Name("B=1".into())));
    }
}
