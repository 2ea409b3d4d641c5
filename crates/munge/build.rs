//! Links libmunge. The declarations are committed, so neither munge.h nor libclang is needed here.

fn main() {
    println!("cargo:rustc-link-lib=munge");
    println!("cargo:rerun-if-changed=build.rs");
}
