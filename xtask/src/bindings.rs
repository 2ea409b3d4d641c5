//! `cargo xtask bindings`: declarations of libmunge and of Slurm's plugin interface, made by bindgen.
//!
//! The results are committed, so a build of the products needs neither libclang nor Slurm's headers. This is the
//! only place that says what is taken from the headers.

use crate::command;
use anyhow::{Context, Result, bail};
use bindgen::{Builder, EnumVariation, Formatter};
use std::fs;
use std::path::Path;

/// One committed file of declarations.
struct Bindings {
    /// Where it lies, from the root of the workspace.
    path: &'static str,
    /// What bindgen reads: a header that includes the real ones.
    header: &'static str,
    /// The first lines of the file, and declarations that are ours to make.
    head: &'static [&'static str],
    functions: &'static [&'static str],
    types: &'static [&'static str],
    constants: &'static [&'static str],
    /// Names that are left out although something allowed leads to them.
    blocked: &'static [&'static str],
}

const ALL: [Bindings; 2] = [
    Bindings {
        path: "crates/munge/src/bindings.rs",
        header: "#include <errno.h>\n#include <stdlib.h>\n#include <munge.h>\n",
        head: &[
            "//! Declarations of libmunge, made by `cargo xtask bindings` from munge.h and never edited by hand.",
            "//!",
            "//! `cargo xtask bindings --check` compares this file with the installed header.",
            "#![allow(unsafe_code, missing_docs, non_camel_case_types, dead_code)]",
        ],
        functions: &[
            "munge_encode",
            "munge_decode",
            "munge_strerror",
            "munge_ctx_(create|copy|destroy|strerror|get|set)",
            "free",
        ],
        types: &["munge_(opt|err|ttl|uid)", "time_t"],
        constants: &["EPROTOTYPE"],
        blocked: &[],
    },
    Bindings {
        path: "spank-plugin/src/spank/bindings.rs",
        header: "#include <slurm/spank.h>\n",
        head: &[
            "//! What Slurm offers its plugins, made by `cargo xtask bindings` from slurm/spank.h and never edited by hand.",
            "//!",
            "//! `cargo xtask bindings --check` compares this file with the installed header.",
            "#![allow(unsafe_code, missing_docs, non_camel_case_types, dead_code, unreachable_pub)]",
            "",
            "/// An error of Slurm. The header's enum differs from release to release; zero is success in all of them.",
            "pub type spank_err_t = ::core::ffi::c_uint;",
        ],
        functions: &[
            "spank_(strerror|context|option_register|get_item)",
            "spank_(getenv|setenv|unsetenv|job_control_setenv)",
            "slurm_(error|debug|spank_log)",
        ],
        types: &["spank_(option|item|context)"],
        constants: &[],
        blocked: &["spank_err_t", "slurm_err_t"],
    },
];

/// Writes every file of declarations, or compares what is committed with what would be written.
///
/// # Errors
/// Where libclang or a header is missing, and with `check` where a file differs.
pub(crate) fn run(check: bool) -> Result<()> {
    let root = command::workspace_root();
    let mut differing = 0;
    for bindings in &ALL {
        let path = root.join(bindings.path);
        let fresh = generate(&root, bindings)?;
        if !check {
            fs::write(&path, fresh).with_context(|| format!("cannot write {}", bindings.path))?;
            println!("bindings: wrote {}", bindings.path);
            continue;
        }
        let committed =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", bindings.path))?;
        let changes = differences(&committed, &fresh);
        for change in &changes {
            eprintln!("{}: {change}", bindings.path);
        }
        differing += usize::from(!changes.is_empty());
    }
    if differing > 0 {
        bail!(
            "bindings: {differing} file(s) differ from the installed headers\n\
             hint: `cargo xtask bindings` writes them anew"
        );
    }
    if check {
        println!("bindings: {} files agree with the installed headers", ALL.len());
    }
    Ok(())
}

fn generate(root: &Path, bindings: &Bindings) -> Result<String> {
    let mut builder = Builder::default()
        .header_contents("bindings.h", bindings.header)
        .use_core()
        .default_enum_style(EnumVariation::Consts)
        .prepend_enum_name(false)
        .merge_extern_blocks(true)
        .generate_comments(false)
        .disable_header_comment()
        .formatter(Formatter::Rustfmt)
        .rustfmt_configuration_file(Some(root.join("rustfmt.toml")));
    builder = bindings.functions.iter().fold(builder, Builder::allowlist_function);
    builder = bindings.types.iter().fold(builder, Builder::allowlist_type);
    builder = bindings.constants.iter().fold(builder, Builder::allowlist_var);
    builder = bindings.blocked.iter().fold(builder, Builder::blocklist_item);
    let declarations =
        builder.generate().with_context(|| format!("cannot make {}", bindings.path))?.to_string();
    Ok(format!("{}\n\n{}", bindings.head.join("\n"), declarations.trim_start()))
}

/// The first lines that are not the same on both sides; none where the texts are equal.
fn differences(committed: &str, fresh: &str) -> Vec<String> {
    const SHOWN: usize = 10;
    let (mut old, mut new) = (committed.lines(), fresh.lines());
    let mut changes = Vec::new();
    let mut line = 0;
    loop {
        line += 1;
        match (old.next(), new.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => {
                changes.extend(a.map(|text| format!("line {line}: - {text}")));
                changes.extend(b.map(|text| format!("line {line}: + {text}")));
            }
        }
    }
    if changes.is_empty() && committed != fresh {
        changes.push("differs in line ends".to_string());
    }
    changes.truncate(SHOWN);
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_bindings_agree_with_the_installed_headers() {
        run(true).unwrap();
    }

    #[test]
    fn a_changed_line_is_shown_on_both_sides() {
        assert_eq!(differences("a\nb\n", "a\nb\n"), Vec::<String>::new());
        assert_eq!(differences("a\nb\n", "a\nc\n"), ["line 2: - b", "line 2: + c"]);
        assert_eq!(differences("a\n", "a\nb\n"), ["line 2: + b"]);
        assert_eq!(differences("a\n", "a"), ["differs in line ends"]);
    }
}
