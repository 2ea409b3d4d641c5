//! Extended headers: PAX records and what they, or GNU's long names, override in the header that follows.

use super::TarProblem;
use super::sparse::{Map, Segment};

/// Everything that extended headers said about the next member.
#[derive(Debug, Default)]
pub(super) struct Extended {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub mtime: Option<i64>,
    pub long_name: Option<Vec<u8>>,
    pub long_link: Option<Vec<u8>>,
    pub sparse: SparseRecords,
    seen: bool,
}

/// The records about a sparse file, in the three forms that GNU tar has written.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    /// The true name, where `path` is made up for readers that know no sparse files.
    pub name: Option<Vec<u8>>,
    major: u64,
    size: Option<u64>,
    /// Offsets and lengths, alternating, of forms 0.0 and 0.1.
    numbers: Vec<u64>,
    listed: bool,
    in_data: bool,
}

/// Where the map of a file is, if it is sparse.
#[derive(Debug)]
pub(super) enum SparseMap {
    None,
    Listed(Map),
    InData { size: u64 },
}

impl Extended {
    pub(super) fn is_empty(&self) -> bool {
        !self.seen && self.long_name.is_none() && self.long_link.is_none()
    }

    /// Takes the records of one PAX header: `LENGTH KEY=VALUE\n` each (POSIX.1-2017, pax, "Extended Header").
    ///
    /// An empty value takes back what was said before. Keys that do not matter here are passed over, such as owners,
    /// because everything is published as root's, and extended attributes, because none is published.
    pub(super) fn take_pax(&mut self, mut records: &[u8]) -> Result<(), TarProblem> {
        self.seen = true;
        while !records.is_empty() {
            let (key, value, rest) = split_record(records).ok_or(TarProblem::PaxRecord)?;
            records = rest;
            self.take_record(key, value).ok_or(TarProblem::PaxRecord)?;
        }
        Ok(())
    }

    fn take_record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let number = || parse_decimal(value);
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = if value.is_empty() { None } else { Some(number()?) },
            b"mtime" => self.mtime = if value.is_empty() { None } else { Some(seconds(value)?) },
            b"GNU.sparse.name" => self.sparse.name = text(value)?,
            b"GNU.sparse.major" => {
                self.sparse.major = number()?;
                self.sparse.in_data = self.sparse.major > 0;
            }
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = Some(number()?),
            // Form 0.0: one record for each number, offset and length by turns.
            b"GNU.sparse.offset" => {
                let expected = self.sparse.numbers.len().is_multiple_of(2);
                expected.then(|| self.sparse.numbers.push(0))?;
                *self.sparse.numbers.last_mut()? = number()?;
                self.sparse.listed = true;
            }
            b"GNU.sparse.numbytes" => {
                let expected = !self.sparse.numbers.len().is_multiple_of(2);
                expected.then_some(())?;
                self.sparse.numbers.push(number()?);
            }
            b"GNU.sparse.map" => {
                let numbers = value.split(|byte| *byte == b',').filter(|part| !part.is_empty());
                self.sparse.numbers = numbers.map(parse_decimal).collect::<Option<_>>()?;
                self.sparse.listed = true;
            }
            _ => {}
        }
        Some(())
    }
}

impl SparseRecords {
    /// Decides on the form; a record of one that is not known is an error, because the data would be misread.
    pub(super) fn into_map(self) -> Result<SparseMap, TarProblem> {
        let bad = TarProblem::SparseMap;
        if self.in_data {
            return match (self.major, self.size) {
                (1, Some(size)) => Ok(SparseMap::InData { size }),
                _ => Err(bad),
            };
        }
        match self.size {
            // A file that is one hole has no numbers in form 0.0.
            Some(size) => {
                let pairs = self.numbers.chunks(2).map(|pair| match pair {
                    [offset, length] => Ok(Segment { offset: *offset, length: *length }),
                    _ => Err(TarProblem::SparseMap),
                });
                Ok(SparseMap::Listed(Map { segments: pairs.collect::<Result<_, _>>()?, size }))
            }
            None if self.listed => Err(bad),
            None => Ok(SparseMap::None),
        }
    }
}

/// Cuts the first record off: key, value, and what follows.
fn split_record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(parse_decimal(records.get(..space)?)?).ok()?;
    let body = records.get(space + 1..length)?;
    let body = body.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let key = body.get(..equals).filter(|key| !key.is_empty())?;
    Some((key, body.get(equals + 1..)?, records.get(length..)?))
}

/// A name: without NUL, which would end it early for other readers; empty means that there is none.
fn text(value: &[u8]) -> Option<Option<Vec<u8>>> {
    if value.contains(&0) {
        return None;
    }
    Some((!value.is_empty()).then(|| value.to_vec()))
}

pub(super) fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Whole seconds, rounded down, of a decimal number with sign and fraction.
fn seconds(value: &[u8]) -> Option<i64> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(parse_decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let below = negative && fraction.iter().any(|digit| *digit != b'0');
    Some(if negative { -whole - i64::from(below) } else { whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(records: &[u8]) -> Result<Extended, TarProblem> {
        let mut extended = Extended::default();
        extended.take_pax(records).map(|()| extended)
    }

    #[test]
    fn records_override_and_empty_values_take_back() {
        let extended = take(b"10 path=a\n12 size=077\n20 mtime=-1.5000000\n").unwrap();
        assert_eq!(extended.path.as_deref(), Some(&b"a"[..]));
        assert_eq!(extended.size, Some(77), "PAX numbers are decimal");
        assert_eq!(extended.mtime, Some(-2));
        assert_eq!(take(b"10 path=a\n8 path=\n").unwrap().path, None);
        let newline = take(b"13 path=a\n\nb\n").unwrap();
        assert_eq!(newline.path.as_deref(), Some(&b"a\n\nb"[..]));
    }

    #[test]
    fn malformed_records_are_refused() {
        for records in [
            &b"x"[..],
            b"8 path=a\n",
            b"11 path=a\n",
            b"10 path=a ",
            b"99999999999999999999 path=a\n",
            b"0 a=b\n",
            b"2 \n",
            b"5 =a\n",
            b"11 path=a\0\n",
            b"12 size=-17\n",
            b"9 size=x\n",
            b"25 GNU.sparse.numbytes=1\n",
        ] {
            assert_eq!(take(records).err(), Some(TarProblem::PaxRecord), "{:?}", records);
        }
    }

    #[test]
    fn sparse_records_of_an_unknown_form_are_refused() {
        let map = |records: &[u8]| take(records).unwrap().sparse.into_map();
        assert!(matches!(map(b""), Ok(SparseMap::None)));
        assert!(map(b"22 GNU.sparse.major=2\n26 GNU.sparse.realsize=10\n").is_err());
        assert!(map(b"22 GNU.sparse.major=1\n").is_err(), "no size");
        assert!(map(b"24 GNU.sparse.map=0,1,2\n21 GNU.sparse.size=9\n").is_err(), "odd");
    }
}
