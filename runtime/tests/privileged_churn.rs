//! Many starts, killed starts, and what root does around a job: R37 to R41, prepare, hold and release.

mod stage;

use image_ref::{Access, Digest, Sidecar, image_file, sidecar_file};
use stage::*;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

#[test]
fn r37_kills_at_random_moments_leave_nothing() {
    on_stage(|stage| {
        let before = mounts();
        let start = || quiet(stage, &["--volume=/srv/user:/made/here"], &["true"]);
        let undisturbed = |_| {
            let begun = Instant::now();
            assert!(start().wait().unwrap().success());
            begun.elapsed()
        };
        let longest = (0..10).map(undisturbed).max().unwrap();
        let mut killed = 0;
        for _ in 0..1000 {
            let random = u16::from_str_radix(&fresh_digest().hex().to_string()[..4], 16).unwrap();
            let mut child = start();
            std::thread::sleep(longest.mul_f64(f64::from(random) / f64::from(u16::MAX)));
            child.kill().unwrap();
            killed += usize::from(!child.wait().unwrap().success());
        }
        assert!((200..1000).contains(&killed), "{killed} of 1000 were killed before their end");
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
fn r39_a_herd_of_128_starts_of_one_image_shares_one_loop_device() {
    on_stage(|stage| {
        let mut herd: Vec<Child> = (0..128).map(|_| inside(&stage.digest)).collect();
        herd.iter_mut().for_each(wait_until_inside);
        assert_eq!(loop_devices(&stage.digest).len(), 1);
        herd.into_iter().for_each(let_end);
    });
}

#[test]
fn r40_a_churn_of_1500_short_runs_by_six_at_a_time_fails_never() {
    on_stage(|stage| {
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..250 {
                        let ran = stage.run(&[], &["true"]);
                        assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{ran:?}");
                    }
                });
            }
        });
    });
}

#[test]
fn r41_a_hundred_different_images_start_at_once_and_their_devices_go() {
    on_stage(|stage| {
        let image = fs::read(stage.image()).unwrap();
        let digests: Vec<Digest> = (0..100).map(|_| fresh_digest()).collect();
        for digest in &digests {
            let sidecar = Sidecar { digest: *digest, ..stage.describe(Access::Public) };
            let sidecar = sidecar.encode().unwrap();
            file(format!("{IMAGES}/{}", image_file(digest)), &image, OWNER, 0o444);
            file(format!("{IMAGES}/{}", sidecar_file(digest)), &sidecar, OWNER, 0o444);
        }
        let mut all: Vec<Child> = digests.iter().map(inside).collect();
        all.iter_mut().for_each(wait_until_inside);
        for digest in &digests {
            assert_eq!(loop_devices(digest).len(), 1, "{digest}");
        }
        all.into_iter().for_each(let_end);
        digests.iter().for_each(expect_no_loop_device);
    });
}

/// Starts a command in an image that stays inside until it is let go.
fn inside(digest: &Digest) -> Child {
    let mut command = as_user(USER);
    command.args([SUID, "run", &format!("--digest={}", digest.hex()), "--"]);
    command.args(["sh", "-c", "echo inside; exec cat"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("setpriv starts")
}

fn wait_until_inside(child: &mut Child) {
    let mut said = [0; 7];
    let read = child.stdout.as_mut().expect("it is piped").read_exact(&mut said);
    if read.is_err() || said != *b"inside\n" {
        let mut why = String::new();
        let stderr = child.stderr.as_mut().expect("it is piped");
        stderr.read_to_string(&mut why).expect("it is text");
        panic!("it did not start: {why}");
    }
}

fn let_end(child: Child) {
    // Closes its standard input first.
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
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
