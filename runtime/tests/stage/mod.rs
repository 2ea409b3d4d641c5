//! A private stage for one test: its own mount namespace with the product installed set-user-id, a configuration,
//! an image of busybox and a user's directory. Whatever a test does, nothing of it is left when its thread ends.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(unreachable_pub, missing_docs, missing_debug_implementations)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

pub mod trace;

use image_ref::{Access, Digest, Sidecar, image_file, sidecar_file};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, chown};
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The account that publishes images here.
pub const OWNER: u32 = 23000;
/// The user that runs things here, whose primary group has the same number.
pub const USER: u32 = 23001;
/// A further user.
pub const OTHER: u32 = 23002;
/// A supplementary group of the user's.
pub const PROJECT: u32 = 23050;
pub const SUID: &str = "/usr/libexec/gantry/gantry-suid";
pub const CONF: &str = "/etc/gantry/udiRoot.conf";
pub const IMAGES: &str = "/srv/images";
/// A directory of the user's.
pub const HOME: &str = "/srv/user";

pub struct Stage {
    pub digest: Digest,
}

/// What a command left.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs `body` on a fresh stage, then checks that no loop device of its is left.
pub fn on_stage(body: impl FnOnce(&Stage) + Send + 'static) {
    if !Uid::effective().is_root() {
        if std::env::var_os("GANTRY_TEST_UNPRIVILEGED").is_some() {
            println!(
                "not run: this test needs root, and GANTRY_TEST_UNPRIVILEGED says that is known"
            );
            return;
        }
        panic!("this test needs root (GANTRY_TEST_UNPRIVILEGED=1 leaves it out)");
    }
    let (product, base) = (product(), base_image());
    let digest = fresh_digest();
    let thread = std::thread::spawn(move || {
        let stage = Stage { digest };
        stage.set_up(&product, &base);
        body(&stage);
    });
    let result = thread.join();
    expect_no_loop_device(&digest);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

pub fn fresh_digest() -> Digest {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes[..28]))
        .unwrap();
    bytes[28..].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    Digest::from_bytes(bytes)
}

/// The loop devices that show an image, by the tag that the product gives them.
pub fn loop_devices(digest: &Digest) -> Vec<String> {
    let listed =
        Command::new("losetup").args(["-l", "-n", "-O", "NAME,BACK-FILE"]).output().unwrap();
    let tag = &digest.hex().to_string()[..40];
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    text.lines().filter(|line| line.contains(tag)).map(String::from).collect()
}

pub fn expect_no_loop_device(digest: &Digest) {
    wait_until("the loop devices to clear themselves", || loop_devices(digest).is_empty());
}

/// Waits at most ten seconds.
pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn own(path: impl AsRef<Path>, uid: u32, mode: u32) {
    chown(path.as_ref(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid))).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

pub fn directory(path: impl AsRef<Path>, uid: u32, mode: u32) {
    fs::create_dir_all(path.as_ref()).unwrap();
    own(path, uid, mode);
}

pub fn file(path: impl AsRef<Path>, content: &[u8], uid: u32, mode: u32) {
    fs::write(path.as_ref(), content).unwrap();
    own(path, uid, mode);
}

pub fn tmpfs(path: &str, options: &str, flags: MsFlags) {
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options)).unwrap();
}

/// How many mounts the stage has where the product could leave one, to compare before and after.
///
/// Not all mounts: one of the host's disappears here too when somebody there removes the directory under it.
pub fn mounts() -> usize {
    let ours = ["/usr/libexec/gantry", "/run/gantry", "/etc/gantry", "/srv", " squashfs "];
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    table.lines().filter(|line| ours.iter().any(|place| line.contains(place))).count()
}

impl Stage {
    fn set_up(&self, product: &Path, image: &[u8]) {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let binary = fs::read(product).unwrap();
        let kept: Vec<(&str, Vec<u8>)> =
            ["/etc/hosts", "/etc/resolv.conf", "/etc/passwd", "/etc/group", "/etc/ld.so.cache"]
                .into_iter()
                .filter_map(|path| Some((path, fs::read(path).ok()?)))
                .collect();
        for path in ["/usr/libexec", "/etc", "/srv", "/run"] {
            tmpfs(path, "mode=0755", MsFlags::empty());
        }
        for (path, content) in kept {
            file(path, &content, 0, 0o644);
        }
        let accounts = fs::read_to_string("/etc/passwd").unwrap()
            + "tester:x:23001:23001::/srv/user:/bin/sh\n";
        file("/etc/passwd", accounts.as_bytes(), 0, 0o644);
        directory("/usr/libexec/gantry/root", 0, 0o755);
        file(SUID, &binary, 0, 0o4755);
        directory("/etc/gantry", 0, 0o755);
        self.configure("");
        directory("/run/gantry", 0, 0o755);
        directory(IMAGES, OWNER, 0o711);
        directory(HOME, USER, 0o755);
        self.publish(image, Access::Public);
    }

    /// Writes the configuration: what is needed, and `more` lines.
    pub fn configure(&self, more: &str) {
        let text = format!("imagePath={IMAGES}\nimageOwner={OWNER}\n{more}\n");
        file(CONF, text.as_bytes(), 0, 0o644);
    }

    /// Publishes bytes as this stage's image.
    pub fn publish(&self, image: &[u8], access: Access) {
        let mode = if access == Access::Public { 0o444 } else { 0o400 };
        for name in [self.image(), self.sidecar()] {
            let _ = fs::remove_file(name);
        }
        file(self.image(), image, OWNER, mode);
        file(self.sidecar(), &self.describe(access).encode().unwrap(), OWNER, mode);
    }

    pub fn describe(&self, access: Access) -> Sidecar {
        let owned = |items: &[&str]| items.iter().map(|item| item.as_bytes().to_vec()).collect();
        Sidecar {
            digest: self.digest,
            owner: 23099,
            access,
            env: owned(&["PATH=/bin", "FROM_IMAGE=1"]),
            entrypoint: owned(&["/bin/echo", "entry"]),
            cmd: owned(&["cmd"]),
            workdir: b"/opt".to_vec(),
            platform: "linux/amd64".into(),
            made_by: "test".into(),
        }
    }

    pub fn image(&self) -> String {
        format!("{IMAGES}/{}", image_file(&self.digest))
    }

    pub fn sidecar(&self) -> String {
        format!("{IMAGES}/{}", sidecar_file(&self.digest))
    }

    /// The product's command line as the user; `wrapper` is put in front, behind the change of user.
    pub fn command_behind(&self, wrapper: &[&str], options: &[&str], command: &[&str]) -> Command {
        let mut built = as_user(USER);
        built.args(wrapper).arg(SUID).arg("run").arg(format!("--digest={}", self.digest.hex()));
        built.args(options).arg("--").args(command);
        built
    }

    pub fn command(&self, options: &[&str], command: &[&str]) -> Command {
        self.command_behind(&[], options, command)
    }

    /// Runs a command in the image.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Ran {
        finish(&mut self.command(options, command))
    }

    /// Runs shell text in the image and returns its output; it must succeed.
    pub fn shell(&self, options: &[&str], text: &str) -> String {
        let ran = self.run(options, &["sh", "-c", text]);
        assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{ran:?}");
        ran.out
    }

    /// Expects a refusal with this text, exit code 125, and no mount or loop device left or made.
    pub fn expect_refusal(&self, options: &[&str], text: &str) {
        let before = mounts();
        let ran = self.run(options, &["true"]);
        assert_eq!(ran.code, Some(125), "{options:?}: {ran:?}");
        assert!(
            ran.err.starts_with("gantry: ") && ran.err.contains(text),
            "{options:?}: wanted `{text}`, got {ran:?}"
        );
        assert_eq!(mounts(), before);
    }

    pub fn root(&self, words: &[&str]) -> Ran {
        finish(Command::new(SUID).args(words).stdin(Stdio::null()))
    }
}

/// A command line that starts as an ordinary user with one supplementary group.
pub fn as_user(uid: u32) -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        &format!("--reuid={uid}"),
        &format!("--regid={uid}"),
        &format!("--groups={uid},{PROJECT}"),
        "--",
    ]);
    command.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/").stdin(Stdio::null());
    command
}

pub fn finish(command: &mut Command) -> Ran {
    // Another test's thread may fork while a copy of the product is still open for writing: busy for a moment.
    let Output { status, stdout, stderr } = (0..)
        .find_map(|attempt| match command.output() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && attempt < 100 => {
                std::thread::sleep(Duration::from_millis(10));
                None
            }
            ended => Some(ended),
        })
        .unwrap()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// The product: `GANTRY_SUID` where the harness has built it, else built here as `cargo xtask build` does.
fn product() -> PathBuf {
    static PRODUCT: OnceLock<PathBuf> = OnceLock::new();
    PRODUCT
        .get_or_init(|| {
            if let Some(path) = std::env::var_os("GANTRY_SUID") {
                return path.into();
            }
            let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("setuid");
            let status = Command::new(env!("CARGO"))
                .args([
                    "build",
                    "--quiet",
                    "--package=runtime",
                    "--bin=gantry-suid",
                    "--profile=setuid",
                ])
                .arg("--target-dir")
                .arg(&target)
                .env("RUSTFLAGS", "-C relocation-model=pie -C target-feature=+crt-static")
                .status()
                .unwrap();
            assert!(status.success(), "the product does not build");
            target.join("setuid/gantry-suid")
        })
        .clone()
}

/// A static program that prints its status: busybox would be confused by another name.
pub fn teller() -> Vec<u8> {
    static TELLER: OnceLock<Vec<u8>> = OnceLock::new();
    let text = "#include <stdio.h>\nint main(void){FILE*f=fopen(\"/proc/self/status\",\"r\");int c;while((c=getc(f))!=EOF)putchar(c);return 0;}\n";
    TELLER.get_or_init(|| compile("teller", text)).clone()
}

/// A static program from C source; leaves no file.
pub fn compile(name: &str, text: &str) -> Vec<u8> {
    let unique = format!("{name}-{}", std::process::id());
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
    let source = program.with_extension("c");
    fs::write(&source, text).unwrap();
    let status =
        Command::new("musl-gcc").args(["-static", "-o"]).arg(&program).arg(&source).status();
    assert!(status.is_ok_and(|status| status.success()), "musl-gcc (musl-tools) is needed");
    let bytes = fs::read(&program).unwrap();
    fs::remove_file(&program).unwrap();
    fs::remove_file(&source).unwrap();
    bytes
}

/// A squashfs of busybox, made once per test program.
fn base_image() -> Vec<u8> {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| make_image("base", &|_| {})).clone()
}

/// Makes a squashfs of busybox whose tree `change` may alter; leaves no file.
pub fn make_image(name: &str, change: &dyn Fn(&Path)) -> Vec<u8> {
    let unique = format!("{name}-{}", std::process::id());
    let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&unique);
    let _ = fs::remove_dir_all(&tree);
    for path in [
        "bin",
        "dev",
        "etc",
        "opt",
        "proc",
        "sys",
        "tmp",
        "usr/local/lib",
        "usr/share/doc",
        "var/tmp",
        "mnt",
        "input",
    ] {
        fs::create_dir_all(tree.join(path)).unwrap();
    }
    fs::set_permissions(tree.join("opt"), Permissions::from_mode(0o777)).unwrap();
    fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap().stdout;
    for applet in String::from_utf8(applets).unwrap().lines().filter(|applet| *applet != "busybox")
    {
        symlink("busybox", tree.join("bin").join(applet)).unwrap();
    }
    for (path, text) in [
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\ntester:x:5:5::/:/x\n"),
        ("etc/group", "root:x:0:\n"),
        ("etc/hosts", "image\n"),
        ("etc/resolv.conf", "image\n"),
        ("usr/local/lib/library", "x"),
        ("not-executable", "x"),
    ] {
        fs::write(tree.join(path), text).unwrap();
    }
    for (path, mode) in [("bin/set-uid", 0o4755), ("bin/set-gid", 0o2755)] {
        fs::write(tree.join(path), teller()).unwrap();
        fs::set_permissions(tree.join(path), Permissions::from_mode(mode)).unwrap();
    }
    change(&tree);
    let image = tree.with_extension("squashfs");
    let _ = fs::remove_file(&image);
    let made = Command::new("mksquashfs")
        .arg(&tree)
        .arg(&image)
        .args(["-all-root", "-no-progress", "-comp", "gzip", "-quiet"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    fs::remove_dir_all(&tree).unwrap();
    let bytes = fs::read(&image).unwrap();
    fs::remove_file(&image).unwrap();
    bytes
}
