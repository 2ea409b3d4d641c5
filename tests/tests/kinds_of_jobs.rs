//! Jobs of every kind that Slurm has: heterogeneous ones, arrays, interactive ones, and a site's TaskProlog.

use anyhow::{Result, ensure};
use tests::caller::{ALICE, ROOT};
use tests::cluster::layers;
use tests::images::busybox_with;
use tests::slurm::submit;
use tests::{Cluster, Plan, on_a_machine};

/// What says where a task runs: the image's name or the host's.
const WHERE: &str = "grep ^ID= /etc/os-release";

#[test]
fn privileged_a_heterogeneous_job_has_one_image_and_its_steps_may_have_others() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let one = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        let other = busybox_with(&layers(), |tree| {
            tree.file("etc/os-release", 0o644, b"ID=other\n").map(|_| ())
        })?;
        let other = cluster.push("other:1", &other)?.reference;
        let other = format!("--image={other}");
        let steps = format!("#!/bin/sh\nsrun --het-group=0 {WHERE}\nsrun --het-group=1 {WHERE}\n");
        let script = ALICE.script("job.sh", &steps)?.display().to_string();
        let words = ["-N1", &one, ":", "-N1", &script];
        let said = submit(&ALICE, &words)?.completed()?;
        ensure!(said == "ID=gantry-test\nID=gantry-test\n", "{said}");
        let both = format!("srun -N1 {one} {WHERE} : -N1 {WHERE}");
        let said = ALICE.run(&both.split(' ').collect::<Vec<_>>())?.ok()?;
        ensure!(said == "ID=gantry-test\nID=gantry-test\n", "{both}: {said}");
        let step = format!("salloc -N1 {one} : -N1 srun --het-group=1 {other} {WHERE}");
        let said = ALICE.run(&step.split(' ').collect::<Vec<_>>())?.ok()?;
        ensure!(said == "ID=other\n", "{step}: {said}");
        // Slurm would give one of the two to both.
        for line in [
            format!("srun -N1 {one} true : -N1 {other} true"),
            format!("sbatch -N1 {one} : -N1 {other} {script}"),
            format!("sbatch -N1 : -N1 {other} {script}"),
        ] {
            let refused = ALICE.run(&line.split(' ').collect::<Vec<_>>())?;
            ensure!(refused.stderr.contains("has one image for all"), "{line}: {refused}");
            refused.failed()?;
        }
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_every_task_of_an_array_runs_inside_the_image() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        let text =
            "#!/bin/sh\nsrun sh -c 'grep ^ID= /etc/os-release; echo $SLURM_ARRAY_TASK_ID' >>out\n";
        let script = ALICE.script("job.sh", text)?.display().to_string();
        ALICE.run(&["sbatch", "--wait", "--array=1-4", &option, &script])?.ok()?;
        let said = std::fs::read_to_string(ALICE.home().join("out"))?;
        ensure!(said.matches("ID=gantry-test\n").count() == 4, "{said}");
        let mut numbers: Vec<&str> = said.lines().filter(|line| line.len() == 1).collect();
        numbers.sort_unstable();
        ensure!(numbers == ["1", "2", "3", "4"], "{said}");
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_an_interactive_shell_is_on_the_host_and_its_steps_are_inside() -> Result<()> {
    on_a_machine(|machine| {
        let settings = "LaunchParameters=use_interactive_step\n";
        let mut cluster = Cluster::start(machine, Plan { settings, ..Plan::default() })?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        // salloc runs the user's shell on the first node; this one needs nobody to type.
        let steps =
            format!("#!/bin/sh\n{WHERE}\nsrun {WHERE}\nsrun --image=none {WHERE}\nexit 3\n");
        let shell = format!("SHELL={}", ALICE.script("shell", &steps)?.display());
        let salloc = format!("env {shell} salloc {option}");
        let words = ["script", "--quiet", "--return", "--command", &salloc, "/dev/null"];
        let said = ALICE.run(&words)?;
        let shown: Vec<&str> = said
            .stdout
            .lines()
            .map(|line| line.trim().trim_start_matches("^@"))
            .filter(|line| line.starts_with("ID="))
            .collect();
        ensure!(shown == ["ID=debian", "ID=gantry-test", "ID=debian"], "{said}");
        said.failed_with(3)?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_a_sites_task_prolog_runs_on_the_host() -> Result<()> {
    on_a_machine(|machine| {
        let settings = "TaskProlog=/root-owned/task-prolog\n";
        std::fs::create_dir_all("/root-owned")?;
        let text = format!("#!/bin/sh\necho \"print prolog: $({WHERE})\"\necho export SEEN=1\n");
        std::fs::write("/root-owned/task-prolog", text)?;
        ROOT.run(&["chmod", "0755", "/root-owned/task-prolog"])?.ok()?;
        let mut cluster = Cluster::start(machine, Plan { settings, ..Plan::default() })?;
        let option = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        let words = ["srun", &option, "sh", "-c", "echo $SEEN; grep ^ID= /etc/os-release"];
        let said = ALICE.run(&words)?.ok()?;
        ensure!(said == "prolog: ID=debian\n1\nID=gantry-test\n", "{said}");
        cluster.check_nothing_left()
    })
}
