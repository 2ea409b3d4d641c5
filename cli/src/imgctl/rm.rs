//! `imgctl rm`: removes references, and with the last one of an image its file. Asks nothing.

use super::args::RmArgs;
use super::{PROGRAM, parse_reference, print_json};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::site::Site;
use gateway_api::Removed;

/// Runs the command: every reference is tried, every outcome is told; the first failure decides the exit code.
///
/// # Errors
/// Where a reference is malformed; nothing is removed then.
pub(super) fn run(site: &Site, args: &RmArgs) -> Result<Exit, Failure> {
    let references = args
        .references
        .iter()
        .map(|text| parse_reference(text))
        .collect::<Result<Vec<_>, Failure>>()?;
    let client = Client::new(site).map_err(|error| error.while_trying_to("remove images"))?;
    let mut exit = Exit::Success;
    let mut removed = Vec::new();
    for reference in &references {
        match client.remove(reference) {
            Ok(gone) => {
                if !args.json {
                    output::print(&sentence(&gone));
                }
                removed.push(gone);
            }
            Err(error) => {
                let failure = error.while_trying_to(&format!("remove {reference}"));
                output::failure(PROGRAM, &failure);
                if exit == Exit::Success {
                    exit = failure.exit;
                }
            }
        }
    }
    if args.json {
        print_json(&removed)?;
    }
    Ok(exit)
}

fn sentence(removed: &Removed) -> String {
    let rest = match removed.remaining.as_slice() {
        [] => "its file is gone".to_string(),
        remaining => format!("the image stays as {}", remaining.join(", ")),
    };
    output::printable(&format!("removed {} ({}); {rest}", removed.tag, removed.digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image_ref::Digest;

    #[test]
    fn what_is_left_of_an_image_is_told() {
        let digest = Digest::from_bytes([1; 32]);
        let mut removed = Removed { tag: "a:1".into(), digest, remaining: vec![] };
        assert_eq!(sentence(&removed), format!("removed a:1 ({digest}); its file is gone"));
        removed.remaining = vec!["a:2".into(), "b:1\n".into()];
        assert!(sentence(&removed).ends_with("the image stays as a:2, b:1\\n"));
    }
}
