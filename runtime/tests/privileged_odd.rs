//! Images and configurations that are odd but sound, and a kernel that refuses: on the built product.

mod stage;

use image_ref::Access;
use nix::mount::{MntFlags, umount2};
use stage::*;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PASSWD: &str = "--passwd=tester:x:23001:23001::/:/bin/sh";
const GROUP: &str = "--group=tester:x:23001:";

/// What is done to an image's tree before it is packed.
type Change<'a> = &'a dyn Fn(&Path);

#[test]
fn an_image_whose_root_everybody_can_write_is_no_less_an_image() {
    on_stage(|stage| {
        let open = make_image("open", &|tree| {
            fs::set_permissions(tree, Permissions::from_mode(0o777)).unwrap();
        });
        stage.publish(&open, Access::Public);
        file("/srv/user/f", b"content", USER, 0o644);
        let options = ["--volume=/srv/user:/data/new", PASSWD];
        assert_eq!(stage.shell(&options, "cat /data/new/f"), "content");
    });
}

#[test]
fn binds_that_nobody_asked_for_never_refuse_an_image() {
    on_stage(|stage| {
        let crowd = |tree: &Path| {
            for number in 0..600 {
                fs::write(tree.join(format!("etc/{number}")), "").unwrap();
            }
        };
        let without_resolver = |tree: &Path| fs::remove_file(tree.join("etc/resolv.conf")).unwrap();
        let latin = |tree: &Path| {
            fs::write(tree.join("etc").join(OsStr::from_bytes(b"gr\xfc\xdfe")), "").unwrap();
        };
        let as_directory = |tree: &Path| {
            for path in ["etc/hosts", "etc/passwd"] {
                fs::remove_file(tree.join(path)).unwrap();
                fs::create_dir(tree.join(path)).unwrap();
            }
        };
        let vast =
            |tree: &Path| fs::write(tree.join("etc/passwd"), vec![b'\n'; 300 << 10]).unwrap();
        let hidden = |tree: &Path| {
            let mode = Permissions::from_mode(0o600);
            fs::set_permissions(tree.join("etc/group"), mode).unwrap();
        };
        let loops = |tree: &Path| {
            fs::remove_dir(tree.join("tmp")).unwrap();
            symlink("tmp", tree.join("tmp")).unwrap();
        };
        let shared_memory = |tree: &Path| {
            fs::remove_dir(tree.join("tmp")).unwrap();
            fs::create_dir(tree.join("dev/shm")).unwrap();
            symlink("dev/shm", tree.join("tmp")).unwrap();
        };
        let cases: [(&str, Change<'_>); 7] = [
            ("crowd", &|tree| (crowd(tree), without_resolver(tree)).0),
            ("latin", &|tree| (latin(tree), without_resolver(tree)).0),
            ("directories", &as_directory),
            ("vast", &vast),
            ("hidden", &hidden),
            ("loops", &loops),
            ("shared-memory", &shared_memory),
        ];
        file("/srv/user/f", b"content", USER, 0o644);
        for (name, change) in cases {
            stage.publish(&make_image(name, change), Access::Public);
            for (options, script) in [
                (&[PASSWD, GROUP][..], "echo content"),
                (&[PASSWD, GROUP, "--volume=/srv/user:/data/new"], "cat /data/new/f"),
            ] {
                let ran = stage.run(options, &["sh", "-c", script]);
                assert_eq!(
                    (ran.code, ran.out.trim_end()),
                    (Some(0), "content"),
                    "{name} {options:?}: {ran:?}"
                );
            }
        }
    });
}

#[test]
fn privileged_c15_an_image_whose_own_places_are_links_or_files_is_refused_or_stays_inside() {
    on_stage(|stage| {
        directory("/srv/outside", 0, 0o755);
        file("/srv/outside/of-the-host", b"", 0, 0o644);
        let kinds: [(&str, Option<&str>); 4] = [
            ("inside", Some("/opt")),
            ("climbing", Some("../../../../../srv/outside")),
            ("ring", Some("ring")),
            ("file", None),
        ];
        for place in ["etc", "proc", "sys", "dev", "tmp"] {
            for (kind, target) in kinds {
                let image = make_image(&format!("{place}-{kind}"), &|tree| {
                    let path = tree.join(place);
                    fs::remove_dir_all(&path).unwrap();
                    match target {
                        Some("ring") => symlink(place, &path).unwrap(),
                        Some(target) => symlink(target, &path).unwrap(),
                        None => fs::write(&path, "of the image").unwrap(),
                    }
                });
                stage.publish(&image, Access::Public);
                let before = mounts();
                // What it leads to is in the image, where nothing of the host is and the host's own trees are true.
                let look = "ls -d /srv/outside/of-the-host /etc/of-the-host /tmp/of-the-host 2>&- \
                    || test -r /proc/self/status -a -d /sys/kernel -a -c /dev/null && echo whole";
                let ran = stage.run(&[PASSWD, GROUP], &["sh", "-c", look]);
                let refused = format!("cannot mount on /{place} in the image");
                match ran.code {
                    Some(125) => assert!(ran.err.contains(&refused), "{place} {kind}: {ran:?}"),
                    _ => assert_eq!(ran.out, "whole\n", "{place} {kind}: {ran:?}"),
                }
                assert_eq!(mounts(), before);
                let left: Vec<_> = fs::read_dir("/srv/outside").unwrap().collect();
                assert_eq!(left.len(), 1, "{place} {kind}: {left:?}");
            }
        }
    });
}

#[test]
fn renames_elsewhere_on_the_node_disturb_no_start() {
    on_stage(|stage| {
        let image = make_image("climbing", &|tree| {
            fs::remove_dir_all(tree.join("etc")).unwrap();
            symlink("opt/../opt/../opt/../opt/../opt/../opt", tree.join("etc")).unwrap();
        });
        stage.publish(&image, Access::Public);
        let (here, there) = (Path::new("/srv/user/here"), Path::new("/srv/user/there"));
        fs::write(here, "").unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Each rename anywhere makes the kernel give up the lookups that pass a `..` just then.
            let renamer = scope.spawn(|| {
                let (mut renames, end) = (0_u64, Instant::now() + Duration::from_secs(60));
                while !ended.load(Ordering::Relaxed) && Instant::now() < end {
                    fs::rename(here, there).and_then(|()| fs::rename(there, here)).unwrap();
                    renames += 2;
                }
                renames
            });
            let ran: Vec<_> = (0..50).map(|_| stage.run(&[PASSWD, GROUP], &["true"])).collect();
            ended.store(true, Ordering::Relaxed);
            assert!(renamer.join().unwrap() > 10_000);
            let refused: Vec<_> = ran.iter().filter(|ran| ran.code != Some(0)).collect();
            assert!(refused.is_empty(), "{refused:?}");
        });
    });
}

#[test]
fn a_volume_that_was_asked_for_and_has_no_place_is_refused() {
    on_stage(|stage| {
        let crowd = make_image("crowded", &|tree| {
            for number in 0..600 {
                fs::write(tree.join(format!("mnt/{number}")), "").unwrap();
            }
            fs::write(tree.join("input").join(OsStr::from_bytes(b"\xff")), "").unwrap();
        });
        stage.publish(&crowd, Access::Public);
        stage.expect_refusal(
            &["--volume=/srv/user:/mnt/new"],
            "cannot mount on /mnt in the image: a directory above has more than 512 entries",
        );
        stage.expect_refusal(
            &["--volume=/srv/user:/input/new"],
            "cannot mount on /input in the image: a file name is not UTF-8",
        );
    });
}

#[test]
fn a_site_volume_may_lie_within_another_whatever_their_order() {
    on_stage(|stage| {
        for path in ["/srv/outer", "/srv/outer/inner", "/srv/inner"] {
            directory(path, 0, 0o755);
        }
        file("/srv/outer/f", b"outer\n", 0, 0o644);
        file("/srv/inner/f", b"inner\n", 0, 0o644);
        for volumes in
            ["/srv/outer:/site;/srv/inner:/site/inner", "/srv/inner:/site/inner;/srv/outer:/site"]
        {
            stage.configure(&format!("siteFs={volumes}"));
            assert_eq!(stage.shell(&[], "cat /site/f /site/inner/f"), "outer\ninner\n");
            stage.expect_refusal(
                &["--volume=/srv/user:/site/inner"],
                "it lies within another mount",
            );
        }
    });
}

#[test]
fn a_bounding_set_that_cannot_be_emptied_is_a_refusal() {
    on_stage(|stage| {
        for (error, when) in [("EPERM", "9"), ("EPERM", "25"), ("EINVAL", "25")] {
            let inject = format!("inject=prctl:error={error}:when={when}");
            let mut command = Command::new("/usr/bin/strace");
            command.args(["-u", "tester", "-o", "/dev/null", "-e", "trace=prctl", "-e", &inject]);
            command.args([SUID, "run", &format!("--digest={}", stage.digest.hex()), "--", "true"]);
            let ran = finish(command.current_dir("/").stdin(Stdio::null()));
            assert_eq!(ran.code, Some(125), "{inject}: {ran:?}");
            assert!(ran.err.contains("empty the capability bounding set"), "{inject}: {ran:?}");
        }
    });
}

#[test]
fn what_is_made_as_root_has_roots_group_too() {
    on_stage(|stage| {
        fs::remove_dir("/run/gantry").unwrap();
        let groups = stage.shell(&["--volume=/srv/user:/data/new"], "stat -c %u:%g /data /");
        assert_eq!(groups, "0:0\n0:0\n");
        for path in ["/run/gantry", "/run/gantry/loop.lock"] {
            let made = fs::metadata(path).unwrap();
            assert_eq!((made.uid(), made.gid()), (0, 0), "{path}");
        }
        let own = stage.shell(&[], "touch /tmp/of-$$ && stat -c %u:%g /tmp/of-$$; rm /tmp/of-$$");
        assert_eq!(own, "23001:23001\n");
    });
}

#[test]
fn release_lets_go_of_all_it_can_and_then_says_what_it_could_not() {
    on_stage(|stage| {
        // Whichever way the directory is listed, one of them comes before the image.
        let job = "/run/gantry/jobs/77";
        fs::create_dir_all(format!("{job}/first/full")).unwrap();
        let prepared =
            stage.root(&["prepare", &format!("--digest={}", stage.digest.hex()), "--job=77"]);
        assert_eq!(prepared.code, Some(0), "{prepared:?}");
        fs::create_dir_all(format!("{job}/last/full")).unwrap();
        let ran = stage.root(&["release", "--job=77"]);
        assert_eq!(ran.code, Some(125), "{ran:?}");
        assert!(ran.err.starts_with("gantry: cannot let go of /run/gantry/jobs/77"), "{ran:?}");
        let left = format!("{job}/{}", stage.digest.hex());
        let was_left = fs::exists(&left).unwrap();
        // So that a failure here leaves no device on the node.
        let _ = umount2(left.as_str(), MntFlags::MNT_DETACH);
        assert!(!was_left, "the image is still mounted");
        for name in ["first", "last"] {
            fs::remove_dir_all(format!("{job}/{name}")).unwrap();
        }
        assert_eq!(stage.root(&["release", "--job=77"]).code, Some(0));
        assert!(!fs::exists(job).unwrap());
    });
}
