//! The `.meta` file beside an image, in the lines that Shifter's own runtime reads.
//!
//! That format has no quoting: a line break in a value would begin a line of the image author's choice, such as an
//! access list, and a backslash at its end would swallow the next line. Values that could are left out; Gantry's
//! own runtime reads the sidecar, which has them all.

use image_ref::{Access, Sidecar};

/// The text of the file.
pub(super) fn lines(sidecar: &Sidecar) -> String {
    let mut out = String::from("FORMAT: squashfs\n");
    let mut line = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            out.push_str(&format!("{key}: {value}\n"));
        }
    };
    line("ENTRY", list(&sidecar.entrypoint));
    line("CMD", list(&sidecar.cmd));
    line("WORKDIR", plain(&sidecar.workdir).filter(|workdir| !workdir.is_empty()));
    if let Access::Listed { uids, gids } = &sidecar.access {
        // Two empty lists would mean "everybody" to Shifter: the owner is always named.
        let mut uids = uids.clone();
        if !uids.contains(&sidecar.owner) {
            uids.push(sidecar.owner);
        }
        line("USERACL", Some(numbers(&uids)));
        line("GROUPACL", Some(numbers(gids)).filter(|gids| !gids.is_empty()));
    }
    for variable in &sidecar.env {
        line("ENV", plain(variable).filter(|variable| variable.contains('=')));
    }
    out
}

/// A list as Python writes it: `['a', 'b']`. Shifter's reader knows no escapes, so that a list with quotes or
/// backslashes cannot be said, except that a single word needs no list.
fn list(words: &[Vec<u8>]) -> Option<String> {
    let words = words.iter().map(|word| plain(word)).collect::<Option<Vec<_>>>()?;
    match words.as_slice() {
        [] => None,
        words if words.iter().all(|word| !word.contains(['\'', '"', '\\'])) => Some(format!(
            "[{}]",
            words.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(", ")
        )),
        [word] if !word.starts_with(['[', ' ']) && !word.ends_with(' ') => Some(word.clone()),
        _ => None,
    }
}

/// The value as text, unless it could reach beyond its line.
fn plain(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let harmless = !text.chars().any(char::is_control)
        && !text.contains(['\u{2028}', '\u{2029}'])
        && !text.trim_end().ends_with('\\');
    harmless.then(|| text.to_string())
}

fn numbers(ids: &[u32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use image_ref::Digest;
    use proptest::prelude::*;

    fn sidecar(access: Access, env: &[&str], entrypoint: &[&str]) -> Sidecar {
        let bytes = |list: &[&str]| list.iter().map(|s| s.as_bytes().to_vec()).collect();
        Sidecar {
            digest: Digest::from_bytes([1; 32]),
            owner: 1000,
            access,
            env: bytes(env),
            entrypoint: bytes(entrypoint),
            cmd: vec![],
            workdir: b"/w".to_vec(),
            platform: "linux/amd64".into(),
            made_by: String::new(),
        }
    }

    #[test]
    fn a_public_image_is_described_in_shifters_lines() {
        let text =
            lines(&sidecar(Access::Public, &["PATH=/bin", "A=b c"], &["/bin/busybox", "echo"]));
        assert_eq!(
            text,
            "FORMAT: squashfs\nENTRY: ['/bin/busybox', 'echo']\nWORKDIR: /w\nENV: PATH=/bin\nENV: A=b c\n"
        );
    }

    #[test]
    fn a_private_image_always_names_somebody() {
        let nobody = Access::Listed { uids: vec![], gids: vec![] };
        assert!(lines(&sidecar(nobody, &[], &[])).contains("USERACL: 1000\n"));
        let some = Access::Listed { uids: vec![5], gids: vec![6, 7] };
        assert!(lines(&sidecar(some, &[], &[])).contains("USERACL: 5,1000\nGROUPACL: 6,7\n"));
    }

    #[test]
    fn no_variable_becomes_an_access_list() {
        for hostile in
            ["A=1\nUSERACL: 0", "A=1\rUSERACL: 0", "A=\\", "A=\\  ", "A=\u{2028}B", "USERACL"]
        {
            let text = lines(&sidecar(Access::Public, &[hostile, "B=2"], &[]));
            assert_eq!(text, "FORMAT: squashfs\nWORKDIR: /w\nENV: B=2\n", "{hostile:?}");
        }
    }

    #[test]
    fn words_that_the_reader_cannot_take_are_left_out() {
        let entry = |words: &[&str]| {
            let text = lines(&sidecar(Access::Public, &[], words));
            text.lines().find_map(|line| line.strip_prefix("ENTRY: ").map(ToString::to_string))
        };
        assert_eq!(entry(&["it's"]), Some("it's".into()));
        assert_eq!(entry(&["sh", "it's"]), None);
        assert_eq!(entry(&["sh", "-c", "a\nUSERACL: 0"]), None);
        assert_eq!(entry(&[]), None);
    }

    proptest! {
        #[test]
        fn every_line_is_one_of_ours(env in proptest::collection::vec("\\PC{0,20}|[A-Z]=[\\n\\r\\\\: a-z]{0,9}", 0..6)) {
            let env: Vec<&str> = env.iter().map(String::as_str).collect();
            let text = lines(&sidecar(Access::Public, &env, &[]));
            for line in text.lines() {
                prop_assert!(line.starts_with("ENV: ") || line == "FORMAT: squashfs" || line == "WORKDIR: /w");
                prop_assert!(!line.ends_with('\\'));
            }
        }
    }
}
