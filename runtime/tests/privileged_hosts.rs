//! What the host has beside the image: file systems of users and of automounters, many mounts, other processes.
//! The catalogue's R47 to R50, on the built product.

mod stage;

use nix::mount::{MsFlags, mount};
use stage::trace::calls_of_a_start;
use stage::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};

#[test]
fn r47_an_own_fuse_directory_is_bound_and_another_users_is_refused() {
    on_stage(|stage| {
        let mut servers = Vec::new();
        for uid in [USER, OTHER] {
            let (source, target) = (format!("/srv/source-{uid}"), format!("/srv/fuse-{uid}"));
            directory(&source, uid, 0o755);
            file(format!("{source}/f"), b"by fuse", uid, 0o644);
            directory(&target, uid, 0o755);
            servers.push(Server(fuse(uid, &source, &target)));
            let host = fs::metadata("/srv").unwrap().dev();
            wait_until("the FUSE file system", || {
                // Not even root may look at it, which is the point.
                fs::metadata(&target).map_or(true, |there| there.dev() != host)
            });
        }
        let own = format!("--volume=/srv/fuse-{USER}:/mnt");
        assert_eq!(stage.shell(&[&own], "cat /mnt/f; echo new > /mnt/new"), "by fuse");
        assert_eq!(fs::read(format!("/srv/source-{USER}/new")).unwrap(), b"new\n");
        assert_eq!(
            stage.shell(&[&own.replace("/mnt", "/made/here")], "cat /made/here/f"),
            "by fuse"
        );
        let file = format!("--volume=/srv/fuse-{USER}/f:/not-executable");
        assert_eq!(stage.shell(&[&file], "cat /not-executable"), "by fuse");
        stage.expect_refusal(
            &[&format!("--volume=/srv/fuse-{OTHER}/f:/not-executable")],
            &format!("cannot open volume source /srv/fuse-{OTHER}/f: permission denied"),
        );
        // The directory itself is a name that the user may pass, as on the host, and nothing more.
        let other = format!("--volume=/srv/fuse-{OTHER}:/mnt");
        for look in [&["ls", "/mnt"][..], &["cat", "/mnt/f"], &["touch", "/mnt/x"]] {
            let ran = stage.run(&[&other], look);
            assert!(ran.code == Some(1) && ran.out.is_empty(), "{look:?}: {ran:?}");
            assert!(ran.err.contains("Permission denied"), "{look:?}: {ran:?}");
        }
    });
}

/// Serves `source` at `target` as `uid`, for nobody else: bindfs with two capabilities, as this has no fusermount.
fn fuse(uid: u32, source: &str, target: &str) -> Child {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups"]);
    // To mount, and to open /dev/fuse, which udev lets everybody do and this node may not.
    let capabilities = "+sys_admin,+dac_override";
    command.args(["--inh-caps", capabilities, "--ambient-caps", capabilities]);
    command.args(["bindfs", "-f", "--no-allow-other", source, target]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("bindfs is needed")
}

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn r48_what_an_automounter_has_not_mounted_yet_is_mounted_and_seen() {
    on_stage(|stage| {
        mount(None::<&str>, "/srv", None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
        for (name, text) in [("first", "of the first"), ("second", "of the second")] {
            directory(format!("/srv/store/{name}"), USER, 0o755);
            file(format!("/srv/store/{name}/f"), text.as_bytes(), USER, 0o644);
        }
        directory("/srv/auto", 0, 0o755);
        let maps = "/srv/auto/first -fstype=bind :/srv/store/first\n\
                    /srv/auto/second -fstype=bind :/srv/store/second\n";
        file("/etc/auto.direct", maps.as_bytes(), 0, 0o644);
        file("/etc/auto.master", b"/- file:/etc/auto.direct\n", 0, 0o644);
        let daemon = Command::new("/usr/sbin/automount")
            .args(["--foreground", "--pid-file=/run/automount.pid", "--timeout=600"])
            .args(["--dont-check-daemon", "/etc/auto.master"])
            .stdin(Stdio::null())
            // Nothing is mounted for the looks of the daemon's own group, which would be all of this test.
            .process_group(0)
            .spawn()
            .expect("automount (autofs) is needed");
        let _daemon = Server(daemon);
        let kinds = |kind: &str| {
            let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            table.lines().filter(|line| line.contains(" /srv/auto/") && line.contains(kind)).count()
        };
        wait_until("the automounter's triggers", || kinds(" autofs ") == 2);
        let triggered = || kinds("") - kinds(" autofs ");
        assert_eq!(triggered(), 0);
        // The source itself.
        assert_eq!(stage.shell(&["--volume=/srv/auto/first:/mnt"], "cat /mnt/f"), "of the first");
        assert_eq!(triggered(), 1);
        // Below the source: mounted on the host when the command looks, and so inside too.
        assert_eq!(
            stage.shell(&["--volume=/srv/auto:/mnt"], "cat /mnt/first/f /mnt/second/f"),
            "of the firstof the second"
        );
        assert_eq!(triggered(), 2);
    });
}

#[test]
fn r49_two_containers_of_one_user_read_each_others_memory() {
    on_stage(|stage| {
        let image = make_image("memory", &|tree| {
            fs::write(tree.join("bin/memory"), compile("reader", MEMORY)).unwrap();
            fs::set_permissions(tree.join("bin/memory"), fs::Permissions::from_mode(0o755))
                .unwrap();
        });
        stage.publish(&image, image_ref::Access::Public);
        let mut shown = stage.command(&[], &["memory"]);
        let mut shown = shown.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shown.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let read = [&["memory"][..], &words].concat();
        assert_eq!(stage.run(&[], &read).out, "seen from another container\n");
        // And nobody else does.
        let mut other = as_user(OTHER);
        other.args([SUID, "run", &format!("--digest={}", stage.digest.hex()), "--"]).args(&read);
        let ran = finish(&mut other);
        assert_eq!((ran.code, &*ran.err), (Some(1), "Operation not permitted\n"), "{ran:?}");
        shown.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(shown.wait().unwrap().success());
    });
}

/// Shows where a sentence lies in its memory and waits; or reads one there, given process and address.
const MEMORY: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
static char sentence[] = "seen from another container";
int main(int count, char **words) {
    char buffer[sizeof sentence];
    if (count < 3) {
        printf("%d %p\n", getpid(), (void *)sentence);
        fflush(stdout);
        return getchar() != '\n';
    }
    struct iovec here = {buffer, sizeof buffer};
    struct iovec there = {(void *)strtoul(words[2], 0, 16), sizeof buffer};
    if (process_vm_readv(atoi(words[1]), &here, 1, &there, 1, 0) != sizeof buffer) {
        fprintf(stderr, "%s\n", strerror(errno));
        return 1;
    }
    puts(buffer);
    return 0;
}
"#;

#[test]
fn r50_a_start_makes_no_more_calls_where_the_host_has_300_more_mounts() {
    on_stage(|stage| {
        file("/srv/user/f", b"content", USER, 0o644);
        let options = ["--volume=/srv/user:/made/here", "--volume=/srv/user/f:/not-executable"];
        let few = histogram(stage, &options);
        for number in 0..300 {
            let place = format!("/srv/many/{number}");
            directory(&place, 0, 0o755);
            tmpfs(&place, "size=4k", MsFlags::empty());
        }
        assert_eq!(stage.shell(&options, "cat /made/here/f"), "content");
        assert_eq!(histogram(stage, &options), few);
        assert_eq!(stage.shell(&[], "grep -c /srv/many /proc/self/mountinfo || true"), "0\n");
    });
}

/// How often a start makes which call, but for the search among loop devices, which other tests attach meanwhile, and
/// for what the kernel told to be tried again.
fn histogram(stage: &Stage, options: &[&str]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for call in calls_of_a_start(stage, options) {
        let elsewhere = ["/dev/loop", "</dev>", "EAGAIN", "mmap(", "munmap(", "brk("];
        if !elsewhere.iter().any(|text| call.text.contains(text)) {
            *counts.entry(call.name).or_default() += 1;
        }
    }
    counts
}

#[test]
fn no_sandbox_is_claimed_and_the_users_own_processes_are_seen_inside() {
    let claims = include_str!("../../SECURITY.md");
    let (_, not_claimed) = claims.split_once("## What is not claimed").unwrap();
    assert!(not_claimed.contains("**No sandbox around the user's own processes.**"));
    on_stage(|stage| {
        let mut outside = as_user(USER).args(["sleep", "100"]).spawn().unwrap();
        let pid = outside.id();
        let look =
            format!("cat /proc/{pid}/comm; readlink /proc/self/ns/net; readlink /proc/self/ns/ipc");
        let seen = stage.shell(&[], &look);
        let shared =
            ["net", "ipc"].map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap());
        let [net, ipc] = shared.map(|link| link.display().to_string());
        // The process that a command inside can end is the user's own, and no other user's.
        let ended = stage.run(&[], &["kill", &pid.to_string()]);
        outside.kill().unwrap();
        let status = outside.wait().unwrap();
        assert_eq!(seen, format!("sleep\n{net}\n{ipc}\n"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(status.signal(), Some(15));
    });
}
