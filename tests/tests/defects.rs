//! A panic in each of the plugin's callbacks, in a real Slurm: the catalogue's P04.
//!
//! The product has no switch for it. The test builds the plugin from the same source with one line more in each
//! callback, which panics where a file says so.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;
use tests::caller::{ALICE, ROOT};
use tests::machine::workspace;
use tests::{Cluster, Plan, on_a_machine};

#[test]
fn privileged_p04_a_panic_in_any_callback_ends_its_own_step_and_nothing_else() -> Result<()> {
    on_a_machine(|machine| {
        let defective = build_defective()?;
        let mut cluster = Cluster::start(machine, Plan { nodes: 1, ..Plan::default() })?;
        // Beside it and moved: slurmd has the old one mapped.
        ROOT.run(&["cp", &defective, "/usr/lib/defective.so"])?.ok()?;
        ROOT.run(&["mv", "/usr/lib/defective.so", PLUGIN])?.ok()?;
        let image = cluster.pull_busybox(&ALICE)?.reference;
        let option = format!("--image={image}");
        let inside = ["srun", &option, "grep", "^ID=", "/etc/os-release"];
        ensure!(ALICE.run(&inside)?.ok()? == "ID=gantry-test\n");
        for (program, hook, code) in [
            // In the client nothing is submitted.
            ("srun", "init", None),
            ("srun", "option", None),
            ("srun", "client", Some(1)),
            // On the node the task ends, as the user is told, and slurmstepd with it as ever.
            ("slurmstepd", "init", Some(125)),
            ("slurmstepd", "option", Some(125)),
            ("slurmstepd", "step", Some(125)),
            ("slurmstepd", "task", Some(125)),
        ] {
            fs::write(SWITCH, format!("{program} {hook}"))?;
            let outcome = ALICE.run(&inside)?;
            let context = || format!("{hook} of {program}: {outcome}");
            ensure!(outcome.code > 0 && outcome.code != 124, "{}", context());
            ensure!(code.is_none_or(|code| outcome.code == code), "{}", context());
            ensure!(outcome.stdout.is_empty(), "it ran: {}", context());
            ensure!(outcome.stderr.contains(TOLD), "not told: {}", context());
            fs::remove_file(SWITCH)?;
            cluster.check_nothing_left().with_context(context)?;
            ensure!(ALICE.run(&inside)?.ok()? == "ID=gantry-test\n");
        }
        ensure!(cluster.slurm.node("node1")?.log().contains("slurmd version"));
        cluster.check_nothing_left()
    })
}

/// Builds the plugin with a panic in each callback, apart from everything, and returns its path.
fn build_defective() -> Result<String> {
    let (from, to) = (workspace(), workspace().join("target/defective"));
    for member in ["spank-plugin", "udiroot-conf", "crates/image-ref"] {
        fs::create_dir_all(to.join(member))?;
        let source = from.join(member).display().to_string() + "/.";
        ROOT.run(&["cp", "-a", &source, &to.join(member).display().to_string()])?.ok()?;
    }
    fs::copy(from.join("Cargo.lock"), to.join("Cargo.lock"))?;
    let manifest = fs::read_to_string(from.join("Cargo.toml"))?;
    let (head, rest) = manifest.split_once("members = [").context("a workspace has members")?;
    let (_, rest) = rest.split_once("[workspace.package]").context("it has a package table")?;
    let members = r#"members = ["spank-plugin", "udiroot-conf", "crates/image-ref"]"#;
    fs::write(to.join("Cargo.toml"), format!("{head}{members}\n\n[workspace.package]{rest}"))?;
    insert_panics(&to.join("spank-plugin/src/dispatch.rs"))?;
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--package=spank-plugin"])
        .current_dir(&to)
        .env("CARGO_TARGET_DIR", to.join("target"))
        .output()?;
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Ok(to.join("target/debug/libspank_gantry.so").display().to_string())
}

/// Puts a call of a function that may panic into each callback.
fn insert_panics(dispatch: &Path) -> Result<()> {
    let mut text = fs::read_to_string(dispatch)?;
    for (hook, line) in [
        ("init", "let config = config::parse(words);"),
        ("option", "state().options.take(number, text)"),
        ("client", "let State { config, options, first, .. } = &mut *state;"),
        ("step", "let plan = stepd::plan("),
        ("task", "spank.unset_job_variable(variables::INSIDE);"),
    ] {
        ensure!(text.matches(line).count() == 1, "`{line}` is not once in {}", dispatch.display());
        let call = format!("injected(\"{hook}\");");
        let with = if hook == "option" {
            format!("({{ {call} {line} }})")
        } else {
            format!("{call} {line}")
        };
        text = text.replace(line, &with);
    }
    fs::write(dispatch, text + INJECTED).context("cannot write the defective plugin")
}

const INJECTED: &str = r#"
fn injected(hook: &str) {
    let program = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let wanted = std::fs::read_to_string("/srv/panic").unwrap_or_default();
    assert!(wanted != format!("{} {hook}", program.trim()), "injected");
}
"#;

/// Says in which program which callback panics.
const SWITCH: &str = "/srv/panic";

const TOLD: &str = "defect in the Slurm plugin: injected";

const PLUGIN: &str = "/usr/lib/x86_64-linux-gnu/slurm-wlm/spank_gantry.so";
