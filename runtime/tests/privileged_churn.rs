//! Many starts, killed starts, and what root does around a job: R37 to R41, prepare, hold and release.

mod stage;

use image_ref::{Access, image_file, sidecar_file};
use stage::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Stdio};
use std::time::Duration;

#[test]
fn r37_kills_at_random_moments_leave_nothing() {
    on_stage(|stage| {
        let before = mounts();
        for round in 0..120u64 {
            let mut child = quiet(stage, &["--volume=/srv/user:/made/here"], &["true"]);
            std::thread::sleep(Duration::from_micros(round * 37 % 4000));
            let _ = child.kill();
            let _ = child.wait();
        }
        assert_eq!(mounts(), before);
        expect_no_loop_device(&stage.digest);
        assert_eq!(stage.run(&[], &["true"]).code, Some(0));
    });
}

#[test]
fn r38_a_termination_signal_during_setup_ends_it_and_leaves_nothing() {
    on_stage(|stage| {
        for signal in [nix::sys::signal::SIGTERM, nix::sys::signal::SIGINT] {
            for delay in [0, 500, 1500, 3000] {
                let mut child = quiet(stage, &[], &["sleep", "100"]);
                std::thread::sleep(Duration::from_micros(delay));
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), signal)
                    .unwrap();
                let status = child.wait().unwrap();
                assert_eq!(
                    std::os::unix::process::ExitStatusExt::signal(&status),
                    Some(signal as i32)
                );
            }
        }
        expect_no_loop_device(&stage.digest);
    });
}

#[test]
fn r39_a_herd_of_one_image_shares_one_loop_device() {
    on_stage(|stage| {
        let children: Vec<Child> = (0..64).map(|_| quiet(stage, &[], &["sleep", "2"])).collect();
        wait_until("the herd to run", || loop_devices(&stage.digest).len() == 1);
        let mut most = 0;
        for mut child in children {
            most = most.max(loop_devices(&stage.digest).len());
            assert!(child.wait().unwrap().success());
        }
        assert_eq!(most, 1);
    });
}

#[test]
fn r40_a_churn_of_short_runs_fails_never() {
    on_stage(|stage| {
        for _ in 0..50 {
            let children: Vec<Child> = (0..6).map(|_| quiet(stage, &[], &["true"])).collect();
            for child in children {
                let output = child.wait_with_output().unwrap();
                assert!(output.status.success(), "{output:?}");
            }
        }
    });
}

#[test]
fn r41_many_different_images_start_at_once_and_their_devices_go() {
    on_stage(|stage| {
        let mut children = Vec::new();
        let mut digests = Vec::new();
        let image = fs::read(stage.image()).unwrap();
        for _ in 0..20 {
            let digest = fresh_digest();
            let mut sidecar = stage.describe(Access::Public);
            sidecar.digest = digest;
            file(format!("{IMAGES}/{}", image_file(&digest)), &image, OWNER, 0o444);
            file(
                format!("{IMAGES}/{}", sidecar_file(&digest)),
                &sidecar.encode().unwrap(),
                OWNER,
                0o444,
            );
            let command = format!("--digest={}", digest.hex());
            let mut child = as_user(USER);
            child.args([SUID, "run", &command, "--", "sleep", "1"]).stderr(Stdio::piped());
            children.push(child.spawn().unwrap());
            digests.push(digest);
        }
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        digests.iter().for_each(expect_no_loop_device);
    });
}

#[test]
fn prepare_mounts_once_for_a_job_and_release_lets_go_of_all() {
    on_stage(|stage| {
        let digest = format!("--digest={}", stage.digest.hex());
        let before = mounts();
        for _ in 0..2 {
            let ran = stage.root(&["prepare", &digest, "--job=77"]);
            assert_eq!((ran.code, &*ran.err), (Some(0), ""));
        }
        assert_eq!(mounts(), before + 1);
        let place = format!("/run/gantry/jobs/77/{}", stage.digest.hex());
        assert!(fs::exists(format!("{place}/bin/busybox")).unwrap());
        assert_ne!(finish(as_user(USER).args(["ls", "/run/gantry/jobs"])).code, Some(0));
        let devices = loop_devices(&stage.digest);
        let mut child = quiet(stage, &[], &["sleep", "1"]);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(
            loop_devices(&stage.digest),
            devices,
            "a task uses the device that was prepared"
        );
        for _ in 0..2 {
            let ran = stage.root(&["release", "--job=77"]);
            assert_eq!((ran.code, &*ran.err), (Some(0), ""));
        }
        assert_eq!(mounts(), before);
        assert!(!fs::exists("/run/gantry/jobs/77").unwrap());
        assert!(child.wait().unwrap().success(), "a running task is not disturbed");
        fs::remove_file(stage.image()).unwrap();
        let ran = stage.root(&["prepare", &digest, "--job=77"]);
        assert!(
            ran.code == Some(125) && ran.err.contains("is not on this node's file system"),
            "{ran:?}"
        );
    });
}

#[test]
fn the_run_directory_is_made_where_the_boot_has_not_and_must_be_roots() {
    on_stage(|stage| {
        fs::remove_dir_all("/run/gantry").unwrap();
        assert_eq!(stage.run(&[], &["true"]).code, Some(0));
        let made = fs::metadata("/run/gantry").unwrap();
        assert_eq!((made.mode() & 0o7777, made.uid()), (0o755, 0));
        expect_no_loop_device(&stage.digest);
        own("/run/gantry", USER, 0o755);
        stage.expect_refusal(
            &[],
            "/run/gantry is not trusted: it belongs to uid 23001, not to uid 0",
        );
        own("/run/gantry", 0, 0o755);
        own("/usr/libexec/gantry/root", USER, 0o755);
        stage.expect_refusal(&[], "/usr/libexec/gantry/root is not trusted");
    });
}

#[test]
fn roots_verbs_are_not_for_users() {
    on_stage(|stage| {
        let digest = format!("--digest={}", stage.digest.hex());
        for words in [
            &["prepare", &digest, "--job=1"][..],
            &["release", "--job=1"],
            &["hold", &digest, "--fd=0"],
        ] {
            let ran = finish(as_user(USER).arg(SUID).args(words));
            assert_eq!(
                (ran.code, &*ran.err),
                (Some(125), "gantry: only root may do this\n"),
                "{words:?}"
            );
        }
    });
}

#[test]
fn hold_sends_a_mount_that_keeps_the_loop_device() {
    on_stage(|stage| {
        let script = format!(
            "import socket,subprocess,os,sys\n\
             a,b=socket.socketpair()\n\
             p=subprocess.run(['{SUID}','hold','--digest={}','--fd=%d'%b.fileno()],pass_fds=[b.fileno()])\n\
             assert p.returncode==0\n\
             data,fds,flags,addr=socket.recv_fds(a,1,4)\n\
             print(len(fds),sorted(os.listdir('/proc/self/fd/%d'%fds[0]))[0],flush=True)\n\
             sys.stdin.read()\n",
            stage.digest.hex()
        );
        let mut holder = std::process::Command::new("/usr/bin/python3")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(holder.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        assert_eq!(line, "1 bin\n");
        assert_eq!(loop_devices(&stage.digest).len(), 1);
        drop(holder.stdin.take());
        holder.wait().unwrap();
        expect_no_loop_device(&stage.digest);
    });
}

fn quiet(stage: &Stage, options: &[&str], command: &[&str]) -> Child {
    stage
        .command(options, command)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("setpriv starts")
}
