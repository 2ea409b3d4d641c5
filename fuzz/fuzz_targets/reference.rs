//! References come from every user and name files and requests: what is taken for one survives being written.
#![no_main]

use image_ref::{ImageRef, name_link};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(reference) = text.parse::<ImageRef>() else { return };
    assert_eq!(reference.to_string().parse::<ImageRef>().as_ref(), Ok(&reference));
    if let Some(link) = name_link(&reference) {
        assert!(!link.contains('/') && link != "." && link != ".." && link.len() <= 255);
    }
});
