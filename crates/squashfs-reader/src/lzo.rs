//! LZO1X blocks, decompressed as the kernel's documentation describes the format (`Documentation/staging/lzo.rst`,
//! version 0 of the format).

/// Decompresses `input` into the beginning of `output`; `None` where it is damaged or does not fit.
pub(crate) fn decompress(input: &[u8], output: &mut [u8]) -> Option<usize> {
    let mut block = Block { input, output, written: 0 };
    let mut state = State::Start;
    // The first byte may stand for literals alone, because there is nothing yet to copy from.
    if let Some(first @ 18..) = input.first().copied() {
        block.byte()?;
        let literals = usize::from(first) - 17;
        block.literals(literals)?;
        state = State::after(literals);
    }
    loop {
        let code = usize::from(block.byte()?);
        let (distance, length, literals) = match code {
            0..16 => match state {
                State::Start => {
                    let length = block.length(code, 4)? + 3;
                    block.literals(length)?;
                    state = State::Many;
                    continue;
                }
                State::Few => (usize::from(block.byte()?) * 4 + (code >> 2) + 1, 2, code & 3),
                State::Many => (usize::from(block.byte()?) * 4 + (code >> 2) + 2049, 3, code & 3),
            },
            16..32 => {
                let length = block.length(code & 7, 3)? + 2;
                let operand = block.operand()?;
                let distance = 16_384 + ((code & 8) << 11) + (operand >> 2);
                if distance == 16_384 {
                    // The end; it is always written with this one length.
                    return (length == 3 && block.input.is_empty()).then_some(block.written);
                }
                (distance, length, operand & 3)
            }
            32..64 => {
                let length = block.length(code & 31, 5)? + 2;
                let operand = block.operand()?;
                ((operand >> 2) + 1, length, operand & 3)
            }
            _ => {
                let distance = usize::from(block.byte()?) * 8 + ((code >> 2) & 7) + 1;
                (distance, (code >> 5) + 1, code & 3)
            }
        };
        block.copy(distance, length)?;
        block.literals(literals)?;
        state = State::after(literals);
    }
}

/// How many literals the instruction before had: what the smallest codes mean depends on it.
#[derive(Clone, Copy)]
enum State {
    /// None.
    Start,
    /// One to three.
    Few,
    /// Four or more.
    Many,
}

impl State {
    fn after(literals: usize) -> Self {
        match literals {
            0 => Self::Start,
            1..4 => Self::Few,
            _ => Self::Many,
        }
    }
}

struct Block<'a> {
    input: &'a [u8],
    output: &'a mut [u8],
    written: usize,
}

impl Block<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.input.split_first()?;
        self.input = rest;
        Some(*first)
    }

    fn operand(&mut self) -> Option<usize> {
        let (operand, rest) = self.input.split_first_chunk()?;
        self.input = rest;
        Some(u16::from_le_bytes(*operand).into())
    }

    /// A length whose low `bits` bits stood in the code; if they were all zero, it goes on in the next bytes.
    fn length(&mut self, low: usize, bits: u32) -> Option<usize> {
        if low > 0 {
            return Some(low);
        }
        let mut length = (1 << bits) - 1;
        loop {
            match self.byte()? {
                0 => length += 255,
                last => return Some(length + usize::from(last)),
            }
        }
    }

    fn literals(&mut self, length: usize) -> Option<()> {
        let (literals, rest) = self.input.split_at_checked(length)?;
        self.output.get_mut(self.written..)?.get_mut(..length)?.copy_from_slice(literals);
        self.input = rest;
        self.written += length;
        Some(())
    }

    fn copy(&mut self, distance: usize, length: usize) -> Option<()> {
        let from = self.written.checked_sub(distance)?;
        let end = self.written.checked_add(length)?;
        if end > self.output.len() {
            return None;
        }
        if distance >= length {
            self.output.copy_within(from..from + length, self.written);
        } else {
            // Source and target overlap: bytes that were just written are copied again.
            for to in self.written..end {
                *self.output.get_mut(to)? = *self.output.get(to - distance)?;
            }
        }
        self.written = end;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: [u8; 3] = [0x11, 0, 0];

    fn decompressed(code: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0; 600];
        let length = decompress(&[code, &END].concat(), &mut out)?;
        Some(out[..length].to_vec())
    }

    #[test]
    fn literals_and_copies_of_every_kind_are_written() {
        assert_eq!(decompressed(&[]).unwrap(), b"");
        assert_eq!(decompressed(b"\x15abcd").unwrap(), b"abcd");
        // A long literal run at the start: 3 + 15 + 2 bytes.
        let long = [&[0, 2][..], &[b'x'; 20]].concat();
        assert_eq!(decompressed(&long).unwrap(), [b'x'; 20]);
        // Three bytes from a distance of one, then a literal.
        assert_eq!(decompressed(b"\x15abcd\x41\0z").unwrap(), b"abcddddz");
        // Two bytes after less than four literals.
        assert_eq!(decompressed(b"\x14abc\x04\0").unwrap(), b"abcbc");
        // A copy with a length in further bytes: 2 + 31 + 255 + 1.
        let far = decompressed(b"\x15abcd\x20\0\x01\0\0").unwrap();
        assert_eq!(far.len(), 4 + 289);
        assert!(far[4..].iter().all(|byte| *byte == b'd'));
    }

    #[test]
    fn what_leads_outside_or_ends_early_is_damaged() {
        for code in [
            &b"\x15abc"[..],
            b"\x41\0",
            b"\x15abcd\x40\x01",
            b"\x15abcd\x20\0",
            b"\x15abcd\x00\0",
            b"\x11\0\0",
        ] {
            assert_eq!(decompressed(code), None, "{code:?}");
        }
        assert_eq!(decompress(&[], &mut [0; 9]), None);
        assert_eq!(decompress(b"\x15abcd\x11\0\0", &mut [0; 3]), None);
        let huge = [&b"\x15abcd\x20"[..], &[0; 400], &[1, 0, 0]].concat();
        assert_eq!(decompress(&huge, &mut [0; 9000]), None);
    }
}
