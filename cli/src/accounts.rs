//! Names of users and groups, through the system's own databases.

use crate::exit::{Exit, Failure};
use nix::unistd::{Gid, Group, Uid, User};

/// The name of a user, or the number where there is none.
pub fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// The name of a group, or the number where there is none.
pub fn group_name(gid: u32) -> String {
    match Group::from_gid(Gid::from_raw(gid)) {
        Ok(Some(group)) => group.name,
        _ => gid.to_string(),
    }
}

/// User ids from a list of names and numbers with commas between them.
///
/// # Errors
/// Where one of them is no user: to drop it silently, as Shifter does, would share less than was asked for.
pub fn parse_users(list: &str) -> Result<Vec<u32>, Failure> {
    parse_list(list, "user", |name| {
        User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
    })
}

/// Group ids from a list of names and numbers with commas between them.
///
/// # Errors
/// Where one of them is no group.
pub fn parse_groups(list: &str) -> Result<Vec<u32>, Failure> {
    parse_list(list, "group", |name| {
        Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
    })
}

fn parse_list(
    list: &str,
    what: &str,
    find: impl Fn(&str) -> Option<u32>,
) -> Result<Vec<u32>, Failure> {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| {
            item.parse().ok().or_else(|| find(item)).ok_or_else(|| {
                Failure::new(Exit::Usage, format!("there is no {what} `{item}` on this host"))
                    .with_hint("names and numbers are separated by commas")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_take_names_and_numbers_and_refuse_the_unknown() {
        assert_eq!(parse_users("root, 1001,").unwrap(), [0, 1001]);
        assert_eq!(parse_groups("root").unwrap(), [0]);
        let failure = parse_users("root,nosuchuser").unwrap_err();
        assert_eq!(failure.text, "there is no user `nosuchuser` on this host");
        assert!(parse_users("-1").is_err());
    }

    #[test]
    fn an_unknown_id_is_its_own_name() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_001), "4000000001");
        assert_eq!(group_name(4_000_000_001), "4000000001");
    }
}
