//! A user's name and password for one registry.

use std::fmt;

/// What a caller logs in with; never written anywhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name there; must not hold a colon (RFC 7617).
    pub user: String,
    /// The password or access token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("password", &format_args!("<redacted>"))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_never_shows_in_debug_output() {
        let credentials = Credentials { user: "bob".into(), password: "hunter2".into() };
        let text = format!("{credentials:?} {:#?}", Some(&credentials));
        assert!(text.contains("bob") && !text.contains("hunter2"), "{text}");
    }
}
