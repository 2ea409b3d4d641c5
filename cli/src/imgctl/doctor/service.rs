//! What lies between this host and its images: munged here, the gateways there, and their clocks.

use super::Finding;
use super::clock::parse_date;
use crate::accounts;
use crate::client::Client;
use crate::site::Site;
use gateway_api::{CREDENTIAL_TTL_SECONDS, Payload, routes};
use nix::unistd::getuid;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// Asks munged and every gateway that is configured.
pub(super) fn examine(site: &Site) -> Vec<Finding> {
    let client = match Client::new(site) {
        Ok(client) => client,
        Err(error) => {
            let failure = error.while_trying_to("find the gateway");
            let finding = Finding::fail("gateway", failure.text);
            return vec![match failure.hint {
                Some(hint) => finding.hint(hint),
                None => finding,
            }];
        }
    };
    let mut findings = vec![munge(&client)];
    let vouched = findings.iter().all(|finding| finding.verdict == super::Verdict::Ok);
    for gateway in client.gateways() {
        findings.extend(ask(&client, gateway, vouched));
    }
    findings
}

/// Whether munged makes credentials for the caller.
fn munge(client: &Client) -> Finding {
    match client.credential(&Payload::default()) {
        Ok(_) => Finding::ok("munge", "munged makes credentials for you"),
        Err(error) => Finding::fail("munge", error.sentence())
            .hint("start munged on this host (`systemctl start munge`)"),
    }
}

/// Whether a gateway is up, agrees on the time, and knows who the caller is.
fn ask(client: &Client, gateway: &str, vouched: bool) -> Vec<Finding> {
    let answer = match client.public(gateway, routes::VERSION) {
        Ok(answer) => answer,
        Err(error) => {
            return vec![
                Finding::fail("gateway", error.sentence())
                    .hint("start gantry-gateway there, or correct `imageGateway` in udiRoot.conf"),
            ];
        }
    };
    let word = |key| answer.json.as_ref()?.get(key)?.as_str();
    let Some(version) = word("version").filter(|_| answer.status == 200) else {
        let text =
            format!("what answers at {gateway} is not gantry-gateway (status {})", answer.status);
        return vec![
            Finding::fail("gateway", text)
                .hint("`imageGateway` in udiRoot.conf may name the wrong host or port"),
        ];
    };
    let mut findings = vec![Finding::ok("gateway", format!("{gateway} is up, version {version}"))];
    findings.extend(health(client, gateway));
    findings.extend(answer.date.as_deref().and_then(parse_date).map(skew));
    if vouched {
        findings.push(whoami(client, gateway));
    }
    findings
}

/// A finding for each part that the gateway itself says is not well.
fn health(client: &Client, gateway: &str) -> Vec<Finding> {
    const CHECK: &str = "gateway";
    let hint = "the log of gantry-gateway says more";
    let answer = match client.public(gateway, routes::HEALTH) {
        Ok(answer) if answer.status == 200 => return Vec::new(),
        Ok(answer) => answer,
        Err(error) => return vec![Finding::fail(CHECK, error.sentence()).hint(hint)],
    };
    let parts = answer.json.as_ref().and_then(|json| json.get("parts")?.as_array());
    let broken: Vec<Finding> = parts
        .into_iter()
        .flatten()
        .filter(|part| part.get("ok").and_then(Value::as_bool) == Some(false))
        .map(|part| {
            let text = |key| part.get(key).and_then(Value::as_str).unwrap_or("unknown");
            Finding::fail(CHECK, format!("{gateway}: {}: {}", text("name"), text("why"))).hint(hint)
        })
        .collect();
    if broken.is_empty() {
        vec![Finding::fail(CHECK, format!("{gateway} says that it is not well")).hint(hint)]
    } else {
        broken
    }
}

/// How far the gateway's clock is from ours; a credential lives only so long.
fn skew(theirs: i64) -> Finding {
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    judge_skew(theirs.abs_diff(i64::try_from(ours).unwrap_or(i64::MAX)))
}

fn judge_skew(seconds: u64) -> Finding {
    let text = format!("this host's clock and the gateway's differ by {seconds} s");
    let hint = "synchronise the clocks (chrony, ntpd): credentials expire";
    if seconds >= u64::from(CREDENTIAL_TTL_SECONDS) {
        Finding::fail("clock", text).hint(hint)
    } else if seconds > u64::from(CREDENTIAL_TTL_SECONDS) / 4 {
        Finding::warn("clock", text).hint(hint)
    } else {
        Finding::ok("clock", "this host and the gateway agree on the time")
    }
}

fn whoami(client: &Client, gateway: &str) -> Finding {
    match client.whoami(gateway) {
        Ok(who) if who.uid == getuid().as_raw() => {
            let role = if who.admin { ", an administrator" } else { "" };
            let name = accounts::user_name(who.uid);
            Finding::ok("identity", format!("{gateway} knows you as {name}{role}"))
        }
        Ok(who) => Finding::fail(
            "identity",
            format!("{gateway} takes you for user {}, but you are {}", who.uid, getuid()),
        )
        .hint("munged here and at the gateway must belong to one cluster"),
        Err(error) => {
            let failure = error.while_trying_to("prove who you are");
            let hint = failure.hint.unwrap_or_else(|| {
                format!(
                    "munged needs one key and one time everywhere; is `{}` the system's name?",
                    client.system()
                )
            });
            Finding::fail("identity", format!("{gateway}: {}", failure.text)).hint(hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn clocks_may_differ_by_less_than_a_credential_lives() {
        for (seconds, verdict) in
            [(0, Verdict::Ok), (15, Verdict::Ok), (16, Verdict::Warn), (60, Verdict::Fail)]
        {
            assert_eq!(judge_skew(seconds).verdict, verdict, "{seconds}");
        }
    }
}
