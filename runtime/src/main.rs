//! gantry-suid, the set-user-id program. The order of its work is in [`runtime::run`].
//!
//! As a product it has neither `std` nor a dynamic loader (`cargo xtask build`); any other build refuses to work.
#![cfg_attr(target_feature = "crt-static", no_std, no_main)]

#[cfg(target_feature = "crt-static")]
extern crate alloc;

#[cfg(target_feature = "crt-static")]
mod start;

#[cfg(not(target_feature = "crt-static"))]
#[allow(clippy::print_stderr)]
fn main() -> std::process::ExitCode {
    eprintln!(
        "gantry: this build of gantry-suid is not the product\nhint: make it with `cargo xtask build`"
    );
    std::process::ExitCode::from(125)
}
