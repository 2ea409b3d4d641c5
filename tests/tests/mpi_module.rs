//! The host's MPI in an image, by a module made as docs/admin.md says: another build than the image's, or a refusal.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::Write as _;
use std::process::Command;
use tests::caller::{ALICE, ROOT};
use tests::cluster::layers;
use tests::images::{Image, Layer, Packing, Tree, busybox_with};
use tests::install::CONF;
use tests::machine::workspace;
use tests::science::{DIRECTORY, WITH_MPICH, base, is_solved, science};
use tests::{Cluster, Plan, on_a_machine};

#[test]
fn privileged_a_program_built_with_debians_mpich_runs_with_another_one_of_the_host() -> Result<()> {
    base()?; // made where there is a network
    let host = host_mpich()?;
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        make_module(&host)?;
        let image = science(&layers(), 0)?;
        let option = format!("--image={}", cluster.push("science:1", &image)?.reference);
        let command = format!("cd {DIRECTORY} && LD_DEBUG=libs exec {WITH_MPICH}");
        for (module, library) in [
            ("--module=mpich", format!("{MODULE}/libmpich.so.12")),
            ("--module=none", "/lib/x86_64-linux-gnu/libmpich.so.12".to_string()),
        ] {
            let words = ["srun", "-N3", "--ntasks-per-node=1", "--mpi=pmi2", &option, module];
            // UCX takes nodes with one kernel for one node and reaches for memory that they do not share.
            let fabric = [("MPIR_CVAR_CH4_NETMOD", "ofi"), ("FI_PROVIDER", "tcp")];
            let ended = ALICE.run_with(&[&words[..], &["sh", "-c", &command]].concat(), &fabric)?;
            ensure!(is_solved(&ended.stdout), "{module}: {ended}");
            // What the loader says of each task: which libraries it started.
            let started: Vec<&str> = ended
                .stderr
                .lines()
                .filter_map(|line| line.split_once("calling init: "))
                .map(|(_, path)| path.trim())
                .filter(|path| path.contains("/libmpi"))
                .collect();
            ensure!(started == [&library[..]; 3], "{module}: {started:?}");
            ended.ok()?;
        }
        // What the user's guide shows, and an image that has every other library but that of the MPICH ABI.
        let seen = format!("ldd {WITH_MPICH} | grep libmpi");
        let seen = ALICE.run(&["srun", &option, "--module=mpich", "sh", "-c", &seen])?.ok()?;
        ensure!(seen.contains(&format!("libmpich.so.12 => {MODULE}/libmpich.so.12")), "{seen}");
        let open_mpi = cluster.push("science:2", &without_mpich(image)?)?.reference;
        let option = format!("--image={open_mpi}");
        let refused = ALICE.run(&["srun", &option, "--module=mpich", "echo", "ran"])?;
        for line in [
            "gantry: the image's MPI is Open MPI (/usr/lib/x86_64-linux-gnu/libmpi.so.40): \
             the host's, of the MPICH ABI, cannot take its place\n",
            "hint: `--module=none` runs with the MPI of the image\n",
        ] {
            ensure!(refused.stderr.contains(line), "{refused}");
        }
        ensure!(refused.stdout.is_empty(), "{refused}");
        refused.failed_with(125)?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_an_image_in_which_the_hosts_mpi_cannot_work_is_refused_with_a_sentence() -> Result<()>
{
    base()?;
    let host = host_mpich()?;
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        make_module(&host)?;
        let small: [(&[&str], &str); 5] = [
            (&[], "the image has no MPI library"),
            (&["lib/ld-musl-x86_64.so.1"], "the image has the C library musl"),
            (
                &["lib/libmpi.so.12", "lib/libopen-rte.so.12"],
                "the image's MPI is Open MPI (/lib/libmpi.so.12)",
            ),
            (&["lib/libmpich.so.10"], "an MPICH older than 3.1 (/lib/libmpich.so.10)"),
            (&["lib/libmpi.so.12"], "the image has no /lib64/ld-linux-x86-64.so.2"),
        ];
        for (number, (files, reason)) in small.into_iter().enumerate() {
            let image = busybox_with(&layers(), |tree| {
                tree.directory("lib", 0o755)?;
                files.iter().try_for_each(|name| tree.file(name, 0o644, b"").map(drop))
            })?;
            let reference = cluster.push(&format!("small:{number}"), &image)?.reference;
            expect_refusal(&reference, "mpich", reason)?;
        }
        // The same module as if the host's library were of a time to come.
        let needs = format!("{MODULE}/needs");
        let newer = fs::read_to_string(&needs)?.replace("needed_glibc=2.", "needed_glibc=2.9");
        fs::write(&needs, newer)?;
        let reference = cluster.push("science:1", &science(&layers(), 0)?)?.reference;
        expect_refusal(&reference, "mpich", "the image's glibc is 2.36, the host's MPI needs 2.9")?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_no_module_is_made_of_a_library_of_another_abi_or_over_one_in_use() -> Result<()> {
    let host = host_mpich()?;
    on_a_machine(|machine| {
        tests::install::install(machine)?;
        make_module(&host)?;
        fs::write("/srv/libmpi.so.40", "")?;
        let library = format!("{host}/libmpi.so.12");
        for (words, reason) in [
            (["a", "/srv/libmpi.so.40", "/opt/mpi/a"], "not the libmpi.so.12 of the MPICH ABI"),
            (["a", &library, MODULE], "is there already"),
            (["a_b", &library, "/opt/mpi/a"], "no module can be called `a_b`"),
            (["a", &library, "/opt/mpi/a;b"], "cannot name the directory"),
            (["a", "/usr/bin/libmpi.so.12", "/opt/mpi/a"], "cannot read /usr/bin/libmpi.so.12"),
        ] {
            let refused = ROOT.run(&[&[MAKE][..], &words].concat())?;
            ensure!(refused.stderr.contains(reason), "{words:?}: {refused}");
            refused.failed_with(1)?;
        }
        ensure!(!fs::exists("/opt/mpi")?, "a refused module left a directory");
        // What the library opens by itself is kept as it lies there.
        fs::create_dir_all("/srv/plugins")?;
        fs::copy(format!("{host}/mpich/libfabric.so.1"), "/srv/plugins/own.so")?;
        ROOT.run(&[MAKE, "b", &library, "/opt/mpi/b", "/srv/plugins"])?.ok()?;
        // Without its own directory this copy of the library lacks what lies there.
        fs::copy(&library, "/srv/plugins/lacks.so")?;
        let lacks = ROOT.run(&[MAKE, "c", &library, "/opt/mpi/c", "/srv/plugins"])?;
        ensure!(lacks.stderr.contains("lacks.so needs: libfabric.so.1"), "{lacks}");
        lacks.failed_with(1)?;
        ensure!(!fs::exists("/opt/mpi/c")? && !fs::exists("/opt/mpi/c.new")?, "left behind");
        for (path, there) in [("plugins/own.so", true), ("own.so", false), (".plugins", false)] {
            ensure!(fs::exists(format!("/opt/mpi/b/{path}"))? == there, "{path}");
        }
        Ok(())
    })
}

fn expect_refusal(image: &str, module: &str, reason: &str) -> Result<()> {
    ALICE.run(&["imgctl", "pull", image])?.ok()?;
    let options = [format!("--image={image}"), format!("--module={module}")];
    let refused = ALICE.run(&["gantry", &options[0], &options[1], "echo", "ran"])?;
    ensure!(refused.stderr.contains(reason), "expected `{reason}`: {refused}");
    ensure!(refused.stderr.contains("hint: `--module=none`"), "{refused}");
    ensure!(refused.stdout.is_empty(), "{refused}");
    refused.failed_with(125)?;
    let runs = ALICE.run(&["gantry", &options[0], "--module=none", "echo", "ran"])?.ok()?;
    ensure!(runs == "ran\n", "{runs}");
    Ok(())
}

/// Where the host's MPI is: the wheel's library, kept in `target/cache`. Needs the network the first time.
fn host_mpich() -> Result<String> {
    let script = workspace().join("scripts/make-host-mpich");
    let output = Command::new(&script)
        .arg(workspace().join("target/cache"))
        .output()
        .with_context(|| format!("cannot run {}", script.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed:\n{said}", script.display());
    Ok(String::from_utf8(output.stdout)?.trim().to_string())
}

/// Does what docs/admin.md says: makes the module and puts the lines that it prints into udiRoot.conf.
fn make_module(host: &str) -> Result<()> {
    let lines = ROOT.run(&[MAKE, "mpich", &format!("{host}/libmpi.so.12"), MODULE])?.ok()?;
    fs::File::options().append(true).open(CONF)?.write_all(lines.as_bytes())?;
    Ok(())
}

fn without_mpich(mut image: Image) -> Result<Image> {
    let mut tree = Tree::new();
    for name in ["libmpich.so.12", "libmpich.so.12.2.2"] {
        tree.whiteout(&format!("usr/lib/x86_64-linux-gnu/{name}"))?;
    }
    image.layers.push(Layer::pack(&layers(), &tree.finish()?, Packing::Gzip)?);
    Ok(image)
}

const MAKE: &str = "/usr/libexec/gantry/gantry-mpi-module";

/// Where the module lies on every node, and in every image.
const MODULE: &str = "/opt/gantry-mpi/mpich-5.0";
