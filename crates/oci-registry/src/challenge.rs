//! `WWW-Authenticate`: how a registry wants to be asked (RFC 9110, section 11.6.1).
//!
//! The grammar is ambiguous on purpose of nobody: commas part challenges and parameters alike. What follows a token
//! decides: `=` makes it a parameter of the challenge before, anything else the scheme of a new one.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// One way in that a registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User and password (RFC 7617).
    Basic,
    /// A token that `realm` gives out (distribution specification, "Token Authentication").
    Bearer { realm: String, service: Option<String> },
}

/// Reads the challenges that are understood from an answer's headers, in their order.
///
/// Malformed text ends a header; the complete challenges before it still count.
pub(crate) fn parse_challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().take(HEADER_LIMIT);
    texts
        .filter_map(|value| value.to_str().ok())
        .filter(|text| text.len() <= LENGTH_LIMIT)
        .flat_map(|text| Parser { rest: text }.challenges())
        .collect()
}

/// A challenge before it is known to be of use.
#[derive(Default)]
struct Raw {
    scheme: String,
    realm: Option<String>,
    service: Option<String>,
}

impl Raw {
    /// The first value of a parameter counts, so that a later one cannot replace it.
    fn set(&mut self, name: &str, value: String) {
        match name.to_ascii_lowercase().as_str() {
            "realm" => self.realm.get_or_insert(value),
            "service" => self.service.get_or_insert(value),
            _ => return,
        };
    }

    fn finish(self) -> Option<Challenge> {
        if self.scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        let bearer = self.scheme.eq_ignore_ascii_case("bearer");
        bearer.then_some(Challenge::Bearer { realm: self.realm?, service: self.service })
    }
}

/// What is left to read of one header.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn challenges(mut self) -> Vec<Challenge> {
        let mut done = Vec::new();
        let mut current = Raw::default();
        loop {
            self.skip(|b| matches!(b, b' ' | b'\t' | b','));
            let Some(word) = self.token() else { break };
            self.skip(is_space);
            if let Some(behind) = self.rest.strip_prefix('=') {
                self.rest = behind;
                self.skip(is_space);
                let Some(value) = self.value() else { return done };
                current.set(word, value);
            } else {
                let next = Raw { scheme: word.to_owned(), ..Raw::default() };
                done.extend(std::mem::replace(&mut current, next).finish());
                self.skip_token68();
            }
        }
        if self.rest.is_empty() {
            done.extend(current.finish());
        }
        done
    }

    fn skip(&mut self, matches: impl Fn(u8) -> bool) -> &'a str {
        let end = self.rest.bytes().position(|b| !matches(b)).unwrap_or(self.rest.len());
        // Only ASCII bytes match, so the end is never inside a character.
        let (skipped, rest) = self.rest.split_at(end);
        self.rest = rest;
        skipped
    }

    fn token(&mut self) -> Option<&'a str> {
        Some(self.skip(is_token)).filter(|token| !token.is_empty())
    }

    /// A token or a quoted string, in which a backslash takes the next character as it is.
    fn value(&mut self) -> Option<String> {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            return self.token().map(str::to_owned);
        };
        let mut text = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = quoted.get(at + 1..)?;
                    return Some(text);
                }
                '\\' => text.push(chars.next()?.1),
                _ => text.push(c),
            }
        }
        None
    }

    /// Skips what Negotiate and its like put behind the scheme in place of parameters: `abc==`.
    fn skip_token68(&mut self) {
        let before = self.rest;
        self.skip(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b));
        self.skip(|b| b == b'=');
        self.skip(is_space);
        if !self.rest.is_empty() && !self.rest.starts_with(',') {
            self.rest = before; // it was a parameter
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The most headers that are looked at, and the longest.
const HEADER_LIMIT: usize = 8;
const LENGTH_LIMIT: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Vec<Challenge> {
        Parser { rest: text }.challenges()
    }

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.map(str::to_owned) }
    }

    #[test]
    fn what_registries_send_is_understood() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push""#;
        assert_eq!(
            parse(hub),
            [bearer("https://auth.docker.io/token", Some("registry.docker.io"))]
        );
        assert_eq!(parse(r#"Basic realm="Registry Realm""#), [Challenge::Basic]);
        assert_eq!(parse("basic"), [Challenge::Basic]);
        assert_eq!(parse(r#"BEARER REALM = "r" , Service=s"#), [bearer("r", Some("s"))]);
    }

    #[test]
    fn several_challenges_come_apart_whatever_stands_between() {
        let two = [bearer("r", None), Challenge::Basic];
        assert_eq!(parse(r#"Bearer realm="r", Basic realm="x, Bearer realm=evil""#), two);
        assert_eq!(parse(r#"Negotiate abc==, Bearer realm="r", NTLM, Basic"#), two);
        assert_eq!(
            parse(r#", ,Digest realm="d", nonce="n",Bearer realm=r,,Basic charset="UTF-8","#),
            two
        );
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, "Bearer realm=r".parse().unwrap());
        headers.append(WWW_AUTHENTICATE, "Basic".parse().unwrap());
        assert_eq!(parse_challenges(&headers), two);
    }

    #[test]
    fn quoting_is_undone_and_a_second_value_changes_nothing() {
        assert_eq!(parse(r#"Bearer realm="a\"b\\c\d""#), [bearer(r#"a"b\cd"#, None)]);
        assert_eq!(parse("Bearer realm=a,realm=b,service=c,service=d"), [bearer("a", Some("c"))]);
    }

    #[test]
    fn malformed_text_yields_nothing_but_what_was_complete() {
        for text in [
            "",
            ",",
            "=",
            "Bearer",
            "Bearer realm",
            "Bearer realm=",
            r#"Bearer realm="x"#,
            r#"Bearer realm="x\"#,
            "Bearer \"x\"",
            "Bearer service=x",
            "realm=x",
            "é",
            "Bearer é=x",
        ] {
            assert_eq!(parse(text), [], "{text}");
        }
        assert_eq!(parse(r#"Basic realm="x", Bearer realm="y"#), [Challenge::Basic]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_mixture_of_its_own_words_makes_the_parser_panic_or_hang(
            words in proptest::collection::vec(
                prop_oneof![Just("Bearer"), Just("Basic"), Just("realm"), Just("="), Just("\""), Just("\\"), Just(","),
                    Just(" "), Just("x"), Just("é")], 0..40)
        ) {
            prop_assert!(parse(&words.concat()).len() <= 20);
        }

        #[test]
        fn every_realm_survives_quoting(realm in "[ -~]{0,40}", service in "[ -~]{0,20}") {
            let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let text = format!("Bearer realm=\"{}\", service=\"{}\", Basic", quote(&realm), quote(&service));
            prop_assert_eq!(parse(&text), [bearer(&realm, Some(&service)), Challenge::Basic]);
        }
    }
}
