//! The environment comes from caller, image and site: each name is there once, and rules do what they say.
#![no_main]

use image_ref::{Access, Digest, Sidecar};
use libfuzzer_sys::fuzz_target;
use runtime::environment::{candidates, compose};
use runtime::request::{Request, Run, parse};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use udiroot_conf::EnvRules;

static RUN: OnceLock<Run> = OnceLock::new();

fuzz_target!(|input: (Vec<&[u8]>, Vec<&[u8]>, &str)| {
    let (caller, image, rules) = input;
    let digest = Digest::from_bytes([7; 32]);
    let image = Sidecar {
        digest,
        owner: 1,
        access: Access::Public,
        env: image.into_iter().map(<[u8]>::to_vec).collect(),
        entrypoint: Vec::new(),
        cmd: Vec::new(),
        workdir: Vec::new(),
        platform: String::new(),
        made_by: String::new(),
    };
    let run = RUN.get_or_init(|| {
        let word = format!("--digest={}", digest.hex());
        match parse(&[b"", b"run", word.as_bytes()]) {
            Ok(Request::Run(run)) => run,
            other => panic!("{other:?}"),
        }
    });
    // As udiRoot.conf has them, whose parser has a target of its own.
    let items = rules.split(' ').filter_map(|item| item.split_once('='));
    let items = items.filter(|(name, _)| !name.is_empty());
    let rules: Vec<_> = items.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let of_kind = |kind: usize| rules.iter().skip(kind).step_by(3).cloned().collect();
    let site =
        EnvRules { set: of_kind(0), append: of_kind(1), prepend: of_kind(2), unset: Vec::new() };
    let caller: Vec<&[u8]> = caller.into_iter().filter(|item| !item.contains(&0)).collect();
    let made = compose(&caller, &image, run, &[&site]);
    let mut names = BTreeSet::new();
    for item in &made {
        let end = item.iter().position(|byte| *byte == b'=').expect("a variable has a name");
        assert!(end > 0 && names.insert(&item[..end]), "{}", item.escape_ascii());
    }
    // Where a name is set twice, the last one counts.
    let last: BTreeMap<_, _> = site.set.iter().cloned().collect();
    for (name, value) in &last {
        let first = [name.as_bytes(), b"="].concat();
        let is = made.iter().find(|item| item.starts_with(&first)).expect("the site sets it");
        assert!(
            is.windows(value.len().max(1)).any(|part| part == value.as_bytes()) || value.is_empty()
        );
    }
    for program in [&b"sh"[..], b"/bin/sh", b""] {
        for path in candidates(program, &made) {
            assert!(path.ends_with(program));
        }
    }
});
