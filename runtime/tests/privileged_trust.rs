//! What is trusted and who is admitted: the catalogue's R29 to R36 and R46, on the built product.

mod stage;

use image_ref::{Access, Digest};
use stage::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

#[test]
fn r29_a_configuration_that_others_could_have_written_is_refused() {
    on_stage(|stage| {
        let good = fs::read(CONF).unwrap();
        own(CONF, USER, 0o644);
        stage.expect_refusal(
            &[],
            "/etc/gantry/udiRoot.conf is not trusted: it belongs to uid 23001, not to uid 0",
        );
        for mode in [0o664, 0o646] {
            own(CONF, 0, mode);
            stage.expect_refusal(
                &[],
                "/etc/gantry/udiRoot.conf is not trusted: others than its owner can write it",
            );
        }
        file(CONF, &[b"#".repeat(1 << 20).as_slice(), &good].concat(), 0, 0o644);
        stage.expect_refusal(&[], "cannot read /etc/gantry/udiRoot.conf: file too large");
        fs::rename(CONF, "/etc/gantry/real").unwrap();
        symlink("real", CONF).unwrap();
        stage.expect_refusal(
            &[],
            "cannot open /etc/gantry/udiRoot.conf: too many levels of symbolic links",
        );
        fs::remove_file(CONF).unwrap();
        stage.expect_refusal(&[], "cannot open /etc/gantry/udiRoot.conf: no such file");
        fs::create_dir(CONF).unwrap();
        stage.expect_refusal(&[], "it is not a regular file");
        fs::remove_dir(CONF).unwrap();
        nix::unistd::mkfifo(CONF, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        stage.expect_refusal(&[], "it is not a regular file");
        fs::remove_file(CONF).unwrap();
        file(CONF, &good, 0, 0o644);
        own("/etc/gantry", 0, 0o775);
        stage.expect_refusal(&[], "/etc/gantry is not trusted: others than its owner can write it");
        own("/etc/gantry", 0, 0o755);
        stage.configure("nonsense=1");
        stage.expect_refusal(
            &[],
            "cannot use /etc/gantry/udiRoot.conf: line 3: there is no key `nonsense`",
        );
    });
}

#[test]
fn r30_without_image_owner_the_directory_says_whose_images_are_trusted() {
    on_stage(|stage| {
        file(CONF, format!("imagePath={IMAGES}\n").as_bytes(), 0, 0o644);
        assert_eq!(stage.shell(&[], "echo inside").trim(), "inside");
        own(IMAGES, USER, 0o711);
        stage.expect_refusal(&[], "it belongs to uid 23000, not to uid 23001");
        own(IMAGES, 0, 0o711);
        stage.expect_refusal(&[], "it belongs to uid 23000, not to uid 0");
    });
}

#[test]
fn r30_an_image_file_that_is_not_as_published_is_refused() {
    on_stage(|stage| {
        let path = stage.image();
        let good = fs::read(&path).unwrap();
        let refused = |text: &str| stage.expect_refusal(&[], text);
        own(&path, USER, 0o444);
        refused("it belongs to uid 23001, not to uid 23000");
        own(&path, OWNER, 0o464);
        refused("others than its owner can write it");
        own(&path, OWNER, 0o444);
        fs::hard_link(&path, format!("{IMAGES}/second")).unwrap();
        refused("its file has other names");
        fs::remove_file(format!("{IMAGES}/second")).unwrap();
        for (content, text) in [
            (&b""[..], "its file is no squashfs file system"),
            (&[7; 8192], "its file is no squashfs file system"),
            (&good[..good.len() - 1], "its file is shorter than it was published"),
            (&good[..4096], "its file is shorter than it was published"),
        ] {
            file(&path, content, OWNER, 0o444);
            refused(text);
        }
        fs::remove_file(&path).unwrap();
        refused("is not on this node's file system: ");
        fs::create_dir(&path).unwrap();
        own(&path, OWNER, 0o755);
        refused("it is not a regular file");
        fs::remove_dir(&path).unwrap();
        file("/srv/elsewhere", &good, OWNER, 0o444);
        symlink("/srv/elsewhere", &path).unwrap();
        refused("too many levels of symbolic links");
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(path.as_str(), nix::sys::stat::Mode::from_bits_truncate(0o444))
            .unwrap();
        own(&path, OWNER, 0o444);
        refused("it is not a regular file");
        fs::remove_file(&path).unwrap();
        assert!(Command::new("mknod").args([&path, "b", "7", "0"]).status().unwrap().success());
        own(&path, OWNER, 0o444);
        refused("cannot be used: ");
    });
}

#[test]
fn a_missing_image_is_told_with_its_name_and_what_to_do() {
    on_stage(|stage| {
        fs::remove_file(stage.image()).unwrap();
        let ran = stage.run(&["--request=docker:x:1"], &["true"]);
        let (digest, path) = (stage.digest, stage.image());
        assert_eq!(
            ran.err,
            format!(
                "gantry: image {digest} (docker:x:1) is not on this node's file system: {path} does not exist\n\
                 hint: it may have been removed; ask for it again with `imgctl pull docker:x:1`\n"
            )
        );
    });
}

#[test]
fn r31_nothing_but_a_digest_names_an_image() {
    on_stage(|stage| {
        let hex = stage.digest.hex().to_string();
        for name in [
            "../../etc/passwd",
            "/etc/passwd",
            ".",
            "",
            "a\n",
            &"a".repeat(4096),
            &hex.to_uppercase(),
            &hex[1..],
            &format!("{hex}0"),
        ] {
            let ran = finish(as_user(USER).args([
                SUID,
                "run",
                &format!("--digest={name}"),
                "--",
                "true",
            ]));
            assert_eq!(
                (ran.code, &*ran.err),
                (Some(125), "gantry: --digest wants 64 lower-case hexadecimal digits\n")
            );
        }
    });
}

#[test]
fn r32_a_directory_that_others_can_write_holds_no_images() {
    on_stage(|stage| {
        own(IMAGES, OWNER, 0o777);
        stage.expect_refusal(&[], "/srv/images is not trusted: others than its owner can write it");
        own(IMAGES, USER, 0o755);
        stage.expect_refusal(
            &[],
            "/srv/images is not trusted: it belongs to uid 23001, not to uid 23000",
        );
        own(IMAGES, OWNER, 0o755);
        own("/srv", 0, 0o1777);
        stage.expect_refusal(&[], "/srv is not trusted");
        own("/srv", 0, 0o755);
        stage.configure("imagePath=/srv/nosuch");
        stage.expect_refusal(&[], "hint: is the file system with the images mounted on this node?");
    });
}

#[test]
fn r33_access_is_what_the_sidecar_says_and_otherwise_none() {
    on_stage(|stage| {
        let image = fs::read(stage.image()).unwrap();
        let listed = |uids: &[u32], gids: &[u32]| Access::Listed {
            uids: uids.to_vec(),
            gids: gids.to_vec(),
        };
        for (access, admitted) in [
            (Access::Public, true),
            (listed(&[], &[]), false),
            (listed(&[USER], &[]), true),
            (listed(&[OTHER], &[]), false),
            (listed(&[], &[USER]), true),
            (listed(&[], &[PROJECT]), true),
            (listed(&[], &[OTHER]), false),
            (listed(&[0, OWNER], &[0, OWNER]), false),
        ] {
            stage.publish(&image, access.clone());
            let ran = stage.run(&[], &["true"]);
            assert_eq!(ran.code == Some(0), admitted, "{access:?}: {ran:?}");
            assert!(
                admitted
                    || ran.err.contains("is private and you are not among those who may use it"),
                "{ran:?}"
            );
        }
        let mut mine = stage.describe(listed(&[], &[]));
        mine.owner = USER;
        file(stage.sidecar(), &mine.encode().unwrap(), OWNER, 0o400);
        assert_eq!(stage.run(&[], &["true"]).code, Some(0), "the owner of an image may use it");
        let encoded = mine.encode().unwrap();
        file(stage.sidecar(), &encoded[..encoded.len() - 1], OWNER, 0o400);
        stage.expect_refusal(&[], "its sidecar cannot be read");
        mine.digest = Digest::from_bytes([1; 32]);
        file(stage.sidecar(), &mine.encode().unwrap(), OWNER, 0o400);
        stage.expect_refusal(&[], "its sidecar belongs to another image");
        fs::remove_file(stage.sidecar()).unwrap();
        stage.expect_refusal(&[], "cannot be used: cannot open");
    });
}

#[test]
fn r34_a_private_image_is_unreadable_and_one_that_is_readable_is_not_private() {
    on_stage(|stage| {
        let image = fs::read(stage.image()).unwrap();
        let access = Access::Listed { uids: vec![USER], gids: vec![] };
        stage.publish(&image, access);
        assert_ne!(finish(as_user(OTHER).args(["cat", &stage.image()])).code, Some(0));
        assert_eq!(stage.run(&[], &["true"]).code, Some(0));
        for path in [stage.image(), stage.sidecar()] {
            for mode in [0o444, 0o440, 0o401] {
                own(&path, OWNER, mode);
                stage.expect_refusal(&[], "it is private but others can read its file or sidecar");
            }
            own(&path, OWNER, 0o400);
        }
    });
}

#[test]
fn r35_a_traced_start_has_no_privilege() {
    on_stage(|stage| {
        let ran = finish(&mut stage.command_behind(
            &["strace", "-f", "-o", "/srv/user/trace"],
            &[],
            &["true"],
        ));
        assert_eq!(ran.code, Some(125), "{ran:?}");
        assert!(ran.err.contains("this program is not set-user-id root"), "{ran:?}");
    });
}

#[test]
fn r36_nobody_of_the_same_uid_looks_into_a_start_that_stands_still() {
    on_stage(|stage| {
        // The lock of the loop devices is taken, so the start waits for it, two seconds at most, privileged.
        fs::write("/run/gantry/loop.lock", "").unwrap();
        let held = fs::File::open("/run/gantry/loop.lock").unwrap();
        held.lock().unwrap();
        let mut child = stage.command(&[], &["true"]).stderr(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        wait_until("the start to become root", || {
            fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| {
                status.contains("Uid:\t23001\t0\t0\t23001")
                    || status.contains("Uid:\t23001\t0\t0\t0")
            })
        });
        let look = format!(
            "for f in mem environ maps auxv stack; do cat /proc/{pid}/$f >/dev/null 2>&1 && echo $f; done; \
             ls /proc/{pid}/fd/ >/dev/null 2>&1 && echo fd; readlink /proc/{pid}/root && echo root; readlink /proc/{pid}/ns/mnt && echo ns; \
             prlimit --pid {pid} --nofile=4 2>/dev/null && echo prlimit; taskset -p 1 {pid} >/dev/null 2>&1 && echo taskset; \
             renice -n 19 -p {pid} >/dev/null 2>&1 && echo renice; timeout 1 strace -p {pid} >/dev/null 2>&1; [ $? = 124 ] && echo strace; true"
        );
        let ran = finish(as_user(USER).args(["bash", "-c", &look]));
        assert_eq!(ran.out, "", "{ran:?}");
        drop(held);
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn r42_in_a_user_namespace_there_is_no_privilege_and_a_clear_message() {
    on_stage(|stage| {
        let ran = finish(&mut stage.command_behind(&["unshare", "-U"], &[], &["true"]));
        assert!(ran.code == Some(125) && ran.err.starts_with("gantry: "), "{ran:?}");
        let ran = finish(&mut stage.command_behind(&["unshare", "-Ur"], &[], &["true"]));
        assert!(ran.code == Some(125) && ran.err.starts_with("gantry: "), "{ran:?}");
    });
}

#[test]
fn r46_without_loop_devices_it_says_so() {
    on_stage(|stage| {
        tmpfs("/dev", "mode=0755", nix::mount::MsFlags::empty());
        assert!(
            Command::new("/bin/busybox")
                .args(["mknod", "-m", "666", "/dev/null", "c", "1", "3"])
                .status()
                .unwrap()
                .success()
        );
        stage.expect_refusal(&[], "cannot open /dev/loop-control");
    });
}

#[test]
fn r45_a_call_that_the_kernel_has_not_or_refuses_is_a_clear_refusal() {
    on_stage(|stage| {
        let digest = format!("--digest={}", stage.digest.hex());
        let injected = |call: &str, error: &str| {
            let mut command = Command::new("/usr/bin/strace");
            command.args(["-u", "tester", "-o", "/dev/null", "-e", &format!("trace={call}")]);
            command.args(["-e", &format!("inject={call}:error={error}"), SUID, "run", &digest]);
            command.args([
                "--volume=/srv/user:/data/x",
                "--passwd=tester:x:23001:23001::/:/bin/sh",
                "--",
                "true",
            ]);
            finish(command.current_dir("/").stdin(Stdio::null()))
        };
        let before = mounts();
        for call in [
            "openat2",
            "open_tree",
            "mount_setattr",
            "fsopen",
            "fsconfig",
            "fsmount",
            "move_mount",
            "close_range",
        ] {
            let ran = injected(call, "ENOSYS");
            assert_eq!(ran.code, Some(125), "{call}: {ran:?}");
            let last = ran.err.lines().last();
            assert_eq!(last, Some("hint: gantry needs Linux 5.14 or later"), "{call}: {ran:?}");
        }
        for call in [
            "setresuid",
            "setresgid",
            "capset",
            "prctl",
            "unshare",
            "pivot_root",
            "umount2",
            "statx",
            "getgroups",
            "umask,read",
            "rt_sigprocmask",
            "setitimer",
            "prlimit64",
            "mkdirat",
            "getdents64",
            "readlinkat",
            "fchdir",
            "ioctl",
        ] {
            let ran = injected(call, "EPERM");
            assert!(ran.code == Some(125) && ran.err.starts_with("gantry: "), "{call}: {ran:?}");
            assert_eq!(mounts(), before, "{call}");
        }
    });
}
