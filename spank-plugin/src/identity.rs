//! Who the task is, as lines of /etc/passwd and /etc/group: the runtime asks no name service, so that we do.

use nix::unistd::{Gid, Group, User, getegid, getgroups, getuid};
use udiroot_conf::accounts;

/// The arguments by which the runtime learns the names of this process's user and groups.
///
/// The same as the front end's for the same process, so that `srun --image` and `srun gantry --image` agree. A user
/// without a name gets one made of the number.
pub(crate) fn arguments() -> Vec<String> {
    let uid = getuid();
    let user = User::from_uid(uid).ok().flatten();
    let name = user.as_ref().map_or_else(|| format!("user{uid}"), |user| user.name.clone());
    let passwd = match &user {
        Some(user) => passwd_line(user),
        None => accounts::passwd_line(&name, uid.as_raw(), getegid().as_raw(), "", "/", "/bin/sh"),
    };
    let mut words: Vec<String> =
        passwd.map(|line| format!("--passwd={line}")).into_iter().collect();
    let primary = user.map_or_else(getegid, |user| user.gid);
    for gid in groups() {
        if let Some(group) = Group::from_gid(gid).ok().flatten() {
            // The other members are nobody's business inside, and many.
            let member = (gid != primary).then_some(name.as_str());
            let line = accounts::group_line(&group.name, gid.as_raw(), member);
            words.extend(line.map(|line| format!("--group={line}")));
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

/// More groups than this are left as numbers: each is a question to the name service before every task.
const GROUPS_LIMIT: usize = 64;

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
    fn the_caller_is_described_by_own_lines() {
        let words = arguments();
        let uid = getuid().to_string();
        let passwd = words.iter().find_map(|word| word.strip_prefix("--passwd=")).unwrap();
        assert_eq!(passwd.split(':').nth(2), Some(uid.as_str()));
        assert_eq!(passwd.split(':').count(), 7);
        let gid = getegid().to_string();
        assert!(
            words.iter().any(|w| w.starts_with("--group=") && w.split(':').nth(2) == Some(&gid))
        );
    }
}
