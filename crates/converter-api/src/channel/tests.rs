//! The channel: whole messages, exact descriptors, and bytes that are no message.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;

use image_ref::Digest;
use proptest::prelude::*;

use super::*;
use crate::message::{
    Answer, Convert, Failure, FailureKind, LayerSpec, Options, Plan, Reply, Request,
};
use crate::message::{Compression, PlannedLayer};

fn options() -> Options {
    Options {
        compressor: "zstd:3".into(),
        block_size: 131_072,
        entries: 1,
        expanded_bytes: 2,
        file_bytes: 3,
        ratio: 4,
        workers: None,
    }
}

fn convert(layers: usize, sources: usize) -> Request {
    let digest = Digest::from_bytes([0xab; 32]);
    let layer =
        LayerSpec { digest, diff_id: digest, size: u64::MAX, compression: Compression::Gzip };
    Request::Convert(Convert { options: options(), layers: vec![layer; layers], sources })
}

/// Sends what `Channel::send` would refuse.
fn send_raw(channel: &Channel, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    rustix::net::sendmsg(channel, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)
        .unwrap();
}

#[test]
fn a_message_arrives_whole_with_its_descriptors() {
    let (here, there) = Channel::pair().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let sent = convert(1, 1);
    here.send(&sent, &[writer.as_fd(), reader.as_fd()]).unwrap();
    drop(writer);
    let (received, mut descriptors) = there.receive::<Request>().unwrap().unwrap();
    assert_eq!(received, sent);
    assert_eq!(descriptors.len(), 2);
    let flags = rustix::io::fcntl_getfd(&descriptors[0]).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "they are not inherited by anybody");
    let mut passed = File::from(descriptors.remove(0));
    passed.write_all(b"through").unwrap();
    drop(passed);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
}

#[test]
fn the_largest_image_that_is_allowed_fits_into_a_message() {
    let (here, there) = Channel::pair().unwrap();
    let file = tempfile();
    here.send(&convert(512, 0), &[file.as_fd()]).unwrap();
    let (received, _) = there.receive::<Request>().unwrap().unwrap();
    assert_eq!(received, convert(512, 0));
}

#[test]
fn a_message_of_exactly_the_limit_is_sent_and_one_byte_more_is_not() {
    let (here, there) = Channel::pair().unwrap();
    let reply = |length| {
        Reply::Failed(Failure { kind: FailureKind::Invalid, chain: vec!["x".repeat(length)] })
    };
    let overhead = serde_json::to_vec(&reply(0)).unwrap().len();
    here.send(&reply(MESSAGE_LIMIT - overhead), &[]).unwrap();
    let (received, _) = there.receive::<Reply>().unwrap().unwrap();
    assert_eq!(received, reply(MESSAGE_LIMIT - overhead));
    let error = here.send(&reply(MESSAGE_LIMIT - overhead + 1), &[]).unwrap_err();
    assert!(matches!(error, ChannelError::TooLong), "{error}");
    send_raw(&here, &vec![b' '; MESSAGE_LIMIT + 1], &[]);
    let error = there.receive::<Reply>().unwrap_err();
    assert!(matches!(error, ChannelError::TooLong), "{error}");
}

#[test]
fn the_other_end_going_away_is_the_end_and_no_error() {
    let (here, there) = Channel::pair().unwrap();
    here.send(&Reply::Examined, &[]).unwrap();
    there.send(&Answer::Go { sources: 0 }, &[]).unwrap();
    // It goes without having read what was sent to it.
    drop(here);
    assert_eq!(there.receive::<Reply>().unwrap().unwrap().0, Reply::Examined);
    assert!(there.receive::<Reply>().unwrap().is_none());
    let error = there.send(&Answer::Go { sources: 0 }, &[]).unwrap_err();
    assert!(matches!(error, ChannelError::Socket { operation: "send", .. }), "{error}");
}

#[test]
fn too_few_and_too_many_descriptors_are_refused_and_closed() {
    let (here, there) = Channel::pair().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let examine = serde_json::to_vec(&Request::Examine).unwrap();
    for (count, expected) in [
        (0, "0 descriptors instead of 1"),
        (2, "2 descriptors instead of 1"),
        (100, "more than 64 descriptors"),
    ] {
        send_raw(&here, &examine, &vec![writer.as_fd(); count]);
        let error = there.receive::<Request>().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    for bytes in [&b"\"exa\""[..], b"{}", b"\xff\xfe"] {
        send_raw(&here, bytes, &[writer.as_fd(); 3]);
        let error = there.receive::<Request>().unwrap_err();
        assert!(matches!(error, ChannelError::Malformed(_)), "{error}");
    }
    // Were any copy of the writing end still open, this would wait for ever.
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    let error = here.send(&Request::Examine, &[]).unwrap_err();
    assert!(matches!(error, ChannelError::Descriptors { expected: 1, found: 0 }), "{error}");
}

#[test]
fn a_count_of_sources_that_no_message_can_carry_is_refused() {
    let (here, there) = Channel::pair().unwrap();
    let file = tempfile();
    send_raw(&here, &serde_json::to_vec(&convert(0, usize::MAX)).unwrap(), &[file.as_fd()]);
    assert!(there.receive::<Request>().is_err());
    let many = vec![file.as_fd(); MAX_SOURCES + 1];
    here.send(&convert(0, MAX_SOURCES), &many).unwrap();
    assert_eq!(there.receive::<Request>().unwrap().unwrap().1.len(), MAX_SOURCES + 1);
}

#[test]
fn a_failure_is_cut_to_what_a_message_can_carry() {
    #[derive(Debug, thiserror::Error)]
    #[error("{}", "\u{1}ü".repeat(100_000))]
    struct Endless(#[source] Option<Box<Endless>>);
    let mut error = Endless(None);
    for _ in 0..50 {
        error = Endless(Some(Box::new(error)));
    }
    let (here, there) = Channel::pair().unwrap();
    here.send(&Reply::Failed(Failure::new(FailureKind::Invalid, &error)), &[]).unwrap();
    let (received, _) = there.receive::<Reply>().unwrap().unwrap();
    assert!(matches!(received, Reply::Failed(failure) if failure.chain.len() == 16));
}

/// Some descriptor.
fn tempfile() -> OwnedFd {
    let (reader, _) = std::io::pipe().unwrap();
    assert!(reader.as_raw_fd() > 2);
    reader.into()
}

fn some_reply() -> impl Strategy<Value = Reply> {
    let digest = any::<[u8; 32]>().prop_map(Digest::from_bytes);
    let layer = (digest.clone(), digest.clone(), any::<u64>())
        .prop_map(|(digest, diff_id, size)| PlannedLayer { digest, diff_id, size });
    let texts = || proptest::collection::vec(any::<String>(), 0..4);
    let plan = (digest, texts(), any::<String>(), proptest::collection::vec(layer, 0..4)).prop_map(
        |(digest, texts, text, layers)| Plan {
            digest,
            format: text.clone(),
            env: texts.clone(),
            entrypoint: texts.clone(),
            cmd: texts,
            workdir: text.clone(),
            labels: BTreeMap::from([(text.clone(), text.clone())]),
            created: Some(text.clone()),
            platform: text,
            layers,
        },
    );
    prop_oneof![
        (any::<usize>(), any::<u64>()).prop_map(|(layer, bytes)| Reply::Taken { layer, bytes }),
        (any::<usize>(), any::<bool>())
            .prop_map(|(layer, reused)| Reply::LayerDone { layer, reused }),
        plan.prop_map(Reply::Planned),
        texts().prop_map(|chain| Reply::Failed(Failure { kind: FailureKind::Full, chain })),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(parse::<Request>(&bytes));
        drop(parse::<Answer>(&bytes));
        drop(parse::<Reply>(&bytes));
    }

    #[test]
    fn what_is_written_is_what_is_read(reply in some_reply()) {
        let bytes = serde_json::to_vec(&reply).unwrap();
        prop_assert_eq!(parse::<Reply>(&bytes).unwrap(), reply);
    }

    #[test]
    fn a_message_with_a_byte_changed_never_panics(reply in some_reply(), at: usize, byte: u8) {
        let mut bytes = serde_json::to_vec(&reply).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(changed) = parse::<Reply>(&bytes) {
            prop_assert_eq!(changed.descriptors(), 0);
        }
    }
}
