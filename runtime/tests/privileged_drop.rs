//! What a command in an image is and has: the catalogue's R01 to R06, R21 to R28 and R44, on the built product.

mod stage;

use stage::*;
use std::fs;
use std::process::{Command, Stdio};

#[test]
fn r01_drop_state_is_the_callers_ids_no_capability_and_no_new_privileges() {
    on_stage(|stage| {
        let status = stage.shell(&[], "cat /proc/self/status");
        let has =
            |line: &str| assert!(status.lines().any(|found| found == line), "{line}\n{status}");
        has("Uid:\t23001\t23001\t23001\t23001");
        has("Gid:\t23001\t23001\t23001\t23001");
        assert!(status.contains("Groups:\t23001 23050"), "{status}");
        for set in ["Inh", "Prm", "Eff", "Bnd", "Amb"] {
            has(&format!("Cap{set}:\t0000000000000000"));
        }
        has("NoNewPrivs:\t1");
    });
}

#[test]
fn r02_setuid_in_the_image_gives_nothing() {
    on_stage(|stage| {
        assert!(stage.shell(&[], "set-uid").contains("Uid:	23001	23001	23001	23001"));
        assert!(stage.shell(&[], "set-gid").contains("Gid:	23001	23001	23001	23001"));
    });
}

#[test]
fn r03_setuid_on_a_volume_gives_nothing() {
    on_stage(|stage| {
        fs::write("/srv/user/su", teller()).unwrap();
        own("/srv/user/su", 0, 0o4755);
        let status = stage.shell(&["--volume=/srv/user:/mnt"], "/mnt/su");
        assert!(status.contains("Uid:\t23001\t23001\t23001\t23001"), "{status}");
    });
}

#[test]
fn r04_a_file_capability_on_a_volume_gives_nothing() {
    on_stage(|stage| {
        fs::write("/srv/user/cap", teller()).unwrap();
        own("/srv/user/cap", 0, 0o755);
        let set = Command::new("setcap").args(["cap_net_raw+ep", "/srv/user/cap"]).status();
        assert!(set.is_ok_and(|status| status.success()), "setcap (libcap2-bin) is needed");
        let status = stage.shell(&["--volume=/srv/user:/mnt"], "/mnt/cap");
        assert!(status.contains("CapPrm:\t0000000000000000"), "{status}");
    });
}

#[test]
fn r05_the_root_is_read_only_everywhere() {
    on_stage(|stage| {
        for options in [&[][..], &["--volume=/srv/user:/made/here"]] {
            for place in ["/x", "/etc/x", "/opt/x", "/bin/x", "/usr/local/x"] {
                let ran = stage.run(options, &["touch", place]);
                assert_eq!(ran.code, Some(1), "{place}: {ran:?}");
                let refused = ran.err.contains("Read-only file system")
                    || ran.err.contains("Permission denied");
                assert!(refused, "{place}: {ran:?}");
            }
            assert!(stage.run(options, &["touch", "/opt/x"]).err.contains("Read-only"));
        }
    });
}

#[test]
fn r06_a_device_node_in_an_image_cannot_be_opened() {
    on_stage(|stage| {
        let image = make_image("device", &|tree| {
            let node = tree.join("zero");
            let made = Command::new("mknod")
                .arg(&node)
                .args(["c", "1", "5", "-m", "666"])
                .status()
                .unwrap();
            assert!(made.success());
        });
        stage.publish(&image, image_ref::Access::Public);
        let ran = stage.run(&[], &["dd", "if=/zero", "count=1"]);
        assert!(ran.code != Some(0) && ran.err.contains("Permission denied"), "{ran:?}");
    });
}

#[test]
fn r21_no_descriptor_but_the_kept_ones_reaches_the_command() {
    on_stage(|stage| {
        let opening = "for n in $(seq 3 200); do eval \"exec $n</srv/user\"; done; exec \"$@\"";
        let wrapper = ["bash", "-c", opening, "-"];
        let list = |options: &[&str]| {
            let ran =
                finish(&mut stage.command_behind(&wrapper, options, &["ls", "/proc/self/fd"]));
            assert_eq!((ran.code, &*ran.err), (Some(0), ""));
            ran.out.replace('\n', " ")
        };
        // `ls` itself opens one more: the directory that it lists.
        assert_eq!(list(&[]), "0 1 2 3 ");
        assert_eq!(list(&["--keep-fd=5", "--keep-fd=199"]), "0 1 199 2 3 5 ");
        stage.expect_refusal(&["--keep-fd=277"], "descriptor 277 is to be kept but is not open");
    });
}

#[test]
fn r22_every_combination_of_closed_standard_descriptors_runs() {
    on_stage(|stage| {
        for closed in 0..8 {
            let which: String =
                (0..3).filter(|bit| closed >> bit & 1 == 1).map(|fd| format!("{fd}>&- ")).collect();
            let wrapper = ["sh", "-c", &format!("exec \"$@\" {which}"), "-"];
            let script = "for n in 0 1 2; do readlink /proc/$$/fd/$n; done > /tmp/fds-$0; exit 7";
            let name = format!("{closed}-{}", stage.digest.hex());
            let ran =
                finish(&mut stage.command_behind(&wrapper, &[], &["sh", "-c", script, &name]));
            assert_eq!(ran.code, Some(7), "closed {which}: {ran:?}");
            let path = format!("/tmp/fds-{name}");
            let open = fs::read_to_string(&path).unwrap();
            fs::remove_file(path).unwrap();
            for link in open.lines() {
                let harmless = link.starts_with("pipe:")
                    || link == "/dev/null"
                    || link.starts_with("/tmp/fds-");
                assert!(harmless, "closed {which}: {link}");
            }
        }
    });
}

#[test]
fn r23_limits_of_the_caller_hold_inside_or_nothing_runs() {
    on_stage(|stage| {
        let limits = [
            "-n 3",
            "-n 4",
            "-n 8",
            "-n 16",
            "-n 100",
            "-f 0",
            "-v 4096",
            "-s 64",
            "-u 1",
            "-t 1",
            "-c unlimited",
            "-l 0",
        ];
        for limit in limits {
            let (option, value) = limit.split_once(' ').unwrap();
            let wrapper = ["bash", "-c", &format!("ulimit {limit} && exec \"$@\""), "-"];
            let show = ["sh", "-c", &format!("ulimit {option}")];
            let passwd = "--passwd=tester:x:23001:23001::/:/bin/sh";
            let ran = finish(&mut stage.command_behind(&wrapper, &[passwd], &show));
            let closed = ran.code.is_none_or(|code| code >= 125);
            assert!(closed || (ran.code == Some(0) && ran.out.trim() == value), "{limit}: {ran:?}");
        }
        let wrapper = ["bash", "-c", "ulimit -n 100 && exec \"$@\"", "-"];
        let ran = finish(&mut stage.command_behind(
            &wrapper,
            &[],
            &["sh", "-c", "ulimit -n; ulimit -Hn"],
        ));
        assert_eq!(ran.out, "100\n100\n", "{ran:?}");
    });
}

#[test]
fn r24_signal_mask_and_dispositions_are_the_callers() {
    on_stage(|stage| {
        let signals = ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"];
        for setting in ["trap '' HUP INT TERM USR1 PIPE CHLD", "trap '' TERM", "true"] {
            let plain = finish(
                as_user(USER)
                    .args(["bash", "-c", &format!("{setting}; exec \"$@\""), "-"])
                    .args(signals),
            );
            let wrapper = ["bash", "-c", &format!("{setting}; exec \"$@\""), "-"];
            let inside = finish(&mut stage.command_behind(&wrapper, &[], &signals));
            assert_eq!(inside.out, plain.out, "{setting}");
        }
        let blocked = "import os,signal,sys; signal.pthread_sigmask(signal.SIG_BLOCK, range(1,32)); os.execv(sys.argv[1], sys.argv[1:])";
        let ran = finish(&mut stage.command_behind(
            &["python3", "-c", blocked],
            &[],
            &["grep", "SigBlk", "/proc/self/status"],
        ));
        assert_eq!(
            ran.out.trim(),
            "SigBlk:\tfffffffe7ffbfeff".replace("fffffffe", "00000000"),
            "{ran:?}"
        );
    });
}

#[test]
fn r26_umask_niceness_and_directory_are_kept_and_a_lost_directory_is_told() {
    on_stage(|stage| {
        let wrapper = ["bash", "-c", "umask 0137; exec nice -n 5 \"$@\"", "-"];
        let ran = finish(&mut stage.command_behind(
            &wrapper,
            &[],
            &["sh", "-c", "umask; cut -d' ' -f19 /proc/$$/stat"],
        ));
        assert_eq!(ran.out, "0137\n5\n", "{ran:?}");
        let ran = finish(stage.command(&[], &["pwd"]).current_dir("/tmp"));
        assert_eq!((&*ran.out, &*ran.err), ("/tmp\n", ""));
        let ran = finish(stage.command(&[], &["pwd"]).current_dir(HOME));
        assert_eq!(ran.out, "/\n");
        assert_eq!(
            ran.err,
            "gantry: the working directory /srv/user is not in the image, starting in /\n"
        );
        let wrapper = [
            "bash",
            "-c",
            "mkdir /srv/user/gone; cd /srv/user/gone; rmdir ../gone; exec \"$@\"",
            "-",
        ];
        let ran = finish(&mut stage.command_behind(&wrapper, &[], &["pwd"]));
        assert_eq!((&*ran.out, ran.err.lines().count()), ("/\n", 1), "{ran:?}");
        assert_eq!(stage.shell(&["--workdir=/usr/local"], "pwd"), "/usr/local\n");
        assert_eq!(stage.shell(&["--workdir"], "pwd"), "/opt\n");
        stage.expect_refusal(
            &["--workdir=/nosuch"],
            "cannot enter working directory /nosuch in the image: no such file",
        );
    });
}

#[test]
fn r27_odd_argument_lists_are_refused_or_passed_through() {
    on_stage(|stage| {
        let exec = |list: &str| {
            let text = format!("import os,sys\nos.execve('{SUID}', {list}, {{}})");
            finish(as_user(USER).args(["python3", "-c", &text]))
        };
        for list in ["['x']", "['x', '']", "['x', 'run']"] {
            let ran = exec(list);
            assert_eq!((ran.code, ran.err.lines().count()), (Some(125), 1), "{list}: {ran:?}");
        }
        let hex = stage.digest.hex();
        let ran = exec(&format!("['x', 'run', '--digest={hex}', '--', 'echo', b'\\xff\\xfe']"));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let ran = exec(&format!(
            "['x', 'run', '--digest={hex}', '--', 'sh', '-c', 'echo $#', 'x'] + ['a' * 100000] * 10"
        ));
        assert_eq!((ran.code, &*ran.out), (Some(0), "10\n"), "{}", ran.err);
    });
}

#[test]
fn r28_nothing_the_environment_names_is_opened_before_the_drop() {
    on_stage(|stage| {
        let log = "/srv/trace";
        let mut command = Command::new("/usr/bin/strace");
        command.args(["-f", "-u", "tester", "-o", log]);
        for name in [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "LD_AUDIT",
            "GCONV_PATH",
            "LOCPATH",
            "NLSPATH",
            "TZ",
            "TZDIR",
            "TMPDIR",
            "HOME",
            "PATH",
            "RUST_BACKTRACE",
            "GANTRY_CONF",
            "MALLOC_TRACE",
            "GLIBC_TUNABLES",
        ] {
            command.arg(format!("--env={name}=/srv/user/attack"));
        }
        let digest = format!("--digest={}", stage.digest.hex());
        command
            .args([SUID, "run", &digest, "--", "true"])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null());
        let ran = finish(&mut command);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let trace = fs::read_to_string(log).unwrap();
        let (before, after) = trace.split_once("PR_SET_NO_NEW_PRIVS").unwrap();
        assert!(before.contains("fsopen(") && after.contains("execve("), "{trace}");
        let opened = before.lines().skip(1).any(|line| line.contains("attack"));
        assert!(!opened, "{before}");
    });
}

#[test]
fn r44_exit_codes_are_the_commands_or_say_why_there_was_none() {
    on_stage(|stage| {
        assert_eq!(stage.run(&[], &["true"]).code, Some(0));
        assert_eq!(stage.run(&[], &["sh", "-c", "exit 7"]).code, Some(7));
        assert_eq!(stage.run(&[], &["sh", "-c", "kill -9 $$"]).code, None);
        let missing = stage.run(&[], &["nosuch"]);
        assert_eq!(missing.code, Some(127));
        assert!(
            missing.err.starts_with(
                "gantry: cannot run nosuch in the image: no such file or directory\nhint: "
            ),
            "{missing:?}"
        );
        assert_eq!(stage.run(&[], &["/nosuch/x"]).code, Some(127));
        let refused = stage.run(&[], &["/not-executable"]);
        assert_eq!(
            (refused.code, &*refused.err),
            (Some(126), "gantry: cannot run /not-executable in the image: permission denied\n")
        );
        assert_eq!(stage.run(&[], &["/etc"]).code, Some(126));
    });
}

#[test]
fn the_command_comes_from_the_image_where_the_caller_gives_none() {
    on_stage(|stage| {
        assert_eq!(stage.run(&["--entrypoint"], &[]).out, "entry cmd\n");
        assert_eq!(stage.run(&["--entrypoint"], &["you"]).out, "entry you\n");
        assert_eq!(stage.run(&["--entrypoint=/bin/echo"], &["you"]).out, "you\n");
        assert_eq!(stage.run(&[], &[]).code, Some(0));
    });
}

#[test]
fn accounts_and_environment_are_the_callers_then_the_images() {
    on_stage(|stage| {
        let lines = [
            "--passwd=tester:x:23001:23001::/srv/user:/bin/sh",
            "--group=users:x:23001:",
            "--group=lab:x:23050:tester",
        ];
        assert_eq!(
            stage.shell(&lines, "id"),
            "uid=23001(tester) gid=23001(users) groups=23001(users),23050(lab)\n"
        );
        assert_eq!(
            stage.shell(&lines, "cat /etc/passwd"),
            "tester:x:23001:23001::/srv/user:/bin/sh\nroot:x:0:0::/root:/bin/sh\n"
        );
        assert_eq!(stage.run(&lines, &["touch", "/etc/passwd"]).code, Some(1));
        stage.expect_refusal(
            &["--passwd=root:x:0:0::/:/bin/sh"],
            "--passwd wants a well-formed line",
        );
        stage.configure("siteEnv=SITE=1\nsiteEnvAppend=PATH=/opt/bin");
        let ran = finish(
            stage.command(&["--env=MINE=2"], &["env"]).env("CALLER", "3").env("LD_PRELOAD", "/x"),
        );
        for wanted in [
            "SITE=1",
            "PATH=/bin:/opt/bin",
            "MINE=2",
            "CALLER=3",
            "FROM_IMAGE=1",
            "GANTRY_RUNTIME=1",
        ] {
            assert!(ran.out.lines().any(|line| line == wanted), "{wanted}: {ran:?}");
        }
        assert!(!ran.out.contains("LD_PRELOAD"));
    });
}

#[test]
fn explain_prints_the_plan_and_mounts_nothing() {
    on_stage(|stage| {
        let ran = stage.run(&["--explain", "--volume=/nosuch:/mnt"], &["true"]);
        assert_eq!((ran.code, &*ran.err), (Some(0), ""));
        assert!(ran.out.starts_with(" 1. open, as the caller, volume /nosuch for /mnt"), "{ran:?}");
        assert!(loop_devices(&stage.digest).is_empty());
    });
}

#[test]
fn time_takes_every_step_but_the_command() {
    on_stage(|stage| {
        let ran = stage.run(&["--explain", "--time"], &["touch", "/tmp/never"]);
        assert_eq!((ran.code, &*ran.err), (Some(0), ""));
        let steps: Vec<&str> =
            ran.out.lines().filter_map(|line| line.split_once(" us  ")).map(|it| it.1).collect();
        assert!(steps.contains(&"make the image the root directory (pivot_root)"), "{ran:?}");
        assert_eq!(steps.last(), Some(&"drop every privilege for ever and verify it"), "{ran:?}");
        // What cannot be done fails as it would for the command.
        stage.expect_refusal(&["--time", "--volume=/nosuch:/mnt"], "open volume source /nosuch");
        assert!(!std::path::Path::new("/tmp/never").exists());
    });
}

#[test]
fn without_set_user_id_it_says_so_and_root_is_refused() {
    on_stage(|stage| {
        let ran = stage.root(&["run", &format!("--digest={}", stage.digest.hex()), "--", "true"]);
        assert_eq!(ran.code, Some(125));
        assert!(ran.err.contains("root runs no containers"), "{ran:?}");
        let ran = finish(&mut stage.command_behind(&["setpriv", "--no-new-privs"], &[], &["true"]));
        assert!(ran.code == Some(125) && ran.err.contains("no_new_privs"), "{ran:?}");
        own(SUID, 0, 0o755);
        let ran = stage.run(&[], &["true"]);
        assert!(ran.code == Some(125) && ran.err.contains("not set-user-id root"), "{ran:?}");
    });
}
