//! Enters the sandbox and tries what nobody may do there; `tests/sandbox.rs` reads what came of it.
//!
//! Standard input is a file that may be read and written, as the image is for the converter.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a part of the tests")]

use std::fs::File;
use std::io::{self, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread;

use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::{Pid, Uid};

fn main() {
    let argument = std::env::args().nth(1).unwrap();
    let parent = nix::unistd::getppid();
    converter::sandbox::enter(Some(parent.as_raw())).unwrap();
    match argument.as_str() {
        "forbidden" => {
            attempt_all("main", parent);
            thread::spawn(move || attempt_all("thread", parent)).join().unwrap();
        }
        "allowed" => work(),
        "panic" => panic!("as it was asked to"),
        "abort" => std::process::abort(),
        "forget-parent" => thread::sleep(std::time::Duration::from_secs(60)),
        "hoard" => drop(vec![1_u8; 5 << 30]),
        _ => unreachable!(),
    }
}

/// Something that must be refused; it is given the parent's process id.
type Attempt = fn(Pid) -> io::Result<()>;

fn attempt_all(place: &str, parent: Pid) {
    let attempts: [(&str, Attempt); 28] = [
        ("open a file", |_| File::open("/etc/passwd").map(drop)),
        ("open the root", |_| File::open("/").map(drop)),
        ("make a file", |_| File::create("/tmp/made-in-the-sandbox").map(drop)),
        ("read its environment", |_| File::open("/proc/self/environ").map(drop)),
        ("read its parent's memory", |parent| File::open(format!("/proc/{parent}/mem")).map(drop)),
        ("look at a file", |_| std::fs::metadata("/etc/passwd").map(drop)),
        ("read a link", |_| std::fs::read_link("/proc/self/exe").map(drop)),
        ("remove a file", |_| std::fs::remove_file("/tmp/none")),
        ("make a directory", |_| std::fs::create_dir("/tmp/made-in-the-sandbox")),
        ("rename a file", |_| std::fs::rename("/tmp/none", "/tmp/none-either")),
        ("change directory", |_| std::env::set_current_dir("/etc")),
        ("change root", |_| Ok(nix::unistd::chroot("/etc")?)),
        ("connect by TCP", |_| TcpStream::connect("127.0.0.1:80").map(drop)),
        ("bind a UDP port", |_| UdpSocket::bind("127.0.0.1:0").map(drop)),
        ("connect to munged", |_| UnixStream::connect("/run/munge/munge.socket.2").map(drop)),
        ("listen on a socket", |_| UnixListener::bind("/tmp/made-in-the-sandbox").map(drop)),
        ("make a pair of sockets", |_| UnixStream::pair().map(drop)),
        ("execute a program", |_| {
            Ok(nix::unistd::execve(c"/bin/true", &[c"true"], &[c""]).map(drop)?)
        }),
        ("start a program", |_| Command::new("/bin/true").spawn().map(drop)),
        ("trace its parent", |parent| Ok(nix::sys::ptrace::attach(parent)?)),
        ("signal its parent", |parent| Ok(nix::sys::signal::kill(parent, None)?)),
        ("stop its parent", |parent| Ok(nix::sys::signal::kill(parent, Signal::SIGSTOP)?)),
        ("read another's memory", |parent| {
            let remote = [RemoteIoVec { base: 0x10000, len: 1 }];
            Ok(process_vm_readv(parent, &mut [IoSliceMut::new(&mut [0])], &remote).map(drop)?)
        }),
        ("mount", |_| {
            let none = None::<&str>;
            Ok(nix::mount::mount(none, "/mnt", Some("tmpfs"), nix::mount::MsFlags::empty(), none)?)
        }),
        ("make a user namespace", |_| Ok(nix::sched::unshare(CloneFlags::CLONE_NEWUSER)?)),
        ("become another user", |_| Ok(nix::unistd::setuid(Uid::from_raw(65534))?)),
        ("slow its parent down", |parent| {
            let parent = rustix::process::Pid::from_raw(parent.as_raw());
            Ok(rustix::process::setpriority_process(parent, 19)?)
        }),
        ("be looked into again", |_| Ok(nix::sys::prctl::set_dumpable(true)?)),
    ];
    for (name, attempt) in attempts {
        match attempt(parent) {
            Ok(()) => println!("{place}: {name}: DONE"),
            Err(error) => println!("{place}: {name}: {error}"),
        }
    }
}

/// What a conversion does: memory, threads, time, and the files that it was given.
fn work() {
    let mut file = File::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    let sums = thread::scope(|scope| {
        let threads: Vec<_> = (0..8_u64)
            .map(|number| {
                scope.spawn(move || {
                    let block = vec![number; 1 << 20];
                    thread::sleep(std::time::Duration::from_millis(1));
                    rustix::process::setpriority_process(None, 10).unwrap();
                    block.iter().sum::<u64>()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
    });
    assert_eq!(sums, 28 << 20);
    assert!(thread::available_parallelism().unwrap().get() > 0);
    assert_eq!(std::collections::HashMap::from([(1, 2)]).len(), 1);
    rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::DIRECT).unwrap();
    rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::empty()).unwrap();
    file.write_all(b"written").unwrap();
    file.set_len(1 << 20).unwrap();
    file.sync_data().unwrap();
    assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), 1 << 20);
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut there = [0; 7];
    file.read_exact(&mut there).unwrap();
    let wall = thread::Builder::new()
        .name("named".into())
        .spawn(|| std::panic::catch_unwind(|| panic!("once")));
    assert!(wall.unwrap().join().unwrap().is_err());
    println!("{}", String::from_utf8_lossy(&there));
}
