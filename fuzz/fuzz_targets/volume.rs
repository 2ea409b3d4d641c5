//! Volumes come from users and end as mounts made by root: what is taken is absolute, clean and allowed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use udiroot_conf::volume::{Origin, check_target, parse_list};

fuzz_target!(|text: &str| {
    for origin in [Origin::User, Origin::Site] {
        for volume in parse_list(text, origin).unwrap_or_default() {
            for path in [&volume.source, &volume.target] {
                assert!(path.starts_with('/') && !path.split('/').any(|part| part == ".."));
            }
            assert_eq!(check_target(&volume.target, origin), Ok(()));
        }
    }
});
