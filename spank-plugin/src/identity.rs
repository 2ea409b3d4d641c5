//! Who the task is, as lines of /etc/passwd and /etc/group: the runtime asks no name service, so that we do.

use nix::unistd::{Gid, Group, User, getegid, getgroups, getuid};

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
        None => line(&[&name, "x", &uid.to_string(), &getegid().to_string(), "", "/", "/bin/sh"]),
    };
    let mut words: Vec<String> =
        passwd.map(|line| format!("--passwd={line}")).into_iter().collect();
    let primary = user.map_or_else(getegid, |user| user.gid);
    for gid in groups() {
        if let Some(group) = Group::from_gid(gid).ok().flatten() {
            // The other members are nobody's business inside, and many.
            let member = if gid == primary { "" } else { &name };
            let line = line(&[&group.name, "x", &gid.to_string(), member]);
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

/// Joins fields, unless one of them would be more than a field.
fn line(fields: &[&str]) -> Option<String> {
    fields.iter().all(|field| is_field(field)).then(|| fields.join(":"))
}

fn is_field(text: &str) -> bool {
    !text.contains(|c: char| c == ':' || c.is_control())
}

/// More groups than this are left as numbers: each is a question to the name service before every task.
const GROUPS_LIMIT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_more_than_a_field_makes_no_line() {
        assert_eq!(line(&["ada", "x", "1", ""]).as_deref(), Some("ada:x:1:"));
        for hostile in ["a:b", "a\nroot:x:0:0", "\u{0}"] {
            assert_eq!(line(&["ada", hostile]), None);
        }
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
