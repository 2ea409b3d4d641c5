//! The hooks of a CDI file. They are programs for the host's root and never run; of two, what they do is known.

use super::document::Hook;

/// What a hook is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// `create-symlinks`: targets and the links to them.
    Links(Vec<(String, String)>),
    /// `update-ldcache`: directories of libraries.
    Folders(Vec<String>),
    /// Anything else, by its name.
    Other(String),
}

/// Reads what a hook would be told. `nvidia-cdi-hook NAME ...` and `nvidia-ctk hook NAME ...` mean the same.
pub(super) fn meaning(hook: &Hook) -> Meaning {
    let program = hook.path.rsplit('/').next().unwrap_or_default();
    let words: Vec<&str> = hook.args.iter().skip(1).map(String::as_str).collect();
    let words = match (program, words.as_slice()) {
        ("nvidia-ctk", ["hook", words @ ..]) | ("nvidia-cdi-hook", words) => words,
        _ => return Meaning::Other(hook.path.clone()),
    };
    match words {
        ["create-symlinks", rest @ ..] => {
            let pairs = values(rest, "--link").filter_map(|value| value.split_once("::"));
            Meaning::Links(pairs.map(|(target, link)| (target.into(), link.into())).collect())
        }
        ["update-ldcache", rest @ ..] => {
            Meaning::Folders(values(rest, "--folder").map(str::to_owned).collect())
        }
        [name, ..] => Meaning::Other((*name).into()),
        [] => Meaning::Other(hook.path.clone()),
    }
}

/// The values of an option, written `--name value` or `--name=value`.
fn values<'a>(words: &'a [&'a str], name: &'a str) -> impl Iterator<Item = &'a str> {
    words.iter().enumerate().filter_map(move |(at, word)| match word.strip_prefix(name)? {
        "" => words.get(at + 1).copied(),
        rest => rest.strip_prefix('='),
    })
}

/// The absolute path that a link's target means, by text; `None` where that leads above `/`.
pub(super) fn target_path(target: &str, link: &str) -> Option<String> {
    let base = if target.starts_with('/') { "" } else { link.rsplit_once('/')?.0 };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, words: &str) -> Meaning {
        let args = words.split(' ').map(str::to_owned).collect();
        meaning(&Hook { path: path.into(), args })
    }

    #[test]
    fn both_of_nvidias_programs_are_understood() {
        let links = Meaning::Links(vec![
            ("libcuda.so.1".into(), "/usr/lib64/libcuda.so".into()),
            ("../a".into(), "/b/c/d".into()),
        ]);
        let words = "--link libcuda.so.1::/usr/lib64/libcuda.so --link=../a::/b/c/d";
        let new = format!("nvidia-cdi-hook create-symlinks {words}");
        assert_eq!(of("/usr/bin/nvidia-cdi-hook", &new), links);
        let old = format!("nvidia-ctk hook create-symlinks {words}");
        assert_eq!(of("/usr/bin/nvidia-ctk", &old), links);
        let folders = Meaning::Folders(vec!["/usr/lib64".into(), "/usr/lib64/vdpau".into()]);
        let words = "nvidia-cdi-hook update-ldcache --folder /usr/lib64 --folder /usr/lib64/vdpau";
        assert_eq!(of("/usr/bin/nvidia-cdi-hook", words), folders);
    }

    #[test]
    fn every_other_hook_is_only_a_name() {
        for (path, words, name) in [
            ("/usr/bin/nvidia-cdi-hook", "nvidia-cdi-hook chmod --mode 755", "chmod"),
            ("/usr/bin/nvidia-cdi-hook", "nvidia-cdi-hook", "/usr/bin/nvidia-cdi-hook"),
            ("/usr/bin/nvidia-ctk", "nvidia-ctk create-symlinks", "/usr/bin/nvidia-ctk"),
            ("/bin/evil", "evil create-symlinks --link /a::/b", "/bin/evil"),
        ] {
            assert_eq!(of(path, words), Meaning::Other(name.into()), "{words}");
        }
        let none =
            of("/usr/bin/nvidia-cdi-hook", "nvidia-cdi-hook create-symlinks --link x --link");
        assert_eq!(none, Meaning::Links(vec![]));
    }

    #[test]
    fn a_links_target_is_resolved_by_text_and_never_above_the_root() {
        for (target, link, path) in [
            ("libcuda.so.1", "/usr/lib/libcuda.so", Some("/usr/lib/libcuda.so.1")),
            ("../libx.so.1", "/usr/lib/gbm/x.so", Some("/usr/lib/libx.so.1")),
            ("/a//b/./c", "/d/e", Some("/a/b/c")),
            ("../../x", "/d/e", None),
            ("x", "relative", None),
        ] {
            assert_eq!(target_path(target, link).as_deref(), path, "{target} {link}");
        }
    }
}
