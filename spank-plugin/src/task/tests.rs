//! What stands in front of a task, with every way to get it there.

use super::*;
use crate::config::Config;
use crate::devices::{Devices, GPU_VARIABLES};
use crate::options::{Options, Request};
use crate::spank::world;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;

const HEX: &str = "3a1c0f6e9d8b7a6543210fedcba98765432100112233445566778899aabbccdd";

fn entry(digest: Option<&str>) -> Entry {
    let mut options = Options::new();
    options.take(2, "/x:/y:ro;/a:/b").unwrap();
    Entry {
        config: Config::default(),
        request: Request::parse("docker:a:1").unwrap(),
        digest: digest.map(|hex| Digest::from_hex(hex).unwrap()),
        inside: options.inside,
        is_script: false,
    }
}

/// The arguments of the task afterwards, without those that describe the caller.
fn entered(entry: &Entry) -> Vec<String> {
    world(|w| w.arguments = vec!["app".into(), "-x".into()]);
    enter(&mut Handle::new(), entry).unwrap();
    let is_identity = |word: &String| word.starts_with("--passwd=") || word.starts_with("--group=");
    world(|w| w.arguments.iter().filter(|word| !is_identity(word)).cloned().collect())
}

/// An open file that an exec leaves open, as PMI's socket.
fn inheritable() -> File {
    let file = File::open("/dev/null").unwrap();
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    file
}

fn job(name: &str) -> Option<String> {
    world(|w| w.job.get(name).cloned())
}

#[test]
fn the_runtime_is_told_everything_and_the_command_follows() {
    let pmi = inheritable();
    world(|w| w.job.insert("PMI_FD".into(), pmi.as_raw_fd().to_string()));
    assert_eq!(
        entered(&entry(Some(HEX))),
        [
            "/usr/libexec/gantry/gantry-suid",
            "run",
            &format!("--digest={HEX}"),
            "--request=docker:a:1",
            "--volume=/x:/y:ro",
            "--volume=/a:/b",
            &format!("--keep-fd={}", pmi.as_raw_fd()),
            "--",
            "app",
            "-x"
        ]
    );
}

#[test]
fn an_odd_pmi_descriptor_is_not_passed_on() {
    let ends_with_exec = File::open("/dev/null").unwrap();
    let ends_with_exec = ends_with_exec.as_raw_fd().to_string();
    for odd in ["", "x", "-1", "0", "2", "1000000", "99999999999999", &ends_with_exec] {
        world(|w| w.job.insert("PMI_FD".into(), odd.into()));
        assert!(!entered(&entry(Some(HEX))).iter().any(|w| w.starts_with("--keep")), "{odd}");
    }
}

#[test]
fn without_a_digest_the_front_end_asks() {
    assert_eq!(
        entered(&entry(None)),
        [
            "/usr/bin/gantry",
            "--image=docker:a:1",
            "--volume=/x:/y:ro",
            "--volume=/a:/b",
            "--",
            "app",
            "-x"
        ]
    );
}

#[test]
fn with_devices_the_front_end_reads_their_files_and_has_the_digest() {
    let mut entry = entry(Some(HEX));
    entry.inside.volumes.clear();
    entry.inside.devices = Devices::parse("nvidia.com/gpu=0");
    let words = entered(&entry);
    let front = ["/usr/bin/gantry", "--image=docker:a:1", "--device=nvidia.com/gpu=0", "--"];
    assert_eq!(words[..4], front);
    assert_eq!(job("GANTRY_IMAGE"), Some(format!("sha256:{HEX}")));
    assert_eq!(job("GANTRY_IMAGE_REQUEST").as_deref(), Some("docker:a:1"));
    entry.is_script = true;
    world(|w| w.arguments = vec!["/dev/null".into()]);
    enter(&mut Handle::new(), &entry).unwrap();
    assert_eq!(world(|w| w.arguments.clone()), ["/usr/bin/gantry"]);
    assert!(job("GANTRY_TASK_PROGRAM").unwrap().starts_with("/proc/self/fd/"));
    assert_eq!(job("GANTRY_DEVICE").as_deref(), Some("nvidia.com/gpu=0"));
}

#[test]
fn the_sites_gpu_devices_are_for_tasks_with_gpus_that_name_none() {
    let mut entry = entry(Some(HEX));
    entry.config.gpu_devices = Devices::parse("amd.com/gpu=all");
    let device = |entry: &Entry| entered(entry).into_iter().find(|w| w.starts_with("--device="));
    assert_eq!(device(&entry), None);
    for nothing in ["", "NoDevFiles", "-1"] {
        world(|w| w.job.insert("CUDA_VISIBLE_DEVICES".into(), nothing.into()));
        assert_eq!(device(&entry), None, "{nothing}");
    }
    for name in GPU_VARIABLES {
        world(|w| w.job = [(name.to_str().unwrap().to_owned(), "0".to_owned())].into());
        assert_eq!(device(&entry).as_deref(), Some("--device=amd.com/gpu=all"), "{name:?}");
    }
    entry.inside.devices = Devices::parse("nvidia.com/gpu=1");
    assert_eq!(device(&entry).as_deref(), Some("--device=nvidia.com/gpu=1"));
    entry.inside.devices = Devices::parse("none");
    assert_eq!(entered(&entry)[1], "run");
}

#[test]
fn the_front_end_reads_the_configuration_that_plugstack_names() {
    let mut entry = entry(None);
    entry.config.conf = Some("/site/udiRoot.conf".into());
    entered(&entry);
    assert_eq!(job("GANTRY_CONF").as_deref(), Some("/site/udiRoot.conf"));
}

#[test]
fn an_older_slurm_gets_the_front_end_in_the_programs_place() {
    world(|w| w.can_prepend = false);
    let mut entry = entry(Some(HEX));
    entry.config.conf = Some("/site/udiRoot.conf".into());
    assert_eq!(entered(&entry), ["/usr/bin/gantry", "-x"]);
    assert_eq!(job("GANTRY_TASK_PROGRAM").as_deref(), Some("app"));
    assert_eq!(job("GANTRY_IMAGE"), Some(format!("sha256:{HEX}")));
    assert_eq!(job("GANTRY_IMAGE_REQUEST").as_deref(), Some("docker:a:1"));
    assert_eq!(job("GANTRY_VOLUME").as_deref(), Some("/a:/b;/x:/y:ro"));
    assert_eq!(job("GANTRY_CONF").as_deref(), Some("/site/udiRoot.conf"));
    // Another step's digest must not stand beside this step's request.
    entry.digest = None;
    entry.inside.volumes.clear();
    entered(&entry);
    assert_eq!((job("GANTRY_IMAGE"), job("GANTRY_VOLUME")), (None, None));
}

#[test]
fn who_says_gantry_or_shifter_gets_the_sites_front_end_and_the_steps_image() {
    for (program, can_prepend) in [("shifter", true), ("/home/ann/bin/gantry", false)] {
        world(|w| w.can_prepend = can_prepend);
        world(|w| w.arguments = vec![program.into(), "--env=A=1".into(), "app".into()]);
        enter(&mut Handle::new(), &entry(Some(HEX))).unwrap();
        assert_eq!(
            world(|w| w.arguments.clone()),
            ["/usr/bin/gantry", "--env=A=1", "app"],
            "{program}"
        );
        assert_eq!(job("GANTRY_TASK_PROGRAM"), None);
        assert_eq!(job("GANTRY_IMAGE"), Some(format!("sha256:{HEX}")));
        assert_eq!(job("GANTRY_IMAGE_REQUEST").as_deref(), Some("docker:a:1"));
        assert_eq!(job("GANTRY_VOLUME").as_deref(), Some("/a:/b;/x:/y:ro"));
    }
}

#[test]
fn a_batch_script_goes_in_by_its_descriptor() {
    let mut script = tempfile::NamedTempFile::new().unwrap();
    script.write_all(b"#!/bin/sh\necho from the script $1\n").unwrap();
    world(|w| w.arguments = vec![script.path().display().to_string(), "a".into()]);
    let entry = Entry { is_script: true, ..entry(Some(HEX)) };
    enter(&mut Handle::new(), &entry).unwrap();
    let words = world(|w| w.arguments.clone());
    let dashes = words.iter().position(|word| word == "--").unwrap();
    let descriptor = words[dashes + 1].strip_prefix("/proc/self/fd/").unwrap();
    assert!(words.contains(&format!("--keep-fd={descriptor}")), "{words:?}");
    #[allow(clippy::disallowed_methods)]
    let output = std::process::Command::new("/bin/sh").args(&words[dashes + 1..]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "from the script a\n");
}

#[test]
fn what_cannot_be_entered_is_an_error() {
    world(|w| w.arguments = vec!["/nonexistent/slurm_script".into()]);
    let script = Entry { is_script: true, ..entry(Some(HEX)) };
    let error = enter(&mut Handle::new(), &script).unwrap_err();
    assert_eq!(error.to_string(), "cannot open the batch script `/nonexistent/slurm_script`");
    assert_eq!(world(|w| w.arguments.clone()), ["/nonexistent/slurm_script"]);
    world(|w| (w.can_prepend, w.arguments) = (false, Vec::new()));
    enter(&mut Handle::new(), &entry(Some(HEX))).unwrap_err();
}
