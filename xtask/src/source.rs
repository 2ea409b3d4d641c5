//! What of a Rust file is code: comments, strings and tests taken out.
//!
//! A lexer just good enough for tidy: it keeps the line structure, so that findings can name lines. It never
//! judges; the checks of tidy do.

/// Replaces comments and the content of strings and character literals by blanks, line breaks apart.
pub(crate) fn blank_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match token_at(bytes, at) {
            Token::Code => {
                out.push(bytes[at]);
                at += 1;
                continue;
            }
            Token::Blank { end } => end.min(bytes.len()),
        };
        out.extend(bytes[at..end].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Takes out every item that stands behind `attribute`, by blanking it; `code` is the blanked text.
fn blank_items_behind(attribute: &str, text: &str, code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    for (start, _) in text.match_indices(attribute) {
        // In a comment or a string it is blank, and so it is within an item that was taken out.
        if out[start] == b'#' {
            let end = end_of_item(code, start + attribute.len());
            out[start..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Counts the lines that hold code, comments, tests and what stands behind `attribute` apart.
pub(crate) fn count_code_lines(text: &str, attribute: &str) -> usize {
    let mut code = blank_comments_and_strings(text);
    for attribute in ["#[cfg(test)]", attribute].into_iter().filter(|one| !one.is_empty()) {
        code = blank_items_behind(attribute, text, &code);
    }
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

/// The numbers, from 1, of the lines of blanked text in which `word` stands alone.
pub(crate) fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let numbered = code.lines().enumerate();
    numbered.filter(|(_, line)| has_word(line, word)).map(|(index, _)| index + 1).collect()
}

fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part))
}

enum Token {
    Code,
    Blank { end: usize },
}

fn token_at(bytes: &[u8], at: usize) -> Token {
    let rest = &bytes[at..];
    let inside_a_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => Token::Blank { end: at + line_length(rest) },
        [b'/', b'*', ..] => Token::Blank { end: at + block_comment_length(rest) },
        [b'"', ..] => Token::Blank { end: at + string_length(rest) },
        [b'r', b'"' | b'#', ..] if !inside_a_word => raw(at, rest, 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !inside_a_word => raw(at, rest, 2),
        [b'\'', ..] => match character_length(rest) {
            Some(length) => Token::Blank { end: at + length },
            None => Token::Code,
        },
        _ => Token::Code,
    }
}

fn line_length(rest: &[u8]) -> usize {
    rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())
}

fn block_comment_length(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            (b'/', b'*') => {
                depth += 1;
                at += 2;
            }
            (b'*', b'/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A raw string such as `r#"..."#`, or code such as the raw identifier `r#type`.
fn raw(at: usize, rest: &[u8], prefix: usize) -> Token {
    let hashes = rest[prefix..].iter().take_while(|&&b| b == b'#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return Token::Code;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = &rest[open + 1..];
    let found = body.windows(close.len()).position(|window| window == close);
    let length = found.map_or(rest.len(), |start| open + 1 + start + close.len());
    Token::Blank { end: at + length }
}

/// The length of a character literal; `None` where the quote starts a lifetime.
fn character_length(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|&b| b == b'\'')?;
        return Some(close + 4);
    }
    let text = std::str::from_utf8(&rest[1..rest.len().min(6)])
        .or_else(|error| std::str::from_utf8(&rest[1..1 + error.valid_up_to()]));
    let length = text.ok()?.chars().next()?.len_utf8();
    (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
}

/// Where the item that starts at `from` ends: behind its `;` or behind its block.
fn end_of_item(code: &str, from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth = depth.saturating_sub(1);
                let end = from + at + 1;
                // A group of imports has its `;` behind the brace.
                if depth == 0 && c == '}' && !code[end..].trim_start().starts_with(';') {
                    return end;
                }
            }
            ';' if depth == 0 => return from + at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blanked_and_lines_kept() {
        let text =
            "let a = \"unsafe // \\\" x\"; // unsafe\n/* un /* nested */ safe\n */ unsafe {}\n";
        let code = blank_comments_and_strings(text);
        assert_eq!(code.lines().count(), text.lines().count());
        assert_eq!(lines_with_word(&code, "unsafe"), [3]);
    }

    #[test]
    fn raw_strings_end_at_their_own_hashes() {
        let code = blank_comments_and_strings("f(r#\"a \" unsafe \"#, br\"\\\", r\"x\"); unsafe");
        assert_eq!(code.matches("unsafe").count(), 1);
        assert!(code.trim_end().ends_with("); unsafe"), "{code}");
        assert!(blank_comments_and_strings("let r#unsafe = 1;").contains("r#unsafe"));
    }

    #[test]
    fn a_quote_may_start_a_character_or_a_lifetime() {
        for literal in ["'\"'", "'\\''", "'\\u{22}'", "b'\"'", "'ü'", "'\\\\'"] {
            let code = blank_comments_and_strings(&format!("let c = {literal}; unsafe"));
            assert!(code.contains("; unsafe"), "{literal}: {code}");
        }
        let code = blank_comments_and_strings("fn f<'a>(x: &'a str) -> &'a str { \"unsafe\" }");
        assert_eq!(code.matches("'a").count(), 3);
        assert!(!code.contains("unsafe"));
    }

    #[test]
    fn a_word_stands_alone() {
        assert_eq!(lines_with_word("unsafe_code\nmy_unsafe\nunsafe{\n", "unsafe"), [3]);
    }

    #[test]
    fn tests_and_comments_do_not_count_as_code() {
        let text = "//! Head.\nuse a;\n\n/// Doc.\nfn f() {\n    g(); // why\n}\n\n#[cfg(test)]\nmod tests {\n    fn x() {}\n}\n";
        assert_eq!(count_code_lines(text, ""), 4);
        assert_eq!(count_code_lines("#[cfg(test)]\nmod tests;\nfn f() {}\n", ""), 1);
        assert_eq!(count_code_lines("#[cfg(test)]\nuse a::{b, c};\nfn f() {}\n", ""), 1);
    }

    #[test]
    fn what_stands_behind_another_attribute_may_be_left_out() {
        let text = "// #[cfg(x = \"y\")]\nmod a;\n#[cfg(x = \"y\")]\npub use b::{\n    c,\n};\n#[cfg(x = \"z\")]\nmod d;\n";
        assert_eq!(count_code_lines(text, "#[cfg(x = \"y\")]"), 3);
        assert_eq!(count_code_lines(text, ""), 7);
    }
}
