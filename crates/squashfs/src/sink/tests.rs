//! Copying between files: runs that are joined, aligned middles, sources that end early.

use super::*;

/// Bytes of which no two neighbouring pages are equal.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 15)) as u8).collect()
}

fn holding(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// What comes of appended bytes and ranges, with a head of 96 bytes.
fn check(parts: &[(usize, u64, u64)], source: &File) {
    let out = tempfile::tempfile().unwrap();
    let mut sink = Sink::new(&out, 96);
    let bytes = content(source);
    let mut expected = vec![7; 96];
    for (fresh, offset, length) in parts {
        sink.append(&pattern(*fresh)).unwrap();
        expected.extend(pattern(*fresh));
        sink.copy_from(source, *offset, *length).unwrap();
        expected.extend(&bytes[*offset as usize..(*offset + *length) as usize]);
        assert_eq!(sink.position(), expected.len() as u64);
    }
    assert_eq!(sink.finish(&[7; 96]).unwrap(), expected.len() as u64);
    assert!(content(&out) == expected, "{parts:?}");
}

#[test]
fn ranges_and_bytes_stand_in_the_order_in_which_they_were_appended() {
    let source = holding(&pattern(6_000_000));
    check(&[(0, 96, 5_000_000)], &source); // as the system can share it
    check(&[(10, 1, 3_000_000), (0, 3_000_001, 2_000_000), (5, 0, 1)], &source);
    check(&[(1 << 20, 5, 100), (0, 105, 70_000), (3, 4096, 0)], &source);
    check(&[((1 << 20) - 96, 0, 2 << 20), (2 << 20, 7, 4096)], &source);
    for length in 65_530..65_540 {
        check(&[(4000, 100, length), (0, 0, length)], &source);
    }
}

#[test]
fn a_source_on_another_file_system_is_copied_by_hand() {
    let Ok(mut source) = tempfile::tempfile_in("/dev/shm") else { return };
    io::Write::write_all(&mut source, &pattern(3_000_000)).unwrap();
    check(&[(100, 0, 3_000_000)], &source);
}

#[test]
fn a_source_that_is_too_short_is_an_error_that_says_so() {
    let source = holding(&pattern(300_000));
    for (offset, length) in [(0, 300_001), (299_999, 2), (500_000, 1), (4096, 400_000)] {
        let out = tempfile::tempfile().unwrap();
        let mut sink = Sink::new(&out, 96);
        sink.copy_from(&source, offset, length).unwrap();
        let error = sink.finish(&[0; 96]).unwrap_err();
        assert!(matches!(error, WriteError::Copy { .. }), "{error:?}");
    }
}
