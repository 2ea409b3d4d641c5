//! The registry logins that a caller sends along inside the MUNGE credential.
//!
//! They live in memory for one request or one pull, are never written anywhere and never shown.

use std::collections::BTreeMap;
use std::fmt;

/// One caller's logins, by location or registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Logins(BTreeMap<String, String>);

/// A user name and password for one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub user: String,
    /// The password or token.
    pub password: String,
}

impl Logins {
    /// Takes over the map of a MUNGE payload: location to `user:password`.
    pub fn new(by_location: BTreeMap<String, String>) -> Self {
        Self(by_location)
    }

    /// The login under the first of these names that has one.
    ///
    /// The user name ends at the first colon; the password may have more. A login without colon, or without user
    /// name, is none.
    pub fn find(&self, names: &[String]) -> Option<Login> {
        names.iter().find_map(|name| {
            let (user, password) = self.0.get(name)?.split_once(':')?;
            (!user.is_empty()).then(|| Login { user: user.into(), password: password.into() })
        })
    }
}

/// Shows for which locations there are logins, and nothing of them.
impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins() -> Logins {
        let pairs =
            [("lab", "alice:p\"w:1"), ("quay.io", "bob"), ("x", ":secret"), ("default", "d:d")];
        Logins::new(pairs.map(|(k, v)| (k.to_string(), v.to_string())).into())
    }

    fn find(names: &[&str]) -> Option<Login> {
        logins().find(&names.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_password_may_have_colons() {
        assert_eq!(find(&["lab"]), Some(Login { user: "alice".into(), password: "p\"w:1".into() }));
    }

    #[test]
    fn names_are_tried_in_order_and_what_is_no_login_is_passed_over() {
        assert_eq!(find(&["other", "lab"]).map(|login| login.user), Some("alice".into()));
        assert_eq!(find(&["quay.io"]), None);
        assert_eq!(find(&["x", "default"]).map(|login| login.user), Some("d".into()));
        assert_eq!(find(&["nothing"]), None);
    }

    #[test]
    fn no_password_is_shown() {
        let shown = format!("{:?} {:?}", logins(), find(&["lab"]));
        assert!(
            !shown.contains("secret") && !shown.contains("p\\\"w") && shown.contains("quay.io")
        );
    }
}
