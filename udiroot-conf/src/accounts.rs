//! One user or group as a line of /etc/passwd or /etc/group, as the runtime accepts it.
//!
//! Pure: who asks the name service has the names. One copy, so that plugin and commands describe a caller alike.

use crate::LINE_LIMIT;
use alloc::format;
use alloc::string::String;

/// The passwd line (passwd(5)) of a user.
///
/// `None` where a field would break the line, or where `name` is empty or starts with `+` or `-`: in front of a
/// name these mean the name service (nsswitch.conf(5), "compat").
pub fn passwd_line(
    name: &str,
    uid: u32,
    gid: u32,
    gecos: &str,
    home: &str,
    shell: &str,
) -> Option<String> {
    let sound = is_name(name) && [gecos, home, shell].into_iter().all(is_field);
    sound.then(|| format!("{name}:x:{uid}:{gid}:{gecos}:{home}:{shell}")).filter(fits)
}

/// The group line (group(5)) of a group, with one member or none.
///
/// `None` as for [`passwd_line`].
pub fn group_line(name: &str, gid: u32, member: Option<&str>) -> Option<String> {
    let sound = is_name(name) && member.is_none_or(is_name);
    sound.then(|| format!("{name}:x:{gid}:{}", member.unwrap_or_default())).filter(fits)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(['+', '-']) && is_field(text)
}

fn is_field(text: &str) -> bool {
    !text.contains(|sign: char| sign == ':' || sign.is_control())
}

#[expect(clippy::ptr_arg, reason = "as Option::filter gives it")]
fn fits(line: &String) -> bool {
    line.len() <= LINE_LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_user_and_a_group_make_lines() {
        assert_eq!(
            passwd_line("ada", 1, 2, "Ada L.,,,", "/home/ada", "/bin/sh").unwrap(),
            "ada:x:1:2:Ada L.,,,:/home/ada:/bin/sh"
        );
        assert_eq!(group_line("lab", 5, Some("ada")).unwrap(), "lab:x:5:ada");
        assert_eq!(group_line("lab", 5, None).unwrap(), "lab:x:5:");
    }

    #[test]
    fn what_would_be_more_than_a_field_makes_no_line() {
        let long = "x".repeat(LINE_LIMIT);
        for hostile in ["a:b", "a\nroot:x:0:0", "\0", "\u{7f}", &long] {
            for index in 0..4 {
                let mut fields = ["ada", "", "/", "/bin/sh"].map(ToString::to_string);
                fields[index] = hostile.to_string();
                let [name, gecos, home, shell] = &fields;
                assert_eq!(
                    passwd_line(name, 1, 2, gecos, home, shell),
                    None,
                    "{index} {hostile:?}"
                );
            }
            assert_eq!(group_line(hostile, 1, None), None);
            assert_eq!(group_line("lab", 1, Some(hostile)), None);
        }
    }

    #[test]
    fn a_name_that_means_the_name_service_or_none_makes_no_line() {
        for name in ["", "+", "-ada", "+@lab"] {
            assert_eq!(passwd_line(name, 1, 2, "", "/", "/bin/sh"), None);
            assert_eq!(group_line(name, 1, None), None);
            assert_eq!(group_line("lab", 1, Some(name)), None);
        }
    }
}
