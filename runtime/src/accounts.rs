//! The container's /etc/passwd and /etc/group: the caller's own lines, then the image's.
//!
//! Pure. The caller's lines come from an unprivileged program; they are checked because they become a file that
//! programs in the container believe, not because they could give rights: none are left by then.
#![forbid(unsafe_code)]

use crate::caller::Caller;
use alloc::vec::Vec;
use udiroot_conf::LINE_LIMIT;

/// Puts the caller's passwd line in front of the image's lines, less those of the same name or uid.
///
/// Returns `None` where `line` is not a passwd line (passwd(5)) for the caller's uid.
pub fn merge_passwd(line: &[u8], image: &[u8], caller: &Caller) -> Option<Vec<u8>> {
    let fields = check(line, 7)?;
    let uid = parse_id(fields.get(2)?)?;
    parse_id(fields.get(3)?)?;
    (uid == caller.uid).then(|| merge(&[line], image))
}

/// Puts the caller's groups' lines in front of the image's lines, less those of the same name or gid.
///
/// Returns `None` where a line is not a group line (group(5)) for one of the caller's groups.
pub fn merge_groups(lines: &[Vec<u8>], image: &[u8], caller: &Caller) -> Option<Vec<u8>> {
    let own = caller.all_groups();
    for line in lines {
        let gid = parse_id(check(line, 4)?.get(2)?)?;
        if !own.contains(&gid) {
            return None;
        }
    }
    let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    Some(merge(&lines, image))
}

fn merge(own: &[&[u8]], image: &[u8]) -> Vec<u8> {
    let same = |one: &[u8], other: &[u8], index| {
        let value = field(one, index);
        value.is_some() && value == field(other, index)
    };
    let kept = lines(image)
        .filter(|line| !own.iter().any(|mine| same(mine, line, 0) || same(mine, line, 2)));
    let mut text = Vec::new();
    for line in own.iter().copied().chain(kept) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text
}

fn check(line: &[u8], count: usize) -> Option<Vec<&[u8]>> {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b':').collect();
    let sound = fields.len() == count
        && line.len() <= LINE_LIMIT
        && !line.iter().any(u8::is_ascii_control)
        && fields
            .first()
            .is_some_and(|name| !name.is_empty() && !matches!(name.first(), Some(b'+' | b'-')));
    sound.then_some(fields)
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

fn field(line: &[u8], index: usize) -> Option<&[u8]> {
    line.split(|&byte| byte == b':').nth(index)
}

fn parse_id(text: &[u8]) -> Option<u32> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn caller() -> Caller {
        Caller { uid: 1000, gid: 100, groups: vec![50] }
    }

    #[test]
    fn the_callers_line_comes_first_and_replaces_namesakes() {
        let image = b"root:x:0:0::/root:/bin/sh\nann:x:5:5::/:/x\nuser:x:1000:1000::/:/x\n\nbin:x:2:2::/:/x";
        assert_eq!(
            merge_passwd(b"ann:x:1000:100:A:/home/ann:/bin/bash", image, &caller()).unwrap(),
            b"ann:x:1000:100:A:/home/ann:/bin/bash\nroot:x:0:0::/root:/bin/sh\nbin:x:2:2::/:/x\n"
        );
    }

    #[test]
    fn a_line_for_another_uid_or_of_another_form_is_refused() {
        for line in [
            &b"ann:x:0:0::/:/bin/sh"[..],
            b"ann:x:1001:100::/:/x",
            b"ann:x:1000:100::/",
            b"",
            b":x:1000:100::/:/x",
            b"ann:x:1000:100::/:/x\nroot::0:0::/:/x",
            b"ann:x:+1000:100::/:/x",
            b"+ann:x:1000:100::/:/x",
            b"ann:x:1000:100::/:/x:y",
            b"ann:x::100::/:/x",
        ] {
            assert_eq!(merge_passwd(line, b"", &caller()), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn groups_are_the_callers_only() {
        let lines = [b"users:x:100:ann".to_vec(), b"lab:x:50:".to_vec()];
        assert_eq!(
            merge_groups(&lines, b"root:x:0:\nusers:x:99:\nx:x:50:\n", &caller()).unwrap(),
            b"users:x:100:ann\nlab:x:50:\nroot:x:0:\n"
        );
        assert_eq!(merge_groups(&[b"wheel:x:10:ann".to_vec()], b"", &caller()), None);
        assert_eq!(merge_groups(&[b"lab:x:50".to_vec()], b"", &caller()), None);
    }

    #[test]
    fn a_line_that_plugin_and_commands_make_is_accepted_and_a_false_one_is_never_made() {
        use udiroot_conf::accounts::{group_line, passwd_line};
        let long = "n".repeat(LINE_LIMIT - ":x:1000:100::/:/bin/sh".len());
        for name in ["ann", &long, &alloc::format!("{long}n"), "", "+ann", "-", "a:b", "a\nb"] {
            let made = passwd_line(name, 1000, 100, "", "/", "/bin/sh");
            let own = alloc::format!("{name}:x:1000:100::/:/bin/sh");
            let accepted = merge_passwd(own.as_bytes(), b"", &caller()).is_some();
            assert_eq!(made, accepted.then_some(own), "{:.10}", name);
            let made = group_line(name, 50, None);
            let own = alloc::format!("{name}:x:50:");
            let accepted = merge_groups(&[own.as_bytes().to_vec()], b"", &caller()).is_some();
            assert_eq!(made, accepted.then_some(own), "{:.10}", name);
        }
    }

    proptest! {
        #[test]
        fn an_accepted_line_never_adds_a_second_one(line in "[a-z:0-9\n]{0,12}:x:1000:100:[a-z:\n]{0,6}:/:/x") {
            if let Some(text) = merge_passwd(line.as_bytes(), b"", &caller()) {
                prop_assert_eq!(text.iter().filter(|&&byte| byte == b'\n').count(), 1);
            }
        }

        #[test]
        fn no_bytes_make_the_merge_panic(
            line in proptest::collection::vec(any::<u8>(), 0..40),
            image in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = merge_passwd(&line, &image, &caller());
            let _ = merge_groups(&[line], &image, &caller());
        }
    }
}
