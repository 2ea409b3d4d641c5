//! `imgctl list`: the images that the caller may use, one line for each reference.

use super::args::ListArgs;
use super::print_json;
use crate::accounts;
use crate::client::Client;
use crate::exit::Failure;
use crate::output;
use crate::site::Site;
use gateway_api::Record;
use image_ref::{Digest, ImageRef};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Runs the command.
///
/// # Errors
/// Where the gateway does not answer or refuses.
pub(super) fn run(site: &Site, args: &ListArgs) -> Result<(), Failure> {
    let trying = |error: crate::client::ClientError| error.while_trying_to("list images");
    let mut records = Client::new(site).map_err(trying)?.list().map_err(trying)?;
    let pattern = args.pattern.as_deref().map(Pattern::new);
    records.retain(|record| {
        pattern.as_ref().is_none_or(|p| references(record).any(|reference| p.fits(&reference)))
    });
    if args.json {
        return print_json(&records);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let mut names = BTreeMap::new();
    let mut rows: Vec<[String; 6]> = records
        .iter()
        .flat_map(|record| references(record).map(move |reference| (record, reference)))
        .filter(|(_, reference)| pattern.as_ref().is_none_or(|p| p.fits(reference)))
        .map(|(record, reference)| row(record, &reference, now, &mut names))
        .collect();
    rows.sort();
    output::print_table(["REFERENCE", "DIGEST", "SIZE", "PULLED", "OWNER", "ACCESS"], &rows);
    Ok(())
}

fn row(
    record: &Record,
    reference: &str,
    now: f64,
    names: &mut BTreeMap<u32, String>,
) -> [String; 6] {
    let unknown = || "-".to_string();
    [
        output::printable(reference),
        output::printable(&record.id).chars().take(12).collect(),
        record.size.map_or_else(unknown, output::bytes),
        record
            .last_pull
            .value()
            .map_or_else(unknown, |then| format!("{} ago", output::age(now - then))),
        record.owner.map_or_else(unknown, |uid| {
            names.entry(uid).or_insert_with(|| accounts::user_name(uid)).clone()
        }),
        access(record),
    ]
}

/// Who may use an image, in a word or two.
fn access(record: &Record) -> String {
    let owner_only = |uid: &u32| Some(*uid) == record.owner;
    match (record.private, record.user_acl.iter().filter(|uid| !owner_only(uid)).count()) {
        (false, _) => "public".to_string(),
        (true, 0) if record.group_acl.is_empty() => "private".to_string(),
        (true, users) => {
            let count = |n: usize, one: &str| match n {
                0 => None,
                1 => Some(format!("1 {one}")),
                n => Some(format!("{n} {one}s")),
            };
            let shares: Vec<String> =
                [count(users, "user"), count(record.group_acl.len(), "group")]
                    .into_iter()
                    .flatten()
                    .collect();
            format!("private, {}", shares.join(", "))
        }
    }
}

/// The references of an image as they can be typed: `docker` is understood and left out. An image whose tags have
/// all moved to others goes by its digest.
fn references(record: &Record) -> impl Iterator<Item = String> + '_ {
    let digest = record.digest.or_else(|| Digest::from_hex(&record.id).ok());
    let bare = digest.filter(|_| record.tag.is_empty());
    let tags = record.tag.iter().map(|tag| match record.itype.as_str() {
        "docker" => tag.clone(),
        kind => format!("{kind}:{tag}"),
    });
    tags.chain(bare.map(|digest| ImageRef::from_digest(digest).to_string()))
}

/// What is looked for in a reference: a part of it, or a whole one with `*` and `?`.
struct Pattern(String);

impl Pattern {
    fn new(text: &str) -> Self {
        let text = text.strip_prefix("docker:").unwrap_or(text);
        if text.contains(['*', '?']) { Self(text.to_string()) } else { Self(format!("*{text}*")) }
    }

    /// Compares with one step back to the last `*`: never more than quadratic.
    fn fits(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(&c) if c == b'?' || Some(&c) == text.get(t) => {
                    p += 1;
                    t += 1;
                }
                _ => match star {
                    Some((at, from)) => {
                        star = Some((at, from + 1));
                        p = at + 1;
                        t = from + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern.iter().skip(p).all(|&c| c == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_api::{Known, Status};

    pub(crate) fn record() -> Record {
        serde_json::from_value(serde_json::json!({
            "id": "ab".repeat(32), "system": "c1", "itype": "docker", "tag": ["a/b:1", "a/b:2"],
            "status": "READY", "userACL": [], "groupACL": [], "ENV": null, "ENTRY": null,
            "WORKDIR": "", "LABELS": {}, "last_pull": 1000.0, "status_message": "",
            "size": 536_870_912u64, "owner": 0
        }))
        .unwrap()
    }

    #[test]
    fn a_row_says_what_a_user_asks_for() {
        let record = record();
        assert_eq!(record.status, Status::Ready);
        let row = row(&record, "a/b:1", 8200.0, &mut BTreeMap::new());
        assert_eq!(row, ["a/b:1", "abababababab", "512 MiB", "2 h ago", "root", "public"]);
    }

    #[test]
    fn what_is_unknown_is_a_dash_and_hostile_text_is_escaped() {
        let mut record = record();
        record.size = None;
        record.owner = None;
        record.last_pull = Known::MISSING;
        record.id = "\x1b[2J".into();
        let row = row(&record, "a\n:1", 0.0, &mut BTreeMap::new());
        assert_eq!(row, ["a\\n:1", "\\u{1b}[2J", "-", "-", "-", "public"]);
    }

    #[test]
    fn access_counts_whom_a_private_image_is_shared_with() {
        let mut record = Record { private: true, user_acl: vec![0], ..record() };
        assert_eq!(access(&record), "private");
        record.user_acl = vec![0, 7];
        record.group_acl = vec![1, 2];
        assert_eq!(access(&record), "private, 1 user, 2 groups");
    }

    #[test]
    fn an_image_without_a_tag_is_shown_by_its_digest() {
        let mut record = record();
        assert_eq!(references(&record).collect::<Vec<_>>(), ["a/b:1", "a/b:2"]);
        record.tag.clear();
        let hex = "ab".repeat(32);
        assert_eq!(references(&record).collect::<Vec<_>>(), [format!("id:{hex}")]);
        record.id = "MISSING".into();
        assert_eq!(references(&record).count(), 0);
    }

    #[test]
    fn patterns_find_parts_and_understand_stars() {
        for (pattern, text, fits) in [
            ("bunt", "ubuntu:22.04", true),
            ("docker:ubuntu", "ubuntu:22.04", true),
            ("*:latest", "a/b:latest", true),
            ("*:latest", "a/b:latest2", false),
            ("a?c*", "abcd", true),
            ("a?c", "abcd", false),
            ("*a*b*a*", "aabbb", false),
            ("*a*b*a*", "aabbaba", true),
            ("", "anything", true),
        ] {
            assert_eq!(Pattern::new(pattern).fits(text), fits, "{pattern} {text}");
        }
    }
}
