//! `imgctl pull`: has the gateway fetch an image, shows how it goes, ends with digest, size and time.

use super::args::PullArgs;
use super::{PROGRAM, parse_reference, print_json};
use crate::accounts;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::follow::{self, Pulled};
use crate::output;
use crate::progress::Progress;
use crate::site::Site;
use gateway_api::PullRequest;
use image_ref::Kind;
use serde_json::json;

/// Runs the command.
///
/// # Errors
/// What ended the pull.
pub(super) fn run(site: &Site, args: &PullArgs) -> Result<(), Failure> {
    let reference = parse_reference(&args.reference)?;
    if reference.kind() != Kind::Docker {
        return Err(Failure::new(
            Exit::Usage,
            format!("cannot pull {reference}: only docker images come from a registry"),
        )
        .with_hint("leave out `custom:` or `id:`, or use `imgctl inspect`"));
    }
    let request = PullRequest {
        allowed_uids: args.user.as_deref().map(accounts::parse_users).transpose()?.and_then(list),
        allowed_gids: args.group.as_deref().map(accounts::parse_groups).transpose()?.and_then(list),
    };
    let client =
        Client::new(site).map_err(|error| error.while_trying_to(&format!("pull {reference}")))?;
    let mut progress = Progress::new(args.output.mode(), PROGRAM);
    let pulled = follow::pull(&client, &reference, &request, &mut progress)?;
    if args.output.json {
        let Pulled { digest, size, was_there, seconds, reused } = pulled;
        print_json(&json!({
            "reference": reference.to_string(),
            "digest": digest,
            "size": size,
            "was_there": was_there,
            "seconds": seconds,
            "reused_layers": reused.layers,
            "reused_bytes": reused.bytes,
        }))
    } else {
        output::print(&if args.output.quiet {
            pulled.digest.to_string()
        } else {
            sentence(&pulled)
        });
        Ok(())
    }
}

/// `sha256:... 512 MiB in 12.3 s, 4 of 5 layers reused (480 MiB)`, or that there was nothing to do.
fn sentence(pulled: &Pulled) -> String {
    let size = pulled.size.map(|size| format!(" {}", output::bytes(size))).unwrap_or_default();
    if pulled.was_there {
        return format!("{}{size}, already there", pulled.digest);
    }
    let text = format!("{}{size} in {}", pulled.digest, output::span(pulled.seconds));
    match pulled.reused {
        reused if reused.layers == 0 => text,
        reused => format!("{text}, {reused} ({})", output::bytes(reused.bytes)),
    }
}

/// Shifter's form of a list of ids; `None` for an empty one, which would otherwise mean "nobody else".
pub(super) fn list(ids: Vec<u32>) -> Option<String> {
    let texts: Vec<String> = ids.iter().map(u32::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Reused;
    use image_ref::Digest;

    #[test]
    fn a_pull_ends_with_digest_size_and_time() {
        let digest = Digest::from_bytes([0xab; 32]);
        let hex = "ab".repeat(32);
        let mut pulled = Pulled {
            digest,
            size: Some(512 << 20),
            was_there: false,
            seconds: 12.34,
            reused: Reused { layers: 0, of: 5, bytes: 0 },
        };
        assert_eq!(sentence(&pulled), format!("sha256:{hex} 512 MiB in 12.3 s"));
        pulled.reused = Reused { layers: 4, of: 5, bytes: 480 << 20 };
        assert_eq!(
            sentence(&pulled),
            format!("sha256:{hex} 512 MiB in 12.3 s, 4 of 5 layers reused (480 MiB)")
        );
        pulled.was_there = true;
        assert_eq!(sentence(&pulled), format!("sha256:{hex} 512 MiB, already there"));
    }

    #[test]
    fn ids_travel_as_shifters_client_writes_them() {
        assert_eq!(list(vec![21001, 21002]).as_deref(), Some("21001,21002"));
        assert_eq!(list(vec![]), None);
    }
}
