//! Every system call of a start: what none of them does, and what comes of it when one of them fails. The catalogue's
//! R25 and R46, on the built product.

mod stage;

use stage::trace::{Call, calls_of_a_start, strace};
use stage::*;
use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

const PASSWD: &str = "--passwd=tester:x:23001:23001::/:/bin/sh";
const GROUP: &str = "--group=tester:x:23001:";
/// A start that takes every path there is: volumes onto missing targets, account files, a loop device of its own.
const OPTIONS: [&str; 4] =
    ["--volume=/srv/user:/data/made", "--volume=/srv/user/f:/opt/made", PASSWD, GROUP];

#[test]
fn a_start_in_which_any_call_fails_is_refused_or_whole_and_leaves_nothing() {
    // Two stages, and with them two loop devices and two processors.
    let halves = [0, 1]
        .map(|half| std::thread::spawn(move || on_stage(move |stage| fail_each(stage, half))));
    for half in halves {
        if let Err(panic) = half.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Fails each call of a start in turn, in `half` of the turns.
fn fail_each(stage: &Stage, half: usize) {
    file("/srv/user/f", b"content", USER, 0o644);
    let calls = calls_of_a_start(stage, &OPTIONS);
    // What the C library does before the product's first line is not ours.
    let own = calls.iter().skip_while(|call| call.name != "getresuid");
    // Calls that cannot fail: there is no answer that would say so.
    let turns = twice_each(own.filter(|call| call.name != "umask"));
    assert!(turns.len() > 300, "a start has fewer calls than it had: {}", turns.len());
    let (before, mut refused) = (mounts(), 0);
    for call in turns.iter().skip(half).step_by(2) {
        let inject = format!("inject={}:error=EIO:when={}", call.name, call.number);
        refused += usize::from(!runs_whole(stage, &inject, call));
        assert_eq!(mounts(), before, "{inject}: {}", call.text);
    }
    // A failed close, munmap or readlink is harmless; most calls are not.
    assert!(refused * 2 > turns.len() / 2, "only {refused} of {} were refused", turns.len() / 2);
}

/// Each kind of call at most twice: those for one loop device are like those for the next.
fn twice_each<'a>(calls: impl Iterator<Item = &'a Call>) -> Vec<&'a Call> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    calls
        .filter(|call| {
            let kind = call.text.chars().filter(|character| !character.is_ascii_digit()).collect();
            let count = seen.entry(kind).or_default();
            *count += 1;
            *count <= 2
        })
        .collect()
}

/// Starts with a fault injected: whether the command ran, and then it had no right too many; else one sentence says why
/// it did not.
fn runs_whole(stage: &Stage, inject: &str, call: &Call) -> bool {
    let tracing = ["-o", "/dev/null", "-e", &format!("trace={}", call.name), "-e", inject];
    let look = ["grep", "-E", "^(Uid|Gid|Groups|Cap...|NoNewPrivs|SigBlk):", "/proc/self/status"];
    let ran = finish(&mut strace(stage, &tracing, &OPTIONS, &look));
    expect_no_loop_device(&stage.digest);
    let context = || format!("{inject}: {}: {ran:?}", call.text);
    if ran.code == Some(0) {
        assert_eq!(ran.out.replace('\t', " "), DROPPED, "{}", context());
        return true;
    }
    assert!(ran.code == Some(125) && ran.out.is_empty(), "{}", context());
    let mut lines = ran.err.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("gantry: ")), "{}", context());
    assert!(lines.all(|line| line.starts_with("hint: ")), "{}", context());
    false
}

const DROPPED: &str = "Uid: 23001 23001 23001 23001\nGid: 23001 23001 23001 23001\nGroups: 23001 \n\
    SigBlk: 0000000000000000\nCapInh: 0000000000000000\nCapPrm: 0000000000000000\n\
    CapEff: 0000000000000000\nCapBnd: 0000000000000000\nCapAmb: 0000000000000000\nNoNewPrivs: 1\n";

#[test]
fn a_drop_that_the_kernel_only_pretends_to_make_is_noticed() {
    on_stage(|stage| {
        file("/srv/user/f", b"content", USER, 0o644);
        let calls = calls_of_a_start(stage, &OPTIONS);
        let drop = calls.iter().skip_while(|call| !call.text.contains("PR_SET_NO_NEW_PRIVS"));
        let changes = ["prctl", "setresgid", "setresuid", "capset"];
        let mut refused = Vec::new();
        for call in drop.filter(|call| changes.contains(&&*call.name)) {
            // Answered with success and not carried out.
            let inject = format!("inject={}:retval=0:when={}", call.name, call.number);
            if !runs_whole(stage, &inject, call) {
                refused.push(call.text.split_once(" = ").unwrap().0.trim_end());
            }
        }
        // The group is the caller's all the time, and with the last id the kernel takes the capabilities.
        let noticed = [
            "prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)",
            "setresuid(23001, 23001, 23001)",
            "prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)",
            "setresuid(0, 0, 0)",
        ];
        assert_eq!(refused, noticed);
    });
}

#[test]
fn r46_where_every_loop_device_is_busy_it_says_so() {
    on_stage(|stage| {
        let calls = calls_of_a_start(stage, &[]);
        let attach = calls.iter().find(|call| call.text.contains("LOOP_CONFIGURE")).unwrap();
        // From the first attempt on each second call: between two of them a free device is asked for.
        let inject = format!("inject=ioctl:error=EBUSY:when={}+2", attach.number);
        let tracing = ["-o", "/dev/null", "-e", "trace=ioctl", "-e", &inject];
        let ran = finish(&mut strace(stage, &tracing, &[], &["true"]));
        assert_eq!(ran.code, Some(125), "{ran:?}");
        let told = "loop device: device or resource busy";
        assert!(ran.err.contains(told), "{ran:?}");
    });
}

#[test]
fn nothing_of_the_hosts_is_changed_by_path_as_root() {
    on_stage(|stage| {
        file("/srv/user/f", b"content", USER, 0o644);
        fs::remove_dir_all("/run/gantry").unwrap();
        let mut changed = Vec::new();
        for call in calls_of_a_start(stage, &OPTIONS) {
            let text = &call.text;
            let changes = FORBIDDEN.contains(&&*call.name);
            let makes = ["mkdirat", "openat2"].contains(&&*call.name)
                && (call.name == "mkdirat" || WRITES.iter().any(|flag| text.contains(flag)));
            assert!(!changes, "{text}");
            // Below a directory of its own tmpfs, which nobody else sees, it may make what it likes.
            let own = text.contains("</usr/libexec/gantry/root>, \"") && !text.contains(">, \"/");
            if makes && !own {
                changed.push(text.split('"').nth(1).unwrap().to_string());
            }
        }
        changed.sort();
        assert_eq!(changed, ["/dev/loop-control", "/run/gantry", "loop.lock"]);
    });
}

/// What changes something that a path names.
const FORBIDDEN: [&str; 22] = [
    "open",
    "openat",
    "creat",
    "mkdir",
    "rmdir",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "chmod",
    "fchmodat",
    "chown",
    "lchown",
    "fchownat",
    "truncate",
    "setxattr",
    "utimensat",
    "mknodat",
    "mount",
];

const WRITES: [&str; 4] = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"];

#[test]
fn nothing_that_a_user_writes_reaches_fsconfig() {
    on_stage(|stage| {
        let image = fs::read(stage.image()).unwrap();
        stage.publish(&image, image_ref::Access::Listed { uids: vec![USER], gids: vec![] });
        directory("/srv/user/size=1g,upperdir", USER, 0o755);
        let options = [
            "--request=docker:size=1g:1",
            "--volume=/srv/user/size=1g,upperdir:/data/nr_inodes=0,size=1g",
            "--env=source=/srv/user/f",
            "--passwd=tester:x:23001:23001:size=1g:/source=x:/bin/sh",
            GROUP,
        ];
        let mut told: Vec<String> = Vec::new();
        for call in calls_of_a_start(stage, &options).iter().filter(|call| call.name == "fsconfig")
        {
            let (_, words) = call.text.split_once("FSCONFIG_").unwrap();
            let words = words.split(", 0)").next().unwrap();
            told.push(words.chars().filter(|character| !character.is_ascii_digit()).collect());
        }
        told.sort();
        told.dedup();
        let constants = [
            "CMD_CREATE, NULL, NULL",
            "SET_FLAG, \"ro\", NULL",
            "SET_STRING, \"mode\", \"\"",
            "SET_STRING, \"nr_inodes\", \"\"",
            "SET_STRING, \"size\", \"m\"",
            "SET_STRING, \"source\", \"/dev/loop\"",
        ];
        assert_eq!(told, constants);
    });
}

#[test]
fn a_start_asks_no_daemon_for_anything() {
    on_stage(|stage| {
        file("/srv/user/f", b"content", USER, 0o644);
        // MUNGE, name services and Slurm are all behind sockets.
        for call in calls_of_a_start(stage, &OPTIONS) {
            assert!(
                !["socket", "connect", "clone", "fork", "vfork"].contains(&&*call.name),
                "{call:?}"
            );
        }
    });
    let admin = include_str!("../../docs/admin.md");
    assert!(admin.contains("MUNGE must be 0.5.18 or later"), "the least release is not documented");
}

#[test]
fn r25_a_timer_that_rings_during_setup_ends_nothing_half_way() {
    on_stage(|stage| {
        let before = mounts();
        // 500 microseconds and times around them: before the product's first line, during setup, behind it.
        let script = format!(
            "import os,signal\n\
             for round in range(200):\n\
             \x20pid = os.fork()\n\
             \x20if pid == 0:\n\
             \x20 signal.setitimer(signal.ITIMER_REAL, 0.0005 if round % 2 else round * 0.00002 + 0.0001)\n\
             \x20 os.execv('{SUID}', ['{SUID}', 'run', '--digest={}', '--volume=/srv/user:/made', '--', 'sleep', '5'])\n\
             \x20print(os.waitpid(pid, 0)[1])\n",
            stage.digest.hex()
        );
        let ran = finish(as_user(USER).args(["python3", "-c", &script]));
        let ends: Vec<&str> = ran.out.lines().collect();
        assert_eq!((ends.len(), &*ran.err), (200, ""), "{ran:?}");
        // As the caller asked: SIGALRM, to whatever runs when it comes.
        assert!(ends.iter().all(|status| *status == "14"), "{ends:?}");
        assert_eq!(mounts(), before);
        expect_no_loop_device(&stage.digest);
        // The clock stands during setup, here for longer than the timer has left: the command gets the rest.
        let starter = "import os,signal,sys; signal.setitimer(signal.ITIMER_REAL, 2); os.execv(sys.argv[1], sys.argv[1:])";
        let mut slow = std::process::Command::new("/usr/bin/strace");
        slow.args(["-u", "tester", "-o", "/dev/null", "-e", "trace=fsopen"]);
        slow.args([
            "-e",
            "inject=fsopen:delay_enter=3000000:when=1",
            "/usr/bin/python3",
            "-c",
            starter,
        ]);
        slow.args([SUID, "run", &format!("--digest={}", stage.digest.hex()), "--"]);
        slow.args(["sh", "-c", "echo started; exec sleep 60"])
            .current_dir("/")
            .stdin(Stdio::null());
        let ran = finish(&mut slow);
        assert_eq!((ran.code, &*ran.out, &*ran.err), (None, "started\n", ""), "{ran:?}");
    });
}
