//! Who may see, use and remove which image.

use anyhow::{Result, ensure};
use tests::caller::{ALICE, BOB, ROOT};
use tests::cluster::layers;
use tests::images::{busybox, push};
use tests::registry::LOGIN;
use tests::{Cluster, Plan, on_a_machine};

#[test]
fn privileged_a_user_lists_inspects_and_removes_an_own_image() -> Result<()> {
    on_a_machine(|machine| {
        let cluster = Cluster::start(machine, Plan::default())?;
        let pushed = cluster.pull_busybox(&ALICE)?;
        let listed = ALICE.run(&["imgctl", "list"])?.ok()?;
        ensure!(listed.contains("busybox:1"), "{listed}");
        let shown = ALICE.run(&["imgctl", "inspect", "--json", &pushed.reference])?.ok()?;
        ensure!(shown.contains(&pushed.digest), "{shown}");
        ALICE.run(&["imgctl", "rm", &pushed.reference])?.ok()?;
        let listed = ALICE.run(&["imgctl", "list"])?.ok()?;
        ensure!(!listed.contains("busybox:1"), "{listed}");
        let left = ROOT.run(&["find", tests::install::IMAGES, "-name", "*.squashfs"])?.ok()?;
        ensure!(left.is_empty(), "{left}");
        ALICE.run(&["imgctl", "inspect", &pushed.reference])?.failed_with(3).map(drop)
    })
}

#[test]
fn privileged_another_users_image_cannot_be_removed() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let pushed = cluster.pull_busybox(&ALICE)?;
        let said = BOB.run(&["imgctl", "rm", &pushed.reference])?.failed_with(4)?;
        ensure!(said.lines().count() <= 2, "more than a sentence and a hint:\n{said}");
        let option = format!("--image={}", pushed.reference);
        ALICE.run(&["srun", &option, "true"])?.ok()?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_an_image_that_needed_a_login_is_its_owners_alone() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let pushed = push(&cluster.locked, "private:1", &busybox(&layers())?)?;
        let option = format!("--image={}", pushed.reference);
        cluster.locked.log_in(&ALICE, LOGIN)?;
        ALICE.run(&["imgctl", "pull", &pushed.reference])?.ok()?;
        let output = ALICE.run(&["srun", &option, "grep", "^ID=", "/etc/os-release"])?.ok()?;
        ensure!(output == "ID=gantry-test\n", "{output}");
        let listed = BOB.run(&["imgctl", "list"])?.ok()?;
        ensure!(!listed.contains("private:1"), "{listed}");
        BOB.run(&["srun", &option, "true"])?.failed()?;
        let by_digest = format!("--image=id:{}", pushed.digest.trim_start_matches("sha256:"));
        BOB.run(&["srun", &by_digest, "true"])?.failed()?;
        BOB.run(&["gantry", &by_digest, "--", "true"])?.failed()?;
        let suid = tests::install::SUID;
        let digest = format!("--digest={}", pushed.digest.trim_start_matches("sha256:"));
        BOB.run(&[suid, "run", &digest, "--", "/bin/true"])?.failed_with(125)?;
        cluster.check_nothing_left()
    })
}
