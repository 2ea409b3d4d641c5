//! Which blocks of a layer an image holds, and where: most stand one behind the other, so runs are counted.

use super::Part;
use super::coding::{Decoder, Encoder};
use crate::units::{Places, Units, length};

/// Encodes the places of a layer's units.
pub(crate) fn encode_places(units: &Units, places: &Places) -> Option<Part> {
    let mut encoder = Encoder::default();
    let mut expected = 0;
    for ((_, words), offset) in units.iter().zip(&places.offsets) {
        match offset {
            None => encoder.number(0),
            Some(offset) => {
                encoder.number(1);
                encoder.delta(*offset, expected);
                expected = offset + length(words);
            }
        }
    }
    encoder.finish()
}

/// Decodes the places of a layer's units, all of which lie between `start` and `end` of the image.
pub(crate) fn decode_places(part: &Part, units: &Units, start: u64, end: u64) -> Option<Places> {
    let expanded = part.expand()?;
    let mut decoder = Decoder::new(&expanded);
    let mut offsets = Vec::with_capacity(units.list.len());
    let mut expected = 0;
    for (_, words) in units.iter() {
        offsets.push(match decoder.number()? {
            0 => None,
            1 => {
                let offset = decoder.delta(expected)?;
                expected = offset.checked_add(length(words))?;
                if start.checked_add(expected)? > end {
                    return None;
                }
                Some(offset)
            }
            _ => return None,
        });
    }
    decoder.finish()?;
    Some(Places { start, offsets })
}
