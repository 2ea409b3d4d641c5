//! The configuration is the admin's, but root reads it: no text panics, and all programs accept and refuse the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use udiroot_conf::CommandConf;

fuzz_target!(|bytes: &[u8]| {
    let commands = CommandConf::parse(bytes);
    match udiroot_conf::parse(bytes) {
        Ok(conf) => {
            assert!(conf.image_path.starts_with('/') && conf.image_owner != Some(u32::MAX));
            assert!(conf.modules(None).is_ok());
            assert_eq!(commands.map(|commands| commands.conf), Ok(conf));
        }
        Err(error) => assert_eq!(commands.err(), Some(error)),
    }
});
