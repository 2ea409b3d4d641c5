//! `cargo xtask build`: everything that people install, gathered in `target/products/`.
//!
//! The set-user-id program is built apart, with its own profile, flags and target directory, and is refused here
//! where it is not a static, position-independent program.

use crate::command;
use crate::elf::Program;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is installed: the name in `target/products/` and the file that cargo makes.
pub(crate) const PRODUCTS: [(&str, &str); 5] = [
    ("gantry-gateway", "gantry-gateway"),
    ("imgctl", "imgctl"),
    ("gantry", "gantry"),
    ("gantry-guard", "gantry-guard"),
    ("spank_gantry.so", "libspank_gantry.so"),
];

/// The set-user-id program.
pub(crate) const SETUID: &str = "gantry-suid";

/// The program that makes images, with a profile of its own.
pub(crate) const CONVERTER: &str = "gantry-convert";

/// The converter for processors of the level x86-64-v3 (Haswell, Zen and later), named as it is installed. Its inflate
/// is a third faster there: what it does for each byte is then inlined, instructions included.
pub(crate) const CONVERTER_V3: &str = "x86-64-v3/gantry-convert";

/// Whether there is a [`CONVERTER_V3`]: only this architecture has levels.
pub(crate) const HAS_LEVELS: bool = cfg!(target_arch = "x86_64");

/// Static, but loaded at an address that the kernel chooses.
const SETUID_FLAGS: &str = "-C relocation-model=pie -C target-feature=+crt-static";

/// Builds and gathers the products; with `debug` all but the set-user-id program are built without optimisation.
///
/// # Errors
/// Where a build fails or the set-user-id program is not what it must be.
pub(crate) fn run(debug: bool) -> Result<()> {
    let start = Instant::now();
    let target = target_directory()?;
    let products = products_directory()?;
    fs::create_dir_all(&products).with_context(|| format!("cannot make {}", products.display()))?;

    let mut build = command::cargo();
    build.args(["build", "--package=gateway", "--package=cli", "--package=spank-plugin"]);
    if !debug {
        build.arg("--release");
    }
    command::run(&mut build)?;
    let built = target.join(if debug { "debug" } else { "release" });
    for (name, file) in PRODUCTS {
        gather(&built.join(file), &products.join(name))?;
    }
    build_converters(&target, &products, debug)?;
    build_setuid(&target, &products)?;
    println!("{}: {:.1} s", products.display(), start.elapsed().as_secs_f64());
    Ok(())
}

/// Where the products are gathered.
///
/// # Errors
/// Where cargo does not say where it builds.
pub(crate) fn products_directory() -> Result<PathBuf> {
    Ok(target_directory()?.join("products"))
}

/// Builds the converter for all processors and for those of a level.
///
/// The latter in a directory of its own: with other flags cargo would build everything anew in the same one, each time.
fn build_converters(target: &Path, products: &Path, debug: bool) -> Result<()> {
    let levels = HAS_LEVELS.then(|| (target.join("x86-64-v3"), "-C target-cpu=x86-64-v3"));
    for (directory, flags, name) in [(target.to_path_buf(), None, CONVERTER)]
        .into_iter()
        .chain(levels.map(|(directory, flags)| (directory, Some(flags), CONVERTER_V3)))
    {
        let mut build = command::cargo();
        build.args(["build", "--package=converter", "--bin=gantry-convert", "--target-dir"]);
        build.arg(&directory).arg(if debug { "--profile=dev" } else { "--profile=converter" });
        if let Some(flags) = flags {
            build.env("RUSTFLAGS", flags).env_remove("CARGO_ENCODED_RUSTFLAGS");
        }
        command::run(&mut build)?;
        let to = products.join(name);
        let above = to.parent().context("it has a directory")?;
        fs::create_dir_all(above).with_context(|| format!("cannot make {}", above.display()))?;
        gather(&directory.join(if debug { "debug" } else { "converter" }).join(CONVERTER), &to)?;
    }
    Ok(())
}

fn build_setuid(target: &Path, products: &Path) -> Result<()> {
    let directory = target.join("setuid");
    command::run(
        command::cargo()
            .args(["build", "--package=runtime", "--profile=setuid", "--target-dir"])
            .arg(&directory)
            .env("RUSTFLAGS", SETUID_FLAGS)
            .env_remove("CARGO_ENCODED_RUSTFLAGS"),
    )?;
    let built = directory.join("setuid").join(SETUID);
    check_setuid(&built)?;
    gather(&built, &products.join(SETUID))
}

/// Refuses a set-user-id program that would need a loader, a library or a fixed address.
pub(crate) fn check_setuid(path: &Path) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let program = Program::parse(&bytes).with_context(|| format!("{}", path.display()))?;
    match program.faults().as_slice() {
        [] => Ok(()),
        faults => bail!("{} may not be set-user-id: {}", path.display(), faults.join(", ")),
    }
}

/// Copies aside and renames, so that a program that runs keeps its file.
fn gather(from: &Path, to: &Path) -> Result<()> {
    let aside = to.with_extension("new");
    let size = fs::copy(from, &aside)
        .with_context(|| format!("cannot copy {} to {}", from.display(), aside.display()))?;
    fs::rename(&aside, to).with_context(|| format!("cannot rename {}", aside.display()))?;
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    println!("{name:<16} {:>8} KiB", size.div_ceil(1024));
    Ok(())
}

fn target_directory() -> Result<PathBuf> {
    let text = command::output_of(command::cargo().args([
        "metadata",
        "--offline",
        "--no-deps",
        "--format-version=1",
    ]))?;
    let json: serde_json::Value = serde_json::from_str(&text)?;
    let directory =
        json["target_directory"].as_str().context("cargo metadata: no target directory")?;
    Ok(PathBuf::from(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_may_not_be_set_user_id() {
        let error = check_setuid(&std::env::current_exe().unwrap()).unwrap_err();
        assert!(error.to_string().contains("may not be set-user-id"), "{error}");
    }
}
