//! The built plugin as Slurm meets it: its symbols, and srun of the installed Slurm with it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The library, built now: cargo builds no cdylib for tests, and an old one may lie about.
fn plugin() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            // <target>/debug/deps/loading-...: the same target directory, so that nothing is compiled twice.
            let own = std::env::current_exe().unwrap();
            let target = own.ancestors().nth(3).unwrap();
            let status = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--package=spank-plugin", "--target-dir"])
                .arg(target)
                .status()
                .unwrap();
            assert!(status.success(), "the plugin does not build");
            target.join("debug/libspank_gantry.so")
        })
        .clone()
}

/// The dynamic symbols that nm(1) lists with this option.
fn symbols(which: &str) -> Vec<String> {
    let output = Command::new("nm").args(["-D", which]).arg(plugin()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

#[test]
fn only_what_slurm_looks_for_is_exported() {
    let mut exported = symbols("--defined-only");
    exported.sort();
    assert_eq!(
        exported,
        [
            "plugin_name",
            "plugin_type",
            "plugin_version",
            "slurm_spank_init",
            "slurm_spank_init_post_opt",
            "slurm_spank_task_init",
        ]
    );
}

#[test]
fn nothing_that_an_older_slurm_lacks_is_linked() {
    let mut needed = symbols("--undefined-only");
    needed.retain(|name| name.starts_with("spank_") || name.starts_with("slurm_"));
    needed.sort();
    assert_eq!(
        needed,
        [
            "slurm_debug",
            "slurm_error",
            "slurm_spank_log",
            "spank_context",
            "spank_get_item",
            "spank_getenv",
            "spank_job_control_setenv",
            "spank_option_register",
            "spank_setenv",
            "spank_strerror",
            "spank_unsetenv",
        ]
    );
}

/// srun with the plugin and `words` in plugstack.conf; no daemon is needed as far as this goes.
fn srun(words: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let plugstack = directory.path().join("plugstack.conf");
    let conf = directory.path().join("slurm.conf");
    fs::write(&plugstack, format!("required {} {words}\n", plugin().display())).unwrap();
    fs::write(
        &conf,
        format!(
            "ClusterName=none\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=1\nPlugStackConfig={}\n\
             NodeName=n1 NodeAddr=127.0.0.1\nPartitionName=p Nodes=n1 Default=YES\n",
            plugstack.display()
        ),
    )
    .unwrap();
    let output = Command::new("srun")
        .args(arguments)
        .env("SLURM_CONF", &conf)
        .env_remove("SLURM_JOB_ID")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn the_installed_slurm_accepts_the_plugin_and_shows_its_options() {
    let (code, help) = srun("", &["--help"]);
    assert_eq!(code, Some(0), "{help}");
    assert!(help.contains("--image=REFERENCE|none"), "{help}");
    assert!(help.contains("--volume=FROM:TO[:ro][;...]"), "{help}");
}

#[test]
fn a_wrong_reference_ends_srun_with_the_reason() {
    let (code, text) = srun("", &["--image=docker:Org/app", "true"]);
    assert!(code.is_some_and(|code| code != 0), "{text}");
    assert!(text.contains("--image=docker:Org/app: `Org` has capital letters"), "{text}");
}

#[test]
fn an_image_that_cannot_be_resolved_ends_srun_before_slurm_is_asked() {
    let (code, text) = srun("imgctl=/nonexistent/imgctl", &["--image=docker:a", "true"]);
    assert_eq!(code, Some(1), "{text}");
    let sentence = "cannot start `/nonexistent/imgctl`: No such file or directory";
    assert!(text.contains(sentence), "{text}");
    assert_eq!(text.lines().count(), 1, "one sentence and nothing else: {text}");
}
