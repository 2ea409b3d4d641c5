//! The argument grammar: what is understood, and that everything else is refused.

use super::*;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use proptest::prelude::*;

fn parse_words(words: &[&str]) -> Result<Request, UsageError> {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    parse(&words)
}

fn digest_option() -> String {
    format!("--digest={}", "a".repeat(64))
}

fn run(options: &[&str]) -> Result<Run, UsageError> {
    let digest = digest_option();
    let words: Vec<&str> = ["gantry-suid", "run", &digest].iter().chain(options).copied().collect();
    match parse_words(&words)? {
        Request::Run(run) => Ok(run),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_option_of_run_is_understood() {
    let request = run(&[
        "--request=docker:x:1",
        "--volume=/a:/b:ro",
        "--volume=/c:/d",
        "--workdir=/w",
        "--env=A=b=c",
        "--env=E=",
        "--clearenv",
        "--entrypoint",
        "--keep-fd=5",
        "--passwd=u:x:1:1::/:/bin/sh",
        "--group=g:x:1:u",
        "--explain",
        "--",
        "prog",
        "--digest=x",
        "--",
    ])
    .unwrap();
    assert_eq!(request.request.as_deref(), Some("docker:x:1"));
    assert_eq!(request.volumes.len(), 2);
    assert_eq!(request.workdir, Workdir::Path(b"/w".to_vec()));
    assert_eq!(request.env, [b"A=b=c".to_vec(), b"E=".to_vec()]);
    assert!(request.clear_environment && request.explain);
    assert_eq!(request.entrypoint, Entrypoint::Image);
    assert_eq!((request.keep_fds, request.groups.len()), (vec![5], 1));
    assert_eq!(request.command, [b"prog".to_vec(), b"--digest=x".to_vec(), b"--".to_vec()]);
}

#[test]
fn optional_values_are_told_from_absent_ones() {
    assert_eq!(run(&["--workdir"]).unwrap().workdir, Workdir::Image);
    assert_eq!(run(&[]).unwrap().workdir, Workdir::Caller);
    let program = run(&["--entrypoint=/e"]).unwrap().entrypoint;
    assert_eq!(program, Entrypoint::Program(b"/e".to_vec()));
    assert!(run(&["--entrypoint="]).is_err());
}

#[test]
fn roots_verbs_take_their_own_options_only() {
    let digest = digest_option();
    let hold = parse_words(&["g", "hold", &digest, "--fd=3"]).unwrap();
    assert!(matches!(hold, Request::Hold(_, 3)));
    let prepare = parse_words(&["g", "prepare", &digest, "--job=77"]).unwrap();
    assert!(matches!(prepare, Request::Prepare(_, Job(77))));
    assert_eq!(parse_words(&["g", "release", "--job=77"]), Ok(Request::Release(Job(77))));
    for words in [
        &["g", "prepare", &digest][..],
        &["g", "prepare", "--job=1"],
        &["g", "hold", &digest, "--fd=-1"],
        &["g", "release", "--job=../x"],
        &["g", "release", "--job="],
        &["g", "release", "--job=1", &digest],
        &["g", "release", "--job=1", "--volume=/a:/b"],
        &["g", "release", "--job=1", "--", "x"],
        &["g", "release", "--job=1", "--job=1"],
        &["g", "umount", "--job=1"],
    ] {
        assert!(parse_words(words).is_err(), "{words:?}");
    }
}

#[test]
fn r27_an_empty_argument_list_is_a_usage_error() {
    assert_eq!(parse(&[]), Err(UsageError::NoVerb));
    assert_eq!(parse(&[b""]), Err(UsageError::NoVerb));
    assert_eq!(parse(&[b"", b""]), Err(UsageError::Unknown(vec![])));
}

#[test]
fn r31_only_64_lower_case_digits_are_a_digest() {
    let hex = "a".repeat(64);
    for text in [
        "",
        "../../etc/passwd",
        "/etc/passwd",
        ".",
        "..",
        &hex[1..],
        &format!("{hex}a"),
        &hex.to_uppercase(),
        &format!("{}\n", &hex[1..]),
        &format!("sha256:{hex}"),
        &"a".repeat(4096),
    ] {
        let word = format!("--digest={text}");
        assert!(parse_words(&["g", "run", &word]).is_err(), "{text}");
    }
    assert_eq!(parse_words(&["g", "run", "--", "x"]), Err(UsageError::Missing("--digest")));
}

#[test]
fn unknown_repeated_and_malformed_words_are_refused() {
    for word in [
        "-v",
        "--volumes=/a:/b",
        "--volume",
        "--volume=",
        "--volume=;",
        "--volume=/a:/etc",
        "--env",
        "--env=",
        "--env=A",
        "--env==x",
        "--clearenv=1",
        "--explain=1",
        "--keep-fd",
        "--keep-fd=+1",
        "--keep-fd=x",
        "--keep-fd=4294967295",
        "--workdir=",
        "--workdir=tmp",
        "command",
        "",
        "--digest=",
        "--passwd",
        "--group",
        "--request",
        "--job=1",
    ] {
        assert!(run(&[word]).is_err(), "{word}");
    }
    assert!(matches!(run(&["--passwd=a", "--passwd=b"]), Err(UsageError::Repeated(_))));
    let volumes: Vec<String> = (0..257).map(|n| format!("--volume=/a:/m{n}")).collect();
    let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
    assert!(run(&volumes[..256]).is_ok());
    assert_eq!(run(&volumes), Err(UsageError::TooManyVolumes));
}

#[test]
fn the_command_may_be_anything() {
    let digest = digest_option();
    let long = vec![b'x'; 1 << 20];
    let words: Vec<&[u8]> = vec![b"g", b"run", digest.as_bytes(), b"--", b"\xff\xfe", &long, b""];
    let Ok(Request::Run(request)) = parse(&words) else { panic!("refused") };
    assert_eq!(request.command, [b"\xff\xfe".to_vec(), long.clone(), vec![]]);
}

#[test]
fn a_message_does_not_repeat_a_long_word() {
    let error = run(&[&"x".repeat(1 << 20)]).unwrap_err();
    assert!(error.to_string().len() < 400);
}

proptest! {
    #[test]
    fn no_words_make_the_parser_panic(
        words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
    ) {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let _ = parse(&words);
    }

    #[test]
    fn no_option_value_makes_the_parser_panic(
        name in "--(digest|request|volume|workdir|env|entrypoint|keep-fd|passwd|group|job|fd)",
        value in proptest::collection::vec(any::<u8>(), 0..80),
        verb in "run|prepare|release|hold",
    ) {
        let word: Vec<u8> = name.bytes().chain([b'=']).chain(value).collect();
        let _ = parse(&[b"g", verb.as_bytes(), &word]);
    }
}
