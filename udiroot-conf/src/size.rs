//! Byte sizes such as `500K` or `1.5M`, as Shifter's `parseBytes` reads them.

/// Parses a decimal number with an optional unit letter `b k m g t p e` (powers of 1024, any case).
///
/// Letters behind the unit are ignored (`100mb`), as Shifter does. `None` for anything else, negative numbers and
/// sizes beyond 64 bits included; an empty text is 0.
pub fn parse_size(text: &str) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let shift = match unit.bytes().next().map(|letter| letter.to_ascii_lowercase()) {
        None | Some(b'b') => 0,
        Some(letter) => 10 * (b"kmgtpe".iter().position(|&known| known == letter)? as u32 + 1),
    };
    if !unit.bytes().all(|letter| letter.is_ascii_alphabetic()) {
        return None;
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut bytes: u128 = u128::from(whole.parse::<u64>().ok()?) << shift;
    if !fraction.is_empty() {
        // Nine digits are more than any size needs and cannot overflow.
        let digits = fraction.get(..fraction.len().min(9))?;
        let parts: u128 = u128::from(digits.parse::<u32>().ok()?) << shift;
        bytes += parts / 10u128.pow(u32::try_from(digits.len()).ok()?);
    }
    u64::try_from(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::parse_size;
    use proptest::prelude::*;

    #[test]
    fn shifters_sizes_are_read_as_shifter_reads_them() {
        for (text, bytes) in [
            ("", 0),
            ("5", 5),
            ("5b", 5),
            ("500K", 512_000),
            ("500KB", 512_000),
            ("100mb", 104_857_600),
            ("1.5M", 1_572_864),
            ("4T", 4 << 40),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["K", "-1", "1 K", "1x", "1.2.3", "20E", "99999999999999999999", "1k5", "."] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*|[0-9.]{0,30}[a-z]{0,3}") {
            let _ = parse_size(&text);
        }
    }
}
