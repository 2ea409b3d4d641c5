//! Who the caller is, as lines of /etc/passwd and /etc/group.
//!
//! The set-user-id program asks no name service, so the answer is brought along. It believes none of it that the
//! kernel does not say too.

use nix::unistd::{Gid, Group, User, getegid, getgroups, getuid};
use std::ffi::OsString;
use udiroot_conf::accounts;

/// More groups than this are left as numbers: each is a question to the name service before the command starts.
const GROUPS_LIMIT: usize = 64;

/// `--passwd=` and `--group=` for this process's user and groups.
pub(super) fn arguments() -> Vec<OsString> {
    let uid = getuid();
    let user = User::from_uid(uid).ok().flatten();
    let name = user.as_ref().map_or_else(|| format!("user{uid}"), |user| user.name.clone());
    let passwd = match &user {
        Some(user) => passwd_line(user),
        None => accounts::passwd_line(&name, uid.as_raw(), getegid().as_raw(), "", "/", "/bin/sh"),
    };
    let mut words: Vec<OsString> =
        passwd.map(|line| format!("--passwd={line}").into()).into_iter().collect();
    let primary = user.map_or_else(getegid, |user| user.gid);
    for gid in groups() {
        if let Some(group) = Group::from_gid(gid).ok().flatten() {
            let member = (gid != primary).then_some(name.as_str());
            let line = accounts::group_line(&group.name, gid.as_raw(), member);
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
    let (home, shell) = (user.dir.to_str()?, user.shell.to_str()?);
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    let line = |gecos: &str| accounts::passwd_line(&user.name, uid, gid, gecos, home, shell);
    user.gecos.to_str().ok().and_then(line).or_else(|| line(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> User {
        User::from_uid(nix::unistd::Uid::from_raw(0)).unwrap().unwrap()
    }

    #[test]
    fn a_name_that_means_the_name_service_makes_no_line() {
        for name in ["", "+", "-ada", "a:b"] {
            assert_eq!(passwd_line(&User { name: name.into(), ..root() }), None, "{name}");
        }
    }

    #[test]
    fn a_strange_full_name_costs_the_name_and_not_the_line() {
        let user = User { gecos: c"x\nroot2:x:0:0".to_owned(), ..root() };
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
