//! One header block: 512 bytes with fixed fields.

use super::TarProblem;

/// A block of an archive.
pub(super) type Block = [u8; 512];

/// The fields that matter; owner, group and device numbers are not published and so not read.
#[derive(Debug)]
pub(super) struct Header {
    pub name: Vec<u8>,
    pub mode: u32,
    pub size: u64,
    pub mtime: i64,
    pub kind: u8,
    pub link: Vec<u8>,
    /// The block itself, for the sparse map of old GNU headers.
    pub block: Box<Block>,
}

/// Parses a header block after checking its sum.
pub(super) fn parse(block: &Block) -> Result<Header, TarProblem> {
    check_sum(block)?;
    let text = |from: usize, length: usize| field(block, from, length);
    let mut name = until_nul(text(0, 100)).to_vec();
    let prefix: &[u8] = match (text(257, 8), text(508, 4)) {
        (b"ustar\x0000", b"tar\0") => text(345, 131),
        (b"ustar\x0000", _) => text(345, 155),
        _ => &[],
    };
    let prefix = until_nul(prefix);
    if !prefix.is_empty() {
        name = [prefix, b"/", &name].concat();
    }
    let number = |from, length, what| parse_number(text(from, length), what);
    let mode = number(100, 8, "mode")?;
    let size = number(124, 12, "size")?;
    Ok(Header {
        name,
        mode: (mode & 0o7777) as u32,
        size: u64::try_from(size).map_err(|_| TarProblem::Number("size"))?,
        mtime: number(136, 12, "mtime")?,
        kind: text(156, 1).first().copied().unwrap_or_default(),
        link: until_nul(text(157, 100)).to_vec(),
        block: Box::new(*block),
    })
}

/// Bytes of a field; every caller stays within the block.
pub(super) fn field(block: &Block, from: usize, length: usize) -> &[u8] {
    block.get(from..from + length).unwrap_or_default()
}

/// Parses octal digits with blanks around them, or a base-256 number if the first bit is set.
///
/// An empty field is 0. Base-256 numbers are in two's complement (GNU tar manual, "Standard Format").
pub(super) fn parse_number(field: &[u8], what: &'static str) -> Result<i64, TarProblem> {
    let bad = TarProblem::Number(what);
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => {
            // Bit 6 is the sign, the top bit only the mark of the form.
            let negative = first & 0x40 != 0;
            let start = i64::from(first & 0x3f) - if negative { 0x40 } else { 0 };
            let append = |value: i64, byte: &u8| {
                value.checked_mul(256).and_then(|value| value.checked_add(i64::from(*byte)))
            };
            rest.iter().try_fold(start, append).ok_or(bad)
        }
        _ => {
            let blank = |byte: &u8| matches!(byte, b' ' | 0);
            let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
            let digits = field.get(start..).unwrap_or_default();
            let end = digits.iter().position(blank).unwrap_or(digits.len());
            let (digits, rest) = digits.split_at(end);
            if !rest.iter().all(blank) {
                return Err(bad);
            }
            let append = |value: i64, digit: &u8| match digit {
                b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
                _ => None,
            };
            digits.iter().try_fold(0, append).ok_or(bad)
        }
    }
}

/// Compares the sum of all bytes, the field of the sum counted as blanks; old writers took bytes as signed.
fn check_sum(block: &Block) -> Result<(), TarProblem> {
    let stored = parse_number(field(block, 148, 8), "checksum")?;
    let counted = |at: usize, byte: u8| if (148..156).contains(&at) { b' ' } else { byte };
    let bytes = || block.iter().enumerate().map(|(at, byte)| counted(at, *byte));
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte as i8)).sum();
    if stored == unsigned || stored == signed { Ok(()) } else { Err(TarProblem::Checksum) }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_with_blanks_or_base_256() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"    755 ", 0o755),
            (b"\0\0\0\0", 0),
            (b"        ", 0),
            (b"77777777777", 0o77_777_777_777),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", 8 << 30),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
            (b"\xff\xfe", -2),
        ] {
            assert_eq!(parse_number(field, "size"), Ok(value), "{field:?}");
        }
    }

    #[test]
    fn what_is_no_number_or_too_large_is_refused() {
        for field in [
            &b"12x"[..],
            b"89",
            b"-1",
            b"12 34",
            b"0x10",
            b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x80\0\0\0\x80\0\0\0\0\0\0\0",
        ] {
            assert!(parse_number(field, "size").is_err(), "{field:?}");
        }
    }
}
