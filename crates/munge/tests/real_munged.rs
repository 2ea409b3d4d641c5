//! What munged says of good and bad credentials, and what becomes of a request when it is away.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod munged;

use munge::{Context, Decoded, MungeError};
use munged::{Munged, option};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

fn own_id(option: &str) -> u32 {
    let output = Command::new("id").arg(option).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn a_payload_of_any_bytes_comes_back_with_who_sent_it() {
    let munged = Munged::start();
    let context = munged.context().with_ttl(Duration::from_secs(60)).unwrap();
    let every_byte: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    for payload in [&b""[..], b"\0", b"a\0b\0", b"no end", &every_byte] {
        // munged counts whole seconds, by a clock that may be a tick behind ours.
        let before = SystemTime::now() - Duration::from_secs(2);
        let credential = context.encode(payload).unwrap();
        let decoded: Decoded = context.decode(&credential).unwrap();
        assert_eq!(decoded.payload, payload);
        assert_eq!((decoded.uid, decoded.gid), (own_id("-u"), own_id("-g")));
        assert!(decoded.encoded_at >= before && decoded.encoded_at <= SystemTime::now());
        assert_eq!((decoded.ttl, decoded.uid_restriction), (Duration::from_secs(60), None));
    }
    assert!(!munged.log().contains("incomplete"), "munged noticed our probes: {}", munged.log());
}

#[test]
fn a_credential_is_accepted_once() {
    let munged = Munged::start();
    let credential = munged.context().encode(b"once").unwrap();
    assert!(munged.context().decode(&credential).is_ok());
    let error = munged.context().decode(&credential).unwrap_err();
    assert_eq!(error, MungeError::Replayed);
    assert!(error.is_about_credential());
}

#[test]
fn a_credential_expires() {
    let munged = Munged::start();
    let credential = munged.context().with_ttl(Duration::ZERO).unwrap().encode(b"old").unwrap();
    // A new one each time would be young again, and the same one is replayed if it was read before it expired: so the
    // one credential is left alone until munged's clock, in whole seconds, is past its second.
    let born = Instant::now();
    while born.elapsed() < Duration::from_millis(2_100) {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(munged.context().decode(&credential), Err(MungeError::Expired));
}

#[test]
fn a_credential_for_another_user_is_refused_and_what_was_decoded_leaves_no_trace() {
    let munged = Munged::start();
    // Root may decode everything, so the one who is refused is another user.
    let foreign =
        munged.context().with_uid_restriction(4_000_000_000).unwrap().encode(b"").unwrap();
    std::fs::write(munged.file("credential"), &foreign).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "unmunge"])
        .arg(option("--socket", &munged.socket()))
        .arg(option("--input", &munged.file("credential")))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("Unauthorized"), "{output:?}");

    let context = munged.context();
    let own = munged.context().with_uid_restriction(own_id("-u")).unwrap().encode(b"").unwrap();
    assert_eq!(context.decode(&own).unwrap().uid_restriction, Some(own_id("-u")));
    let next = context.encode(b"").unwrap();
    assert_eq!(munged.context().decode(&next).unwrap().uid_restriction, None);
}

#[test]
fn a_dead_munged_is_noticed_at_once_and_its_socket_named() {
    let munged = Munged::start();
    let credential = munged.context().encode(b"").unwrap();
    munged.kill();
    let start = Instant::now();
    for result in
        [munged.context().decode(&credential).map(|_| ()), munged.context().encode(b"").map(|_| ())]
    {
        let error = result.unwrap_err();
        assert!(!error.is_about_credential());
        let MungeError::Socket { path, text } = error else { panic!("{error}") };
        assert_eq!(path, munged.socket());
        assert!(text.contains("refused"), "{text}");
    }
    // libmunge alone takes 2.25 s for each.
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_socket_that_is_not_there_is_named() {
    let path = Path::new("/nonexistent/munge.socket");
    let context = Context::new().unwrap().with_socket(path).unwrap();
    let text = context.encode(b"").unwrap_err().to_string();
    assert_eq!(
        text,
        "cannot talk to munged on /nonexistent/munge.socket: No such file or directory (os error 2)"
    );
}

#[test]
fn what_is_no_credential_of_this_key_is_refused() {
    let (munged, stranger) = (Munged::start(), Munged::start());
    for text in ["", "garbage", "MUNGE:", "MUNGE::", "MUNGE:AwQFAAD:", &"A".repeat(100_000)] {
        assert_eq!(munged.context().decode(text), Err(MungeError::BadCredential), "{text:.20}");
    }
    let foreign = stranger.context().encode(b"x").unwrap();
    assert_eq!(munged.context().decode(&foreign), Err(MungeError::Invalid));
    let too_long = vec![7; 3 << 20];
    assert_eq!(munged.context().encode(&too_long), Err(MungeError::BadLength));
}
