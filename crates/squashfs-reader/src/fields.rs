//! Little-endian fields, one after the other, out of bytes that may end too early.

/// Reads fields from a place in a table on.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// There are not as many bytes as a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutOff;

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where the next field stands.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], CutOff> {
        let end = self.at.checked_add(length).ok_or(CutOff)?;
        let taken = self.bytes.get(self.at..end).ok_or(CutOff)?;
        self.at = end;
        Ok(taken)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, CutOff> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CutOff> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CutOff> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CutOff> {
        self.take(N)?.try_into().map_err(|_| CutOff)
    }
}
