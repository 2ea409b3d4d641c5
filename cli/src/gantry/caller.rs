//! Who the caller is, as lines of /etc/passwd and /etc/group.
//!
//! The set-user-id program asks no name service, so the answer is brought along. It believes none of it that the
//! kernel does not say too.

use nix::unistd::{Gid, Group, User, getegid, getgroups, getuid};
use std::ffi::OsString;

/// More groups than this are left as numbers: each is a question to the name service before the command starts.
const GROUPS_LIMIT: usize = 64;

/// `--passwd=` and `--group=` for this process's user and groups.
pub(super) fn arguments() -> Vec<OsString> {
    let uid = getuid();
    let user = User::from_uid(uid).ok().flatten();
    let name = user.as_ref().map_or_else(|| format!("user{uid}"), |user| user.name.clone());
    let passwd = match &user {
        Some(user) => passwd_line(user),
        None => line(&[&name, "x", &uid.to_string(), &getegid().to_string(), "", "/", "/bin/sh"]),
    };
    let mut words: Vec<OsString> =
        passwd.map(|line| format!("--passwd={line}").into()).into_iter().collect();
    let primary = user.map_or_else(getegid, |user| user.gid);
    for gid in groups() {
        if let Some(group) = Group::from_gid(gid).ok().flatten() {
            let member = if gid == primary { "" } else { &name };
            let line = line(&[&group.name, "x", &gid.to_string(), member]);
            words.extend(line.map(|line| format!("--group={line}").into()));
        }
    }
    words
}

/// The groups of this process, the effective one first.
fn groups() -> Vec<Gid> {
    let mut all = vec![getegid()];
    for gid in getgroups().unwrap_or_default() {
        if !all.contains(&gid) {
            all.push(gid);
        }
    }
    all.truncate(GROUPS_LIMIT);
    all
}

/// The line of a user; a full name that would break it is left out.
fn passwd_line(user: &User) -> Option<String> {
    let gecos = user.gecos.to_str().ok().filter(|gecos| is_field(gecos)).unwrap_or_default();
    line(&[
        &user.name,
        "x",
        &user.uid.to_string(),
        &user.gid.to_string(),
        gecos,
        user.dir.to_str()?,
        user.shell.to_str()?,
    ])
}

/// Joins fields, unless one of them would be more than a field, or the name no name: `+` and `-` in front of one
/// mean the name service (nsswitch.conf(5), "compat").
fn line(fields: &[&str]) -> Option<String> {
    let named =
        fields.first().is_some_and(|name| !name.is_empty() && !name.starts_with(['+', '-']));
    (named && fields.iter().all(|field| is_field(field))).then(|| fields.join(":"))
}

fn is_field(text: &str) -> bool {
    !text.contains(|c: char| c == ':' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_more_than_a_field_makes_no_line() {
        assert_eq!(line(&["ada", "x", "1", ""]).as_deref(), Some("ada:x:1:"));
        for hostile in ["a:b", "a\nroot:x:0:0", "\0"] {
            assert_eq!(line(&["ada", hostile]), None);
        }
        for name in ["", "+", "-ada"] {
            assert_eq!(line(&[name, "x", "1", ""]), None);
        }
    }

    #[test]
    fn a_strange_full_name_costs_the_name_and_not_the_line() {
        let mut user = User::from_uid(nix::unistd::Uid::from_raw(0)).unwrap().unwrap();
        user.gecos = c"x\nroot2:x:0:0".to_owned();
        assert_eq!(passwd_line(&user).unwrap().split(':').nth(4), Some(""));
    }

    #[test]
    fn the_caller_is_described_by_one_passwd_line_and_own_groups() {
        let words = arguments();
        let passwd = words[0].to_str().unwrap().strip_prefix("--passwd=").unwrap();
        assert_eq!(passwd.split(':').count(), 7);
        assert_eq!(passwd.split(':').nth(2), Some(getuid().to_string().as_str()));
        assert!(words.len() <= 1 + GROUPS_LIMIT);
        assert!(words[1..].iter().all(|word| word.to_str().unwrap().starts_with("--group=")));
    }
}
