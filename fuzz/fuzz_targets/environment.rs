//! The environment comes from caller, image and site: each name is there once, and rules do what they say.
#![no_main]

use image_ref::{Access, Digest, Sidecar};
use libfuzzer_sys::fuzz_target;
use runtime::environment::{candidates, compose};
use runtime::request::{Request, parse};
use std::collections::{BTreeMap, BTreeSet};
use udiroot_conf::Conf;

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
    let word = format!("--digest={}", digest.hex());
    let Ok(Request::Run(run)) = parse(&[b"", b"run", word.as_bytes()]) else { panic!("refused") };
    let rules = rules.replace('\n', " ");
    let text =
        format!("imagePath=/i\nsiteEnv={rules}\nsiteEnvAppend={rules}\nsiteEnvPrepend={rules}\n");
    let site = udiroot_conf::parse(text).map(|conf: Conf| conf.site_env).unwrap_or_default();
    let caller: Vec<&[u8]> = caller.into_iter().filter(|item| !item.contains(&0)).collect();
    let made = compose(&caller, &image, &run, &[&site]);
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
