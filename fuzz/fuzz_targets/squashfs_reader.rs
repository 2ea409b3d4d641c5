//! Squashfs images come from users, and from our own writer if that was led astray: any bytes end in an answer, what may
//! be published may also be read, and a stream is an archive to its end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use squashfs_reader::{Limits, Rules, examine, stream};
use std::io::Read;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { table_bytes: 1 << 20, ..Limits::default() };
    let published = examine(bytes, &Rules { limits: limits.clone(), ..Rules::published() });
    let imported = stream(bytes, &Rules { limits, ..Rules::imported() });
    if let Ok(findings) = published {
        assert_eq!(findings.special, 0);
        assert_eq!(imported.as_ref().ok().map(|stream| *stream.findings()), Some(findings));
    }
    let Ok(source) = imported else { return };
    let mut tar = Vec::new();
    let most = 4 << 20;
    if let Ok(length) = source.take(most).read_to_end(&mut tar)
        && (length as u64) < most
    {
        assert!(length % 512 == 0 && tar.ends_with(&[0; 1024]));
    }
});
