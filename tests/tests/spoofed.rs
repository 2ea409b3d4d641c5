//! What a user tells Slurm past Gantry's own client, and what others learn of a user: the catalogue's P02, P11 and P13.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;
use tests::caller::{ALICE, BOB, Outcome};
use tests::cluster::layers;
use tests::images::{busybox, busybox_with, push};
use tests::registry::LOGIN;
use tests::slurm::submit;
use tests::{Cluster, Plan, on_a_machine, wait};

#[test]
fn privileged_p02_what_a_user_tells_slurm_past_the_client_decides_nothing_as_root() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let public = cluster.pull_busybox(&ALICE)?.digest;
        let private = busybox_with(&layers(), |tree| {
            tree.file("etc/os-release", 0o644, b"ID=of-bob\n").map(drop)
        })?;
        let private = push(&cluster.locked, "private:1", &private)?;
        cluster.locked.log_in(&BOB, LOGIN)?;
        BOB.run(&["imgctl", "pull", &private.reference])?.ok()?;
        make_own_client()?;
        // The Prolog also writes down what it is told.
        let prolog = "/usr/libexec/gantry/gantry-prolog";
        let text = fs::read_to_string(prolog)?;
        let noting = "echo \"$SPANK_GANTRY_IMAGE\" >>/srv/told\nsuid=";
        fs::write(prolog, text.replacen("suid=", noting, 1))?;
        // The false client works: told the truth, it gets into the image.
        let inside = spoof(&public, REFERENCE)?.ok()?;
        ensure!(inside == "ID=gantry-test\n", "{inside}");
        for (digest, image, why) in [
            (private.digest.as_str(), REFERENCE, "is private and you are not among those"),
            ("sha256:../../../../../etc", REFERENCE, "docker:busybox:1"),
            ("sha256:$(touch /srv/pwned)", REFERENCE, "docker:busybox:1"),
            (&public.to_uppercase(), REFERENCE, "docker:busybox:1"),
            ("`touch /srv/pwned`", "docker:busybox:1;touch /srv/pwned", "--image=docker:busybox"),
            (&public, "docker:../../busybox:1", "--image=docker:../../busybox:1"),
            (&public, "$(touch /srv/pwned)", "--image=$(touch /srv/pwned)"),
        ] {
            let refused = spoof(digest, image)?;
            ensure!(refused.code > 0 && refused.code != 124, "{digest} {image}: {refused}");
            ensure!(refused.stdout.is_empty(), "{digest} {image}: a task ran: {refused}");
            ensure!(refused.stderr.contains(why), "{digest} {image}: not told why: {refused}");
            let told = fs::read_to_string("/srv/told")?;
            ensure!(told.lines().last() == Some(digest), "the Prolog was told otherwise: {told}");
        }
        ensure!(!Path::new("/srv/pwned").exists(), "root carried out a command of the user's");
        cluster.check_nothing_left()
    })
}

/// Of an image that no registry here has: only who believes what the environment says of it gets into one.
const REFERENCE: &str = "docker:busybox:1";

/// Runs `srun` with a client plugin of the user's own that checks nothing and puts `digest` wherever Gantry would.
fn spoof(digest: &str, image: &str) -> Result<Outcome> {
    let option = format!("--image={image}");
    let words = ["srun", &option, "--volume=/home/alice:/data", "grep", "^ID=", "/etc/os-release"];
    let environment = [
        ("SLURM_CONF", "/home/alice/slurm.conf"),
        ("GANTRY_IMAGE", digest),
        ("GANTRY_IMAGE_REQUEST", image),
        ("SPANK_GANTRY_IMAGE", digest),
        ("SLURM_SPANK_GANTRY_IMAGE", digest),
        ("SLURM_SPANK_GANTRY_IMAGE_REQUEST", image),
        ("GANTRY_RUNTIME", "1"),
        ("LD_LIBRARY_PATH", "/home/alice"),
    ];
    ALICE.run_with(&words, &environment)
}

/// Makes a plugin of Gantry's name in Alice's home, and a slurm.conf that loads it instead.
fn make_own_client() -> Result<()> {
    let source = ALICE.script("own.c", OWN_CLIENT)?.display().to_string();
    let plugin = "/home/alice/own.so";
    ALICE.run(&["gcc", "-shared", "-fPIC", "-o", plugin, &source])?.ok()?;
    ALICE.script("plugstack.conf", &format!("required {plugin}\n"))?;
    let conf = fs::read_to_string("/etc/slurm/slurm.conf")?;
    ALICE.script("slurm.conf", &format!("{conf}PlugStackConfig=/home/alice/plugstack.conf\n"))?;
    Ok(())
}

/// Takes the options as they are; what it sets for the Prolog is what stands in its own environment.
const OWN_CLIENT: &str = r#"
#include <slurm/spank.h>
#include <stdlib.h>
SPANK_PLUGIN(gantry, 1);
static int take(int number, const char *text, int remote) { return 0; }
static struct spank_option image = {"image", "x", "x", 1, 1, take};
static struct spank_option volume = {"volume", "x", "x", 1, 2, take};
int slurm_spank_init(spank_t spank, int count, char **words) {
    return spank_option_register(spank, &image) || spank_option_register(spank, &volume);
}
int slurm_spank_init_post_opt(spank_t spank, int count, char **words) {
    return spank_job_control_setenv(spank, "GANTRY_IMAGE", getenv("GANTRY_IMAGE"), 1);
}
"#;

#[test]
fn privileged_p11_a_volume_list_of_100_kib_is_refused_at_submission() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let image = format!("--image={}", cluster.pull_busybox(&ALICE)?.reference);
        let list = "/home/alice:/data;".repeat((100 << 10) / 18);
        let volume = format!("--volume={list}");
        let script = ALICE.script("job.sh", "#!/bin/sh\necho this must not run\n")?;
        let script = script.display().to_string();
        for line in [
            &["srun", &image, &volume, "true"][..],
            &["sbatch", &image, &volume, &script],
            &["salloc", &image, &volume, "true"],
        ] {
            let said = ALICE.run(line)?.failed()?;
            ensure!(
                said.contains("--volume has 102384 bytes, more than the 16384 allowed"),
                "{said}"
            );
        }
        ensure!(ALICE.run(&["squeue", "--noheader"])?.ok()?.is_empty());
        // Past the client's own check, by a client that has none, it is the step that refuses.
        make_own_client()?;
        let environment = [("SLURM_CONF", "/home/alice/slurm.conf"), ("GANTRY_IMAGE", "")];
        let refused = ALICE.run_with(&["srun", &image, &volume, "echo", "ran"], &environment)?;
        ensure!(refused.stdout.is_empty(), "{refused}");
        refused.failed()?;
        cluster.check_nothing_left()
    })
}

#[test]
fn privileged_p13_no_secret_is_in_the_job_or_in_any_process() -> Result<()> {
    on_a_machine(|machine| {
        let mut cluster = Cluster::start(machine, Plan::default())?;
        let pushed = push(&cluster.locked, "private:1", &busybox(&layers())?)?;
        cluster.locked.log_in(&ALICE, LOGIN)?;
        let text = format!(
            "#!/bin/sh\n#SBATCH --image={}\nenv\nscontrol show --details job $SLURM_JOB_ID\nsrun env\n\
             srun sh -c 'while [ ! -e $HOME/go-on ]; do sleep 0.1; done'\n",
            pushed.reference
        );
        let script = ALICE.script("job.sh", &text)?.display().to_string();
        let job = submit(&ALICE, &[&script])?;
        wait::until("the job's last step", wait::JOB, || {
            let steps = ALICE.run(&["squeue", "--noheader", "--steps", "--format=%i"])?.ok()?;
            Ok(steps.contains(&format!("{}.1", job.id)).then_some(()))
        })?;
        let told = who_tells()?;
        ensure!(told.is_empty(), "secrets are in {told:?}");
        // The look would find one.
        let mut teller = Command::new("sleep").arg("100").env("SECRET", LOGIN).spawn()?;
        let found = who_tells();
        teller.kill()?;
        teller.wait()?;
        ensure!(found? == [format!("/proc/{}/environ", teller.id())]);
        ALICE.script("go-on", "")?;
        let output = job.completed()?;
        ensure!(output.contains("GANTRY_IMAGE=sha256:"), "{output}");
        ensure!(SECRETS.iter().all(|secret| !output.contains(secret)), "{output}");
        for place in ["/srv/slurm", "/srv/log"] {
            let found = tests::caller::ROOT.run(&["grep", "-rlaF", LOGIN, place])?;
            ensure!(found.stdout.is_empty(), "secrets are in {}", found.stdout);
        }
        cluster.check_nothing_left()
    })
}

/// The files of processes, as root sees them, in which a secret stands.
fn who_tells() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list processes")?.flatten() {
        for part in ["environ", "cmdline"] {
            let path = entry.path().join(part);
            // Not a process, or one that has ended.
            let Ok(bytes) = fs::read(&path) else { continue };
            let text = String::from_utf8_lossy(&bytes);
            if SECRETS.iter().any(|secret| text.contains(secret)) {
                found.push(path.display().to_string());
            }
        }
    }
    Ok(found)
}

/// A login as it is typed and as it is kept.
const SECRETS: [&str; 2] = ["bob:secret", LOGIN];
