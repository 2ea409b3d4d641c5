//! Links the product statically against musl, with the toolchain's ordinary target.
//!
//! Only where `cargo xtask build` asks for it by `-C target-feature=+crt-static`: every other build, such as
//! clippy's or the tests', links as usual.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MUSL_GCC");
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if !features.split(',').any(|feature| feature == "crt-static") {
        return;
    }
    for argument in ["-nostdlib", "-nostartfiles", "-static-pie"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    // The libc crate asks for `-lc`, which must be musl's too.
    let library = find("libc.a");
    println!("cargo::rustc-link-arg-bins=-L{}", library.trim_end_matches("/libc.a"));
    for object in ["rcrt1.o", "crti.o", "libc.a", "crtn.o"] {
        println!("cargo::rustc-link-arg-bins={}", find(object));
    }
}

/// Finds a file of musl's: where Debian's musl-dev puts it, else where musl-gcc says.
fn find(object: &str) -> String {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let debian = format!("/usr/lib/{architecture}-linux-musl/{object}");
    if Path::new(&debian).exists() {
        return debian;
    }
    let compiler = env::var("MUSL_GCC").unwrap_or_else(|_| "musl-gcc".into());
    let asked = Command::new(&compiler).arg(format!("-print-file-name={object}")).output();
    match asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()) {
        Ok(path) if Path::new(&path).is_absolute() => path,
        _ => panic!(
            "musl's {object} is neither at {debian} nor known to {compiler}: install musl-tools"
        ),
    }
}
