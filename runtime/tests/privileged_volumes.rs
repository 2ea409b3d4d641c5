//! Volumes: the catalogue's R07 to R20, on the built product.

mod stage;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use stage::*;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[test]
fn r07_a_volume_that_only_root_can_reach_is_refused_before_any_mount() {
    on_stage(|stage| {
        directory("/srv/rootonly", 0, 0o700);
        directory("/srv/rootonly/x", 0, 0o755);
        stage.expect_refusal(
            &["--volume=/srv/rootonly/x:/mnt"],
            "cannot open volume source /srv/rootonly/x: permission denied\n",
        );
        assert!(loop_devices(&stage.digest).is_empty());
        stage.expect_refusal(
            &["--volume=/nosuch:/mnt"],
            "cannot open volume source /nosuch: no such file or directory\n",
        );
    });
}

#[test]
fn r08_a_volume_below_another_users_private_directory_is_refused() {
    on_stage(|stage| {
        directory("/srv/other", OTHER, 0o700);
        directory("/srv/other/x", OTHER, 0o755);
        stage.expect_refusal(&["--volume=/srv/other/x:/mnt"], "permission denied");
        // A group that the caller has does open it: supplementary groups are kept.
        directory("/srv/project", OTHER, 0o750);
        nix::unistd::chown("/srv/project", None, Some(PROJECT.into())).unwrap();
        directory("/srv/project/x", OTHER, 0o755);
        assert_eq!(stage.run(&["--volume=/srv/project/x:/mnt"], &["true"]).code, Some(0));
    });
}

#[test]
fn r09_malformed_volumes_are_usage_errors_without_a_loop_device() {
    on_stage(|stage| {
        let long = format!("/{}:/mnt", "a".repeat(5000));
        for volume in [
            "",
            "srv:/mnt",
            "/srv:mnt",
            "/srv",
            "/srv:/mnt:ro:x",
            "/srv:/mnt\n",
            "/srv:/mnt:rw",
            &long,
        ] {
            stage.expect_refusal(&[&format!("--volume={volume}")], "");
        }
        assert!(loop_devices(&stage.digest).is_empty());
    });
}

#[test]
fn r10_the_root_is_no_target() {
    on_stage(|stage| {
        for target in ["/", "//", "/.", "/./"] {
            stage.expect_refusal(
                &[&format!("--volume=/srv/user:{target}")],
                "nothing may be mounted on `/`",
            );
        }
    });
}

#[test]
fn r11_protected_targets_are_refused_also_behind_links_of_the_image() {
    on_stage(|stage| {
        for target in [
            "/proc",
            "/proc/1",
            "/sys",
            "/sys/fs",
            "/dev",
            "/dev/shm",
            "/etc/passwd",
            "/etc",
            "/etc/x/y",
            "/var/log",
        ] {
            stage.expect_refusal(
                &[&format!("--volume=/srv/user:{target}")],
                "nothing may be mounted on",
            );
        }
        let image = make_image("links", &|tree| {
            for (target, name) in [
                ("/etc", "toetc"),
                ("../../../proc", "toproc"),
                ("opt/../etc", "around"),
                ("/", "toroot"),
            ] {
                std::os::unix::fs::symlink(target, tree.join(name)).unwrap();
            }
        });
        stage.publish(&image, image_ref::Access::Public);
        for target in [
            "/toetc",
            "/toetc/new",
            "/toproc",
            "/toproc/self",
            "/around",
            "/toroot",
            "/toroot/etc",
            "/toroot/toroot/dev/shm",
        ] {
            stage.expect_refusal(
                &[&format!("--volume=/srv/user:{target}")],
                "nothing may be mounted on",
            );
        }
    });
}

#[test]
fn r12_a_file_and_a_directory_are_not_bound_on_each_other() {
    on_stage(|stage| {
        file("/srv/user/f", b"content", USER, 0o644);
        stage.expect_refusal(
            &["--volume=/srv/user/f:/mnt"],
            "it is a directory there and the source is a file",
        );
        stage.expect_refusal(
            &["--volume=/srv/user:/not-executable"],
            "it is a file there and the source is a directory",
        );
        stage.expect_refusal(&["--volume=/srv/user:/not-executable/x"], "not a directory");
        assert_eq!(
            stage.shell(&["--volume=/srv/user/f:/not-executable"], "cat /not-executable"),
            "content"
        );
        assert_eq!(stage.shell(&["--volume=/srv/user/f:/new/place"], "cat /new/place"), "content");
    });
}

#[test]
fn r13_a_missing_target_is_made_inside_and_nowhere_else() {
    on_stage(|stage| {
        file("/srv/user/f", b"content", USER, 0o644);
        let options = ["--volume=/srv/user:/data/a/b"];
        assert_eq!(stage.shell(&options, "cat /data/a/b/f; touch /data/a/b/new"), "content");
        assert!(fs::exists("/srv/user/new").unwrap() && !fs::exists("/data").unwrap());
        for place in ["/x", "/data/x", "/data/a/x"] {
            assert_eq!(stage.run(&options, &["touch", place]).code, Some(1), "{place}");
        }
        assert_eq!(stage.run(&[], &["test", "-e", "/data"]).code, Some(1));
    });
}

#[test]
fn r14_the_rest_of_the_image_looks_the_same_with_a_deep_missing_target() {
    on_stage(|stage| {
        let listing = "cd / && ls -lnR bin etc usr opt mnt 2>/dev/null | sed 's/[A-Z][a-z][a-z] [ 0-9:]* / /' | grep -v '^total'";
        let without = stage.shell(&["--volume=/srv/user:/mnt"], listing);
        let with =
            stage.shell(&["--volume=/srv/user:/mnt", "--volume=/srv/user:/usr/local/x/y"], listing);
        let extra: Vec<&str> =
            with.lines().filter(|line| !without.lines().any(|other| other == *line)).collect();
        assert!(
            extra
                .iter()
                .all(|line| line.contains('x') || line.contains('y') || line.starts_with('d')),
            "{extra:?}"
        );
        for line in without.lines().filter(|line| line.starts_with('-') || line.starts_with('l')) {
            assert!(with.lines().any(|other| other == line), "{line} is lost");
        }
    });
}

#[test]
fn r15_a_read_only_volume_is_read_only_with_its_submounts() {
    on_stage(|stage| {
        directory("/srv/user/sub", USER, 0o755);
        tmpfs("/srv/user/sub", "mode=0777", MsFlags::empty());
        let script = "touch /mnt/x /mnt/sub/x 2>&1 | grep -c Read-only";
        assert_eq!(stage.shell(&["--volume=/srv/user:/mnt:ro"], script), "2\n");
        assert_eq!(stage.shell(&["--volume=/srv/user:/mnt"], "touch /mnt/x /mnt/sub/x"), "");
    });
}

#[test]
fn r16_flags_of_the_host_are_kept() {
    on_stage(|stage| {
        tmpfs(
            "/srv/user",
            "mode=0777",
            MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY | MsFlags::MS_NODEV,
        );
        let options = options_of(
            &stage.shell(&["--volume=/srv/user:/mnt"], "cat /proc/self/mountinfo"),
            "/mnt",
        );
        for flag in ["ro", "noexec", "nodev", "nosuid"] {
            assert!(options.contains(&flag.into()), "{flag}: {options:?}");
        }
    });
}

#[test]
fn r17_submounts_lose_set_ids_and_devices() {
    on_stage(|stage| {
        directory("/srv/user/sub", USER, 0o755);
        tmpfs("/srv/user/sub", "mode=0777", MsFlags::empty());
        let options = options_of(
            &stage.shell(&["--volume=/srv/user:/mnt"], "cat /proc/self/mountinfo"),
            "/mnt/sub",
        );
        assert!(
            options.contains(&"nosuid".into()) && options.contains(&"nodev".into()),
            "{options:?}"
        );
    });
}

#[test]
fn r18_later_mounts_of_the_host_appear_and_can_be_unmounted() {
    on_stage(|stage| {
        directory("/srv/user/late", USER, 0o755);
        tmpfs("/srv/user/late", "mode=0755", MsFlags::empty());
        mount(None::<&str>, "/srv/user/late", None::<&str>, MsFlags::MS_SHARED, None::<&str>)
            .unwrap();
        directory("/srv/user/late/sub", USER, 0o755);
        let script = "echo started; read line; ls /mnt/sub; read line; ls /mnt/sub";
        let mut child = stage
            .command(&["--volume=/srv/user/late:/mnt"], &["sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(output.next().unwrap().unwrap(), "started");
        tmpfs("/srv/user/late/sub", "mode=0755", MsFlags::empty());
        file("/srv/user/late/sub/arrived", b"", USER, 0o644);
        std::io::Write::write_all(&mut input, b"\n").unwrap();
        assert_eq!(output.next().unwrap().unwrap(), "arrived");
        umount2("/srv/user/late/sub", MntFlags::empty()).unwrap();
        std::io::Write::write_all(&mut input, b"\n").unwrap();
        assert!(output.next().is_none() && child.wait().unwrap().success());
    });
}

#[test]
fn r19_mounts_made_inside_do_not_reach_the_host() {
    on_stage(|stage| {
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>)
            .unwrap();
        let before = mounts();
        let script = "unshare -Urm sh -c 'mount -t tmpfs t /mnt && echo inside'";
        let ran = stage.run(&["--volume=/srv/user:/mnt"], &["sh", "-c", script]);
        assert_eq!(ran.out, "inside\n", "{ran:?}");
        assert_eq!(mounts(), before);
    });
}

#[test]
fn r20_hidepid_of_the_host_is_kept() {
    on_stage(|stage| {
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), Some("hidepid=2")).unwrap();
        let mut other =
            as_user(OTHER).args(["sleep", "100"]).stdout(Stdio::null()).spawn().unwrap();
        let ran = stage.run(&[], &["ls", "-d", &format!("/proc/{}", other.id())]);
        other.kill().unwrap();
        other.wait().unwrap();
        assert_ne!(ran.code, Some(0), "{ran:?}");
    });
}

#[test]
fn site_volumes_come_first_and_users_cover_none_of_them() {
    on_stage(|stage| {
        directory("/srv/site", 0, 0o755);
        file("/srv/site/f", b"site", 0, 0o644);
        stage.configure("siteFs=/srv/site:/scratch;/srv/site:/srv/site:ro");
        assert_eq!(stage.shell(&[], "cat /scratch/f /srv/site/f"), "sitesite");
        stage.expect_refusal(&["--volume=/srv/user:/scratch"], "it lies within another mount");
        stage.expect_refusal(&["--volume=/srv/user:/scratch/x"], "it lies within another mount");
        stage.configure("siteFs=/srv/site:/global/homes");
        stage.expect_refusal(&["--volume=/srv/user:/global"], "it would hide a mount below it");
        stage.expect_refusal(
            &["--volume=/srv/user:/a", "--volume=/srv/user:/a/b"],
            "it lies within another mount",
        );
        stage.expect_refusal(
            &["--volume=/srv/user:/a/b", "--volume=/srv/user:/a"],
            "it would hide a mount below it",
        );
        stage.configure("siteFs=/srv/nosuch:/scratch");
        stage.expect_refusal(&[], "cannot open the site's /srv/nosuch: no such file or directory");
    });
}

#[test]
fn what_shifter_copies_for_the_site_and_its_modules_is_there() {
    on_stage(|stage| {
        for (path, text) in [("/srv/opt/site", &b"site"[..]), ("/srv/mpich/lib", b"mpich")] {
            directory(path.rsplit_once('/').unwrap().0, 0, 0o755);
            file(path, text, 0, 0o644);
        }
        stage.configure("optUdiImage=/srv/opt");
        assert_eq!(stage.shell(&[], "cat /opt/udiImage/site"), "site");
        assert_ne!(stage.run(&[], &["sh", "-c", "echo x >/opt/udiImage/site"]).code, Some(0));
        stage.configure("module_mpich_copyPath=/srv/mpich\nmodule_other_siteEnv=A=1");
        let shown = "cat /opt/udiImage/modules/mpich/lib 2>/dev/null";
        assert_eq!(stage.shell(&["--module=mpich,other"], shown), "mpich");
        assert_ne!(stage.run(&[], &["sh", "-c", shown]).code, Some(0));
        stage.configure("module_mpich_copyPath=mpich");
        stage.expect_refusal(&[], "`copyPath` wants an absolute path");
    });
}

#[test]
fn hooks_of_modules_run_as_the_caller_inside_before_the_command() {
    on_stage(|stage| {
        directory("/srv/hooks", 0, 0o755);
        file("/srv/hooks/good", b"echo hook $(id -u) $(cat /etc/mark)\n", 0, 0o644);
        file("/srv/hooks/bad", b"echo not this library\nexit 3\n", 0, 0o644);
        stage.configure(
            "siteFs=/srv/hooks:/hooks;/srv/hooks/good:/etc/mark\n\
             module_a_userhook=/hooks/good\nmodule_b_userhook=/hooks/bad\n",
        );
        let good =
            stage.run(&["--module=a"], &["sh", "-c", "echo command \"$1\"; exit 7", "x", "a b"]);
        assert!(good.out.starts_with(&format!("hook {USER} ")), "{good:?}");
        assert!(good.out.ends_with("\ncommand a b\n"), "{good:?}");
        assert_eq!(good.code, Some(7));
        let bad = stage.run(&["--module=a,b"], &["echo", "command"]);
        assert_eq!((bad.code, bad.out.contains("command")), (Some(125), false), "{bad:?}");
        assert!(bad.err.contains("hook /hooks/bad failed"), "{bad:?}");
        assert_eq!(stage.run(&["--module=a"], &["nosuch"]).code, Some(127));
    });
}

#[test]
fn tmp_is_the_hosts_unless_a_volume_takes_its_place() {
    on_stage(|stage| {
        let name = format!("gantry-test-{}", stage.digest.hex());
        assert_eq!(stage.shell(&[], &format!("touch /tmp/{name}")), "");
        fs::remove_file(format!("/tmp/{name}")).unwrap();
        file("/srv/user/mine", b"", USER, 0o644);
        assert_eq!(
            stage.shell(
                &["--volume=/srv/user:/tmp", "--volume=/srv/user:/var/tmp"],
                "ls /tmp /var/tmp"
            ),
            "/tmp:\nmine\n\n/var/tmp:\nmine\n"
        );
    });
}

#[test]
fn an_image_without_mount_points_runs_and_one_with_false_ones_is_refused() {
    on_stage(|stage| {
        let bare = make_image("bare", &|tree| {
            for name in ["proc", "sys", "dev", "tmp", "var/tmp", "var"] {
                fs::remove_dir(tree.join(name)).unwrap();
            }
            for name in ["etc/hosts", "etc/resolv.conf", "etc/passwd"] {
                fs::remove_file(tree.join(name)).unwrap();
            }
            std::os::unix::fs::symlink(
                "../run/systemd/resolve/stub-resolv.conf",
                tree.join("etc/resolv.conf"),
            )
            .unwrap();
        });
        stage.publish(&bare, image_ref::Access::Public);
        let hosts = fs::read_to_string("/etc/hosts").unwrap()
            + &fs::read_to_string("/etc/resolv.conf").unwrap();
        let script = "cat /etc/hosts /etc/resolv.conf && test -d /proc/1 && test -c /dev/null && touch /tmp/x-$$ && rm /tmp/x-$$";
        assert_eq!(stage.shell(&["--passwd=tester:x:23001:23001::/:/bin/sh"], script), hosts);
        let false_proc = make_image("false", &|tree| {
            fs::remove_dir(tree.join("proc")).unwrap();
            std::os::unix::fs::symlink("/opt", tree.join("proc")).unwrap();
        });
        stage.publish(&false_proc, image_ref::Access::Public);
        stage.expect_refusal(&[], "cannot mount on /proc in the image: it is a link to /opt there");
    });
}

/// The options of the last mount on `target`.
fn options_of(mountinfo: &str, target: &str) -> Vec<String> {
    let line =
        mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some(target)).expect(target);
    line.split(' ').nth(5).expect(line).split(',').map(String::from).collect()
}

#[test]
fn r43_nested_user_namespaces_work_and_cannot_lift_our_flags() {
    on_stage(|stage| {
        assert_eq!(stage.run(&[], &["unshare", "-Ur", "id", "-u"]).out, "0\n");
        let lift =
            "mount -o remount,bind,rw / 2>&1 || mount -o remount,bind,dev / 2>&1 || echo refused";
        let ran = stage.run(&[], &["unshare", "-Urm", "sh", "-c", lift]);
        assert!(ran.out.ends_with("refused\n"), "{ran:?}");
    });
}
