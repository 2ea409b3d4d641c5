//! What may be linked into the programs that run as root or inside Slurm.

use super::{Finding, Tree};

/// The crates whose whole closure is looked at.
pub(super) const GUARDED: [&str; 2] = ["runtime", "spank-plugin"];

/// Everything that the set-user-id program may consist of, without any feature: what ours have behind one is not counted
/// by `budget`. A further name needs a reviewer's written yes.
const RUNTIME_SET: [&str; 3] = ["image-ref", "udiroot-conf", "libc"];

/// HTTP, TLS, JSON and async have no place in srun, slurmd or slurmstepd.
const NEVER_IN_SLURM: [&str; 16] = [
    "tokio",
    "mio",
    "futures-util",
    "async-trait",
    "axum",
    "hyper",
    "http",
    "reqwest",
    "ureq",
    "rustls",
    "native-tls",
    "openssl",
    "serde",
    "serde_json",
    "clap",
    "rusqlite",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for guarded in GUARDED {
        let Some(closure) = tree.closures.get(guarded) else {
            findings.push(Finding::error(guarded, "cargo did not say what is linked into it"));
            continue;
        };
        for name in closure {
            let allowed = match guarded {
                "runtime" => RUNTIME_SET.contains(&name.as_str()),
                _ => !NEVER_IN_SLURM.contains(&name.as_str()),
            };
            if !allowed {
                findings.push(Finding::error(
                    format!("{guarded}/Cargo.toml"),
                    format!("`{name}` may not be linked into `{guarded}`"),
                ));
            }
        }
    }
    findings
}
