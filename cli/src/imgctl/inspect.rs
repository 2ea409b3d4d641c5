//! `imgctl inspect`: everything that is known of one image.

use super::args::InspectArgs;
use super::{parse_reference, print_json};
use crate::accounts;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, printable};
use crate::site::Site;
use gateway_api::Details;
use std::time::{SystemTime, UNIX_EPOCH};

/// Runs the command.
///
/// # Errors
/// Where there is no such image, or the gateway does not answer.
pub(super) fn run(site: &Site, args: &InspectArgs) -> Result<(), Failure> {
    let reference = parse_reference(&args.reference)?;
    let trying = |error: crate::client::ClientError| {
        let not_found = error.is_not_found();
        let failure = error.while_trying_to(&format!("inspect {reference}"));
        if not_found { failure.with_hint("`imgctl list` shows what is there") } else { failure }
    };
    let details = Client::new(site).map_err(trying)?.inspect(&reference).map_err(trying)?;
    if args.json {
        return print_json(&details);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    output::print(&describe(&details, now));
    Ok(())
}

/// A line for each thing that is known, names in one column; lists take a line for each item.
fn describe(details: &Details, now: f64) -> String {
    let record = &details.record;
    let mut lines = Vec::new();
    let mut say = |name: &str, values: Vec<String>| {
        for (index, value) in values.iter().filter(|value| !value.is_empty()).enumerate() {
            let name = if index == 0 { name } else { "" };
            lines.push(format!("{name:<12}{}", printable(value)));
        }
    };
    let words = |words: &[String]| {
        let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
        vec![quoted.join(" ")]
    };
    say("references", record.tag.iter().map(|tag| format!("{}:{tag}", record.itype)).collect());
    say("digest", vec![record.digest.map_or_else(|| record.id.clone(), |d| d.to_string())]);
    say("resolved", details.resolved_digest.iter().map(ToString::to_string).collect());
    say("source", vec![details.source.clone()]);
    say("platform", vec![details.platform.clone()]);
    say("size", record.size.iter().map(|size| output::bytes(*size)).collect());
    say("entries", vec![details.entries.to_string()]);
    say("owner", record.owner.iter().map(|uid| accounts::user_name(*uid)).collect());
    say("access", access(details));
    say("pulled", pulled(details, now));
    say("created", details.created.iter().cloned().collect());
    say("entrypoint", words(record.entry.value().and_then(Option::as_deref).unwrap_or_default()));
    say("command", words(&details.cmd));
    say("workdir", record.workdir.value().iter().map(ToString::to_string).collect());
    say("env", record.env.value().and_then(Clone::clone).unwrap_or_default());
    let labels = record.labels.value().into_iter().flatten();
    say("labels", labels.map(|(name, value)| format!("{name}={value}")).collect());
    let layers = details.layers.iter();
    say(
        "layers",
        layers.map(|layer| format!("{} {}", layer.digest, output::bytes(layer.size))).collect(),
    );
    say("made by", vec![details.made_by.clone()]);
    lines.join("\n")
}

fn access(details: &Details) -> Vec<String> {
    let record = &details.record;
    if !record.private {
        return vec!["public".to_string()];
    }
    let users = record.user_acl.iter().map(|uid| format!("user {}", accounts::user_name(*uid)));
    let groups = record.group_acl.iter().map(|gid| format!("group {}", accounts::group_name(*gid)));
    let listed: Vec<String> = users.chain(groups).collect();
    if listed.is_empty() {
        vec!["private".to_string()]
    } else {
        vec![format!("private: {}", listed.join(", "))]
    }
}

fn pulled(details: &Details, now: f64) -> Vec<String> {
    let record = &details.record;
    let took = record
        .pull_seconds
        .map(|seconds| format!(", took {}", output::span(seconds)))
        .unwrap_or_default();
    let ago = |then: &f64| format!("{} ago{took}", output::age(now - then));
    record.last_pull.value().map(ago).into_iter().collect()
}

/// A word as a shell would need it, so that `["sh", "-c", "a b"]` is not read as three words.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details() -> Details {
        serde_json::from_value(serde_json::json!({
            "id": "ab".repeat(32), "system": "c1", "itype": "docker", "tag": ["a/b:1", "a/b:2"],
            "status": "READY", "userACL": [0], "groupACL": [], "ENV": ["A=1", "B=\u{1b}[31m"],
            "ENTRY": ["sh", "-c", "a b"], "WORKDIR": "/w", "LABELS": {"l": "m"},
            "last_pull": 1000.0, "status_message": "", "private": true,
            "size": 536_870_912u64, "owner": 0, "pull_seconds": 12.3, "platform": "linux/amd64",
            "cmd": [], "created": null, "source": "docker.io/a/b", "resolved_digest": null,
            "layers": [{"digest": format!("sha256:{}", "cd".repeat(32)), "size": 4096}],
            "entries": 7, "made_by": "gantry 0.1.0"
        }))
        .unwrap()
    }

    #[test]
    fn an_image_is_described_line_by_line_without_empty_ones() {
        let text = describe(&details(), 8200.0);
        for line in [
            "references  docker:a/b:1\n            docker:a/b:2\n",
            "size        512 MiB\n",
            "access      private: user root\n",
            "pulled      2 h ago, took 12.3 s\n",
            "entrypoint  sh -c 'a b'\n",
            "env         A=1\n            B=\\u{1b}[31m\n",
            "labels      l=m\n",
            " 4.0 KiB\nmade by     gantry 0.1.0",
        ] {
            assert!(text.contains(line), "{line:?} is missing in\n{text}");
        }
        assert!(!text.contains("command") && !text.contains("created"));
    }
}
