//! Lists in the documents hold what the code has: error codes of the gateway, keys of udiRoot.conf.
//!
//! The code is the truth; the document must name each of its words in a code span. Where the code's list cannot be
//! found any more, that is an error too, so that the check cannot fall silent.

use super::{Finding, Tree, markdown};

/// A list in the code and the document that repeats it.
struct Listing {
    /// What the words are, for the message.
    what: &'static str,
    source: &'static str,
    /// The text in front of the list and the text behind it.
    between: (&'static str, &'static str),
    document: &'static str,
}

const LISTINGS: [Listing; 2] = [
    Listing {
        what: "error code",
        source: "crates/gateway-api/src/error.rs",
        between: ("\ncodes! {", "\n}"),
        document: "docs/api.md",
    },
    Listing {
        what: "key of udiRoot.conf",
        source: "udiroot-conf/src/conf.rs",
        between: ("\npub(crate) const KEYS: &[(&str, Form)] = &[", "];"),
        document: "docs/admin.md",
    },
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    LISTINGS.iter().flat_map(|listing| check_listing(tree, listing)).collect()
}

fn check_listing(tree: &Tree, listing: &Listing) -> Vec<Finding> {
    let words = words_between(tree.text(listing.source), listing.between);
    if words.is_empty() {
        let text = format!("tidy finds no list of every {} there", listing.what);
        return vec![Finding::error(listing.source, text)];
    }
    let named = markdown::code_spans(tree.text(listing.document));
    let missing = words.into_iter().filter(|word| !named.contains(word));
    missing
        .map(|word| {
            Finding::error(listing.document, format!("leaves out the {} `{word}`", listing.what))
        })
        .collect()
}

/// Every string literal between two texts.
fn words_between<'a>(text: &'a str, (front, behind): (&str, &str)) -> Vec<&'a str> {
    let list = text.split_once(front).and_then(|(_, rest)| rest.split_once(behind));
    list.map_or_else(Vec::new, |(list, _)| list.split('"').skip(1).step_by(2).collect())
}

#[cfg(test)]
mod tests {
    use super::words_between;

    #[test]
    fn words_are_the_literals_of_the_list() {
        let text = "x \"no\"\nconst A = [\n  \"one\", // \n  \"two\",\n];\n\"no\"";
        assert_eq!(words_between(text, ("const A = [", "];")), ["one", "two"]);
        assert_eq!(words_between(text, ("const B", "];")), Vec::<&str>::new());
    }
}
