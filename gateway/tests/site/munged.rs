//! A munged of our own, with its own key and socket.
//!
//! Needs to be root, Debian's munge package and its account: munged refuses to run as root on a folder of another.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A munged that ends with the test.
pub struct Munged {
    directory: tempfile::TempDir,
}

impl Munged {
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("munged.").tempdir_in("/tmp").unwrap();
        let munged = Self { directory };
        run(Command::new("chmod").arg("755").arg(munged.directory.path()));
        let mut key = vec![0; 128];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut key).unwrap();
        std::fs::write(munged.file("key"), key).unwrap();
        run(Command::new("chmod").arg("400").arg(munged.file("key")));
        run(Command::new("chown").arg("-R").arg("munge:munge").arg(munged.directory.path()));
        // Returns when the socket is there.
        run(Command::new("setpriv")
            .args(["--reuid", "munge", "--regid", "munge", "--clear-groups", "/usr/sbin/munged"])
            .arg(option("--key-file", &munged.file("key")))
            .arg(option("--socket", &munged.socket()))
            .arg(option("--pid-file", &munged.file("pid")))
            .arg(option("--log-file", &munged.file("log")))
            .arg(option("--seed-file", &munged.file("seed")))
            .arg("--num-threads=2"));
        munged
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.file("socket")
    }

    /// Kills munged; its socket stays behind.
    pub fn kill(&self) {
        let pid = std::fs::read_to_string(self.file("pid")).unwrap();
        run(Command::new("kill").arg("-KILL").arg(pid.trim()));
        // The kernel closes the socket some time after the signal was sent.
        let start = Instant::now();
        while UnixStream::connect(self.socket()).is_ok() {
            assert!(start.elapsed() < Duration::from_secs(5), "munged outlives SIGKILL");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::fs::remove_file(self.file("pid")).unwrap();
    }
}

impl Drop for Munged {
    fn drop(&mut self) {
        if self.file("pid").exists() {
            self.kill();
        }
    }
}

/// `name=path`.
pub fn option(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
