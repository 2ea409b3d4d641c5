//! The fixtures themselves: what the other tests stand on.

use anyhow::{Result, ensure};
use std::time::Duration;
use tests::caller::{ALICE, ROOT};
use tests::images::{busybox, push};
use tests::munged::Munged;
use tests::registry::Registry;
use tests::slurm::{Plugin, Slurm, SlurmPlan, submit};
use tests::{on_a_machine, wait};

#[test]
fn privileged_a_machine_is_apart_from_its_host() -> Result<()> {
    let marker = "/etc/gantry-was-here";
    on_a_machine(|_machine| {
        std::fs::write(marker, "")?;
        let groups = ALICE.run(&["id", "-nG"])?.ok()?;
        assert_eq!(groups.trim(), "alice science");
        Ok(())
    })?;
    ensure!(!std::path::Path::new(marker).exists(), "the machine wrote to its host");
    Ok(())
}

#[test]
fn privileged_slurm_runs_a_job_on_every_node_without_gantry() -> Result<()> {
    on_a_machine(|machine| {
        let _munged = Munged::start(machine)?;
        let plan = SlurmPlan { plugin: Plugin::Absent, prolog: false, ..SlurmPlan::default() };
        let mut slurm = Slurm::start(machine, plan)?;
        let script =
            ALICE.script("job.sh", "#!/bin/sh\nsrun -N3 sh -c 'echo $SLURMD_NODENAME'\n")?;
        let job = submit(&ALICE, &["-N3", &script.display().to_string()])?;
        let output = job.completed()?;
        let mut nodes: Vec<&str> = output.lines().collect();
        nodes.sort_unstable();
        assert_eq!(nodes, ["node1", "node2", "node3"]);
        slurm.wait_until_idle()?;
        slurm.check_no_node_drained()
    })
}

#[test]
fn privileged_an_image_is_pushed_and_read_back() -> Result<()> {
    on_a_machine(|machine| {
        let mut registry = Registry::open(machine, 5000)?;
        let image = busybox(&tests::cluster::layers())?;
        let pushed = push(&registry, "busybox:1", &image)?;
        let address = format!("docker://{}/busybox:1", registry.name());
        let inspect = ["skopeo", "inspect", "--tls-verify=false", &address];
        let shown: serde_json::Value = serde_json::from_str(&ROOT.run(&inspect)?.ok()?)?;
        assert_eq!(shown["Digest"], pushed.digest);
        ensure!(!registry.requests("GET", "/v2/busybox/manifests/").is_empty(), "nothing logged");
        registry.stop()?;
        ROOT.run(&inspect)?.failed().map(drop)
    })
}

#[test]
fn a_wait_ends_in_time_and_says_what_it_waited_for() {
    let never = wait::until("the moon", Duration::from_millis(50), || Ok(None::<()>));
    assert_eq!(never.unwrap_err().to_string(), "waited 0 s in vain for the moon");
}
