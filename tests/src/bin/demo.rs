//! `./demo`: a cluster to look at and to try, on a machine of its own like every test's.
//!
//! It stays up until `down`; nothing of it is seen outside its namespaces, and an installed Gantry is not touched.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it shows")]

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tests::caller::ALICE;
use tests::images::push;
use tests::machine::workspace;
use tests::registry::Registry;
use tests::slurm::submit;
use tests::{Cluster, Machine, Plan, science, wait};

/// A Slurm cluster with Gantry on this machine, to look at and to try.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Starts the cluster and shows a job in an image on each of its nodes
    Up,
    /// A shell as the user alice on the cluster
    Shell,
    /// Ends the cluster; nothing is left of it
    Down,
    /// Holds the cluster: run by `up` in its namespaces
    #[command(hide = true)]
    Hold,
    /// Shows what there is to show: run by `up` in the cluster's namespaces
    #[command(hide = true)]
    Show,
}

fn main() -> Result<()> {
    match Arguments::parse().action {
        Action::Up => up(),
        Action::Shell => {
            let inside =
                ["setpriv", "--reuid=alice", "--regid=alice", "--init-groups", "env", "-i"];
            let term = format!("TERM={}", std::env::var("TERM").unwrap_or("dumb".into()));
            let mut shell = enter(&running()?.context("no demo is running\nhint: ./demo")?)?;
            shell.args(inside).args(["-C", "/home/alice", "HOME=/home/alice", "USER=alice"]);
            shell.args(["PATH=/usr/bin:/bin:/usr/sbin:/sbin", &term, "bash", "-i"]);
            Err(shell.exec()).context("cannot enter the cluster")
        }
        Action::Down => down(),
        Action::Hold => hold(),
        Action::Show => show(),
    }
}

fn up() -> Result<()> {
    if running()?.is_none() {
        fs::remove_dir_all(directory()).ok();
        fs::create_dir_all(directory())?;
        science::base()?;
        println!("demo: starting munged, two registries, the gateway, slurmctld and three slurmd");
        let log = fs::File::create(directory().join("log"))?;
        let mut child = Machine::command(&directory(), &std::env::current_exe()?, &["hold"])
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("cannot run unshare")?;
        fs::write(directory().join("pid"), child.id().to_string())?;
        wait::until("the cluster to be up", Duration::from_secs(120), || {
            if let Some(status) = child.try_wait()? {
                let log = fs::read_to_string(directory().join("log")).unwrap_or_default();
                bail!("the cluster ended with {status}:\n{log}");
            }
            Ok(directory().join("srv/ready").exists().then_some(()))
        })?;
    }
    let init = running()?.context("the cluster is gone\nhint: see target/demo/log")?;
    let shown = enter(&init)?.arg(std::env::current_exe()?).arg("show").status()?;
    ensure!(shown.success(), "the demonstration failed; the cluster is up, see ./demo shell");
    println!("\ndemo: the cluster is up. Try it:");
    println!("  ./demo shell       a shell as the user alice; there, for instance:");
    println!("                       srun -N3 --image={IMAGE} python3 --version");
    println!("                       imgctl list");
    println!("                       sinfo");
    println!("  ./demo down        ends it; nothing is left");
    Ok(())
}

fn down() -> Result<()> {
    if let Some(init) = running()? {
        Command::new("kill").args(["-9", &init]).status()?;
        let proc = Path::new("/proc").join(&init);
        wait::until("the cluster's end", Duration::from_secs(30), || {
            Ok((!proc.exists()).then_some(()))
        })?;
    }
    match fs::remove_dir_all(directory()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("cannot remove target/demo")
        }
        _ => {
            println!("demo: down; nothing is left");
            Ok(())
        }
    }
}

/// In the namespaces: starts everything and keeps it until it is killed.
fn hold() -> Result<()> {
    let machine = Machine::enter(Path::new("/"), &directory())?;
    let _cluster = Cluster::start(&machine, Plan::default())?;
    fs::write("/srv/ready", "")?;
    loop {
        std::thread::park();
    }
}

/// In the namespaces: from an image in a registry to its processes on every node.
fn show() -> Result<()> {
    println!(
        "demo: making an image with Python and an MPI program, and pushing it to the registry"
    );
    let image = science::science(Path::new("/srv/layers"), 0)?;
    push(&Registry::running(5000), "science:1", &image)?;
    println!("\nalice$ imgctl pull {IMAGE}");
    let pulled = ALICE.command(&["imgctl", "pull", IMAGE]).status()?;
    ensure!(pulled.success(), "the pull ended with {pulled}");
    let solve = format!("cd {} && exec {}", science::DIRECTORY, science::WITH_MPICH);
    let text = format!(
        "#!/bin/bash\n\
         #SBATCH --image={IMAGE}\n\
         #SBATCH --nodes=3\n\
         echo \"the batch script runs on the host: $(. /etc/os-release; echo $PRETTY_NAME)\"\n\
         echo '--- srun: on every node, inside the image'\n\
         srun sh -c '. /etc/os-release; echo \"$SLURMD_NODENAME, uid $(id -u): $PRETTY_NAME\"'\n\
         echo '--- srun --image=none: on the host'\n\
         srun --image=none sh -c '. /etc/os-release; echo \"$SLURMD_NODENAME: $PRETTY_NAME\"'\n\
         echo '--- srun --mpi=pmi2: one LU factorization over three nodes'\n\
         srun --mpi=pmi2 sh -c '{solve}' | tail -n 12\n"
    );
    let script = ALICE.script("job.sh", &text)?;
    println!("\nalice$ cat job.sh\n{text}\nalice$ sbatch job.sh");
    let job = submit(&ALICE, &[&script.display().to_string()])?;
    println!("Submitted batch job {0}\n\nalice$ cat slurm-{0}.out", job.id);
    print!("{}", job.completed()?);
    Ok(())
}

/// The process that holds the namespaces of a running demo.
fn running() -> Result<Option<String>> {
    let Ok(outer) = fs::read_to_string(directory().join("pid")) else { return Ok(None) };
    let line = fs::read(format!("/proc/{outer}/cmdline")).unwrap_or_default();
    if !line.starts_with(b"unshare\0") || !line.ends_with(b"hold\0") {
        return Ok(None);
    }
    let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"))?;
    Ok(children.split_whitespace().next().map(str::to_string))
}

/// The beginning of a command that runs where `init` does.
fn enter(init: &str) -> Result<Command> {
    ensure!(!init.is_empty(), "the demo has no process");
    let mut command = Command::new("nsenter");
    command.args(["--target", init, "--mount", "--net", "--pid", "--uts", "--ipc", "--"]);
    Ok(command)
}

fn directory() -> PathBuf {
    workspace().join("target/demo")
}

/// The image of the demonstration.
const IMAGE: &str = "docker:localhost:5000/science:1";
