//! The words come from users and decide what root does: what is taken is within limits, and says nothing twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime::request::{Request, Workdir, parse};

/// The words that a mutation would hardly find; a byte from 0x80 on stands for one of them.
const KNOWN: [&[u8]; 23] = [
    b"\0gantry-suid\0run\0--digest=",
    b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    b"\0--request=",
    b"\0--volume=/",
    b":/",
    b":ro",
    b"\0--workdir",
    b"\0--workdir=/",
    b"\0--env=A=",
    b"\0--clearenv",
    b"\0--entrypoint",
    b"\0--entrypoint=/",
    b"\0--keep-fd=",
    b"\0--passwd=",
    b"\0--group=",
    b"\0--explain",
    b"\0--",
    b"\0prepare",
    b"\0release",
    b"\0hold",
    b"\0--job=",
    b"\0--fd=",
    b"\0--digest=",
];

fuzz_target!(|bytes: &[u8]| {
    let mut text = Vec::new();
    for byte in bytes {
        match byte.checked_sub(0x80).and_then(|index| KNOWN.get(usize::from(index))) {
            Some(word) => text.extend_from_slice(word),
            None => text.push(*byte),
        }
    }
    // A NUL byte is between words, as the kernel has them.
    let words: Vec<&[u8]> = text.split(|byte| *byte == 0).collect();
    let behind_verb = words.get(2..).unwrap_or_default();
    let times = |name: &[u8]| {
        let options = behind_verb.iter().take_while(|word| **word != b"--");
        options.filter(|word| word.split(|byte| *byte == b'=').next() == Some(name)).count()
    };
    match parse(&words) {
        Ok(Request::Run(run)) => {
            assert_eq!(words[1], b"run");
            assert_eq!(times(b"--digest"), 1);
            assert!(times(b"--workdir") <= 1 && times(b"--passwd") <= 1);
            assert!(run.volumes.len() <= 64 && run.volumes.len() >= times(b"--volume"));
            assert_eq!((run.env.len(), run.groups.len()), (times(b"--env"), times(b"--group")));
            assert!(run.keep_fds.iter().all(|number| *number >= 0));
            if let Workdir::Path(path) = run.workdir {
                assert!(path.starts_with(b"/") && path.len() <= 4095);
            }
            let behind = behind_verb.iter().skip_while(|word| **word != b"--").skip(1);
            assert!(behind.eq(run.command.iter()));
        }
        Ok(Request::Hold(_, number)) => assert!(words[1] == b"hold" && number >= 0),
        Ok(Request::Prepare(..)) => assert_eq!((times(b"--digest"), times(b"--job")), (1, 1)),
        Ok(Request::Release(_)) => assert_eq!((times(b"--digest"), times(b"--job")), (0, 1)),
        // What is said about it is short and cannot write to a terminal.
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 8192 && !text.chars().any(char::is_control), "{text:?}");
        }
    }
});
