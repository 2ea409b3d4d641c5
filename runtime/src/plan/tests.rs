//! Plans: the order of steps as it is printed, and what is refused before anything is touched.

use super::*;
use crate::request::{Request, parse};
use alloc::format;
use alloc::vec;

fn run(words: &[&str]) -> Run {
    let digest = format!("--digest={}", "ab".repeat(32));
    let all: Vec<&[u8]> =
        ["g", "run", &digest].iter().chain(words).map(|word| word.as_bytes()).collect();
    match parse(&all).unwrap() {
        Request::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn planned(conf: &str, words: &[&str]) -> Result<Vec<Step>, PlanError> {
    let conf = udiroot_conf::parse(format!("imagePath=/images\n{conf}\n")).unwrap();
    plan(&Caller { uid: 1000, gid: 100, groups: vec![100] }, &conf, &run(words))
}

#[test]
fn the_plan_follows_the_design_step_by_step() {
    let conf = "imageOwner=990\nsiteFs=/scratch;/etc/munge:/etc/munge:ro:private";
    let words = ["--volume=/home/ann:/work:ro", "--passwd=ann:x:1000:100::/:/bin/sh"];
    let expected = format!(
        " \
1. open, as the caller, volume /home/ann for /work (ro nosuid nodev slave)
 2. open, as uid 990, image /images/{}.squashfs and check who may use it
 3. make a private mount namespace
 4. mount the image on its shared loop device (ro nosuid nodev)
 5. open /proc for /proc (nosuid nodev noexec slave)
 6. open /sys for /sys (ro nosuid nodev noexec slave)
 7. open /dev for /dev (nosuid slave)
 8. open /tmp for /tmp (nosuid nodev slave)
 9. open /var/tmp for /var/tmp (nosuid nodev slave)
10. open /etc/hosts for /etc/hosts (ro nosuid nodev noexec slave)
11. open /etc/resolv.conf for /etc/resolv.conf (ro nosuid nodev noexec slave)
12. open /scratch for /scratch (nosuid nodev slave)
13. open /etc/munge for /etc/munge (ro nosuid nodev private)
14. write /etc/passwd and /etc/group: the caller's lines, then the image's
15. find or make the mount points and mount everything
16. make the image the root directory (pivot_root)
17. drop every privilege for ever and verify it
18. execute the command
",
        "ab".repeat(32)
    );
    assert_eq!(describe(&planned(conf, &words).unwrap()), expected);
}

#[test]
fn a_volume_on_tmp_replaces_the_hosts() {
    let steps = planned("imageOwner=990", &["--volume=/fast:/tmp"]).unwrap();
    let on_tmp = |step: &&Step| match step {
        Step::OpenSite(bind) | Step::OpenVolume(bind) => bind.target == "/tmp",
        _ => false,
    };
    assert_eq!(steps.iter().filter(on_tmp).count(), 1);
}

#[test]
fn what_lies_within_another_volume_of_the_sites_is_mounted_after_it() {
    let conf =
        "imageOwner=9\nsiteFs=/x:/a/b/c;/x:/b\nmodule_m_siteFs=/x:/a;/x:/a/b\ndefaultModules=m";
    let steps = planned(conf, &[]).unwrap();
    let targets: Vec<&str> = steps
        .iter()
        .filter_map(|step| match step {
            Step::OpenSite(bind) if bind.rule == Rule::Site => Some(&*bind.target),
            _ => None,
        })
        .collect();
    assert_eq!(targets, ["/b", "/a", "/a/b", "/a/b/c"]);
}

#[test]
fn modules_by_default_bring_their_volumes() {
    let steps = planned("imageOwner=990\nmodule_m_siteFs=/m:/m\ndefaultModules=m", &[]).unwrap();
    let brought = |step: &Step| matches!(step, Step::OpenSite(bind) if bind.source == "/m");
    assert!(steps.iter().any(brought));
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_touched() {
    let cache = planned("imageOwner=9", &["--volume=/a:/b:perNodeCache=size=1G"]);
    assert!(matches!(cache, Err(PlanError::NodeCache(_))));
    let other = planned("imageOwner=9", &["--passwd=ann:x:1001:100::/:/bin/sh"]);
    assert_eq!(other, Err(PlanError::Accounts("--passwd")));
    let group = planned("imageOwner=9", &["--group=wheel:x:10:ann"]);
    assert_eq!(group, Err(PlanError::Accounts("--group")));
}

#[test]
fn every_bind_of_a_user_or_site_is_without_set_ids_and_devices() {
    for step in planned("imageOwner=9\nsiteFs=/a;/b:/c:ro", &["--volume=/d:/e"]).unwrap() {
        if let Step::OpenSite(bind) | Step::OpenVolume(bind) = step {
            assert!(bind.attributes & NO_SUID != 0, "{bind}");
            assert!(bind.attributes & NO_DEV != 0 || bind.target == "/dev", "{bind}");
        }
    }
}
