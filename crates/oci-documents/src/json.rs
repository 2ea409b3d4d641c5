//! JSON from strangers: bounded in depth before it is parsed.

use serde::de::DeserializeOwned;

/// Parses JSON whose arrays and objects are nested no deeper than [`DEPTH_LIMIT`].
///
/// # Errors
/// A phrase that says what is wrong with it.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if depth(bytes) > DEPTH_LIMIT {
        return Err(format!("it is nested deeper than {DEPTH_LIMIT} levels"));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| format!("it is not the JSON it should be: {error}"))
}

/// How deep the arrays and objects of a text are nested; exact for valid JSON, some number for anything else.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0usize, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Manifests need 5 levels, configurations 4; the rest is room for annotations of times to come.
const DEPTH_LIMIT: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn deep_nesting_is_refused_and_brackets_in_texts_do_not_count() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse::<Value>(nested(32).as_bytes()).is_ok());
        assert!(parse::<Value>(nested(33).as_bytes()).unwrap_err().contains("nested deeper"));
        assert!(parse::<Value>(nested(1_000_000).as_bytes()).is_err());
        let text = format!("[\"\\\"{}\"]", "[".repeat(100));
        assert!(parse::<Value>(text.as_bytes()).is_ok());
    }
}
