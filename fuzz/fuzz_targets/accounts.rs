//! Account lines come from users and the image, and become files that programs believe: no line makes two.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime::accounts::{merge_groups, merge_passwd};
use runtime::caller::Caller;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (own, image) = input;
    let caller = Caller { uid: 1000, gid: 100, groups: vec![50] };
    let of_image = image.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    // A mutation hardly finds the caller's ids; with them at hand it finds the rest.
    let with_ids = [b"a:x:1000:100:", own].concat();
    for line in [own, &with_ids] {
        if let Some(text) = merge_passwd(line, image, &caller) {
            let first = text.split(|byte| *byte == b'\n').next().unwrap();
            assert_eq!(first, line);
            let fields: Vec<&[u8]> = first.split(|byte| *byte == b':').collect();
            assert!(fields.len() == 7 && !fields[0].is_empty());
            assert_eq!(std::str::from_utf8(fields[2]).unwrap().parse(), Ok(1000));
            let lines = text.iter().filter(|byte| **byte == b'\n').count();
            assert!(lines <= 1 + of_image && text.ends_with(b"\n"));
        }
    }
    let with_gid = [b"g:x:50:", own].concat();
    let lines = [own.to_vec(), with_gid];
    for lines in [&lines[..1], &lines[1..], &lines[..]] {
        if let Some(text) = merge_groups(lines, image, &caller) {
            for (line, own) in text.split(|byte| *byte == b'\n').zip(lines) {
                assert_eq!(line, own);
                let gid = line.split(|byte| *byte == b':').nth(2).unwrap();
                let gid: u32 = std::str::from_utf8(gid).unwrap().parse().unwrap();
                assert!([50, 100].contains(&gid));
            }
            let count = text.iter().filter(|byte| **byte == b'\n').count();
            assert!(count <= lines.len() + of_image);
        }
    }
});
