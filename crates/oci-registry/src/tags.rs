//! What a repository has in place of the tag that it lacks: for an error that helps.

use crate::failure::Failure;
use crate::{Asked, RegistryError, Session};
use oci_documents::parse_json;
use reqwest::header::HeaderMap;
use serde::Deserialize;

impl Session {
    /// Finds out whether the repository is there at all, and which of its tags are most like `missing`.
    ///
    /// Registries answer a wrong repository like a wrong tag. This asks once and believes little: whatever goes wrong,
    /// the error is that the tag is not there.
    pub(crate) async fn explain_missing_tag(&self, asked: &Asked, missing: &str) -> RegistryError {
        let asked = Box::new(asked.clone());
        match self.tags().await {
            Ok(tags) => RegistryError::NotFound { asked, similar: most_similar(tags, missing) },
            Err(Failure::Status(refusal)) if refusal.code.as_deref() == Some("NAME_UNKNOWN") => {
                RegistryError::NoRepository { asked }
            }
            Err(_) => RegistryError::NotFound { asked, similar: Vec::new() },
        }
    }

    async fn tags(&self) -> Result<Vec<String>, Failure> {
        let bytes = self.get_short("tags/list?n=1000", &HeaderMap::new(), LIST_LIMIT).await?.1;
        let list: List = parse_json(&bytes).map_err(Failure::BadAnswer)?;
        Ok(list.tags.unwrap_or_default())
    }
}

/// At most five tags, those that start most like `missing` first.
fn most_similar(mut tags: Vec<String>, missing: &str) -> Vec<String> {
    tags.retain(|tag| {
        (1..=128).contains(&tag.len())
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    });
    let common =
        |tag: &String| tag.bytes().zip(missing.bytes()).take_while(|(a, b)| a == b).count();
    tags.sort_by_key(|tag| (std::cmp::Reverse(common(tag)), tag.len()));
    tags.truncate(5);
    tags
}

#[derive(Deserialize)]
struct List {
    tags: Option<Vec<String>>,
}

/// A thousand tags of 128 characters fit twice.
const LIST_LIMIT: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tags_that_start_alike_come_first_and_what_is_no_tag_never() {
        let tags = ["latest", "9.8", "1.0", "9.10-rc1", "9.10", "\u{1b}[31m", "", "8", "9"]
            .map(str::to_owned);
        assert_eq!(most_similar(tags.into(), "9.9"), ["9.8", "9.10", "9.10-rc1", "9", "8"]);
        assert!(most_similar(Vec::new(), "x").is_empty());
    }
}
