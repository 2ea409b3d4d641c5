//! Files as nvidia-ctk and amd-ctk print them, files as nobody should print them, and what comes of both.

use super::*;
use crate::gantry::devices::document::{Format, parse};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use udiroot_conf::volume::{Origin, Volume};

/// A host: two directories of specification files, a driver, and device nodes that everybody has.
struct Host {
    root: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self { root: tempfile::tempdir().unwrap() };
        for directory in ["etc", "run", "lib", "bin"] {
            fs::create_dir(host.path(directory)).unwrap();
        }
        for file in ["lib/libcuda.so.550.54", "lib/libGLX_nvidia.so.550.54", "bin/nvidia-smi"] {
            fs::write(host.path(file), "").unwrap();
        }
        symlink("libcuda.so.550.54", host.path("lib/libcuda.so.1")).unwrap();
        symlink("/etc/passwd", host.path("lib/libcuda.so.2")).unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file in which `HOST` stands for this host's directory.
    fn write(&self, name: &str, text: &str) {
        let text = text.replace("HOST", &self.root.path().display().to_string());
        fs::write(self.path(name), text).unwrap();
    }

    fn find(&self, names: &str) -> Result<Injection, Failure> {
        let names = name::parse_lists(&[names.to_owned()]).unwrap();
        find_in(&names, &[self.path("etc"), self.path("run")])
    }

    /// What a device brings, with `HOST` for this host's directory.
    fn volumes(&self, names: &str) -> Vec<String> {
        let root = self.root.path().display().to_string();
        let volumes = self.find(names).unwrap().volumes;
        volumes.iter().map(|volume| volume.replace(&root, "HOST")).collect()
    }
}

/// In the structure of `nvidia-ctk cdi generate`, with nodes that this host has.
const NVIDIA: &str = r#"---
cdiVersion: 0.5.0
containerEdits:
    deviceNodes:
        - path: /dev/null
    env:
        - NVIDIA_VISIBLE_DEVICES=void
    hooks:
        - args:
            - nvidia-cdi-hook
            - create-symlinks
            - --link
            - libcuda.so.1::/usr/lib/x86_64-linux-gnu/libcuda.so
            - --link
            - ../libnothing.so.1::/usr/lib/x86_64-linux-gnu/gbm/libnothing.so
          hookName: createContainer
          path: /usr/bin/nvidia-cdi-hook
        - args:
            - nvidia-cdi-hook
            - enable-cuda-compat
            - --host-driver-version=550.54
          hookName: createContainer
          path: /usr/bin/nvidia-cdi-hook
        - args:
            - nvidia-cdi-hook
            - update-ldcache
            - --folder
            - /usr/lib/x86_64-linux-gnu
          hookName: createContainer
          path: /usr/bin/nvidia-cdi-hook
    mounts:
        - containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.550.54
          hostPath: HOST/lib/libcuda.so.550.54
          options: [ro, nosuid, nodev, bind]
        - containerPath: /usr/lib/x86_64-linux-gnu/libGLX_nvidia.so.550.54
          hostPath: HOST/lib/libGLX_nvidia.so.550.54
          options: [ro, nosuid, nodev, rbind, rprivate]
        - containerPath: /usr/bin/nvidia-smi
          hostPath: HOST/bin/nvidia-smi
          options: [ro]
        - containerPath: /etc/vulkan/icd.d/nvidia_icd.json
          hostPath: /nonexistent/nvidia_icd.json
        - containerPath: /run/state
          hostPath: HOST/run
          options: [rw, bind]
devices:
    - containerEdits:
        deviceNodes:
            - path: /dev/zero
              permissions: rw
      name: "0"
    - containerEdits:
        deviceNodes:
            - path: /dev/nothing-like-nvidia1
      name: "1"
    - containerEdits:
        deviceNodes:
            - path: /dev/zero
            - hostPath: /dev/full
              path: /dev/dri/card0
      name: all
kind: nvidia.com/gpu
"#;

/// In the structure of `amd-ctk cdi generate`.
const AMD: &str = r#"{
  "cdiVersion": "0.6.0",
  "kind": "amd.com/gpu",
  "devices": [
    { "name": "0", "containerEdits": { "deviceNodes": [
      { "path": "/dev/zero", "hostPath": "/dev/zero", "type": "c", "major": 1, "minor": 5, "permissions": "rw" }
    ], "additionalGids": [44] } },
    { "name": "all", "containerEdits": { "deviceNodes": [ { "path": "/dev/full" } ] } }
  ],
  "containerEdits": { "deviceNodes": [ { "path": "/dev/null", "hostPath": "/dev/null" } ] }
}"#;

#[test]
fn nvidias_file_becomes_volumes_and_variables() {
    let host = Host::new();
    host.write("etc/nvidia.yaml", NVIDIA);
    assert_eq!(
        host.volumes("nvidia.com/gpu=0"),
        [
            "HOST/lib/libcuda.so.550.54:/.gantry-devices/lib0/libcuda.so.550.54:ro",
            "HOST/lib/libGLX_nvidia.so.550.54:/.gantry-devices/lib0/libGLX_nvidia.so.550.54:ro",
            "HOST/bin/nvidia-smi:/.gantry-devices/bin/nvidia-smi:ro",
            "HOST/run:/run/state",
            "HOST/lib/libcuda.so.550.54:/.gantry-devices/lib0/libcuda.so.1:ro",
            "HOST/lib/libcuda.so.550.54:/.gantry-devices/lib0/libcuda.so:ro",
        ]
    );
    let found = host.find("nvidia.com/gpu=0,nvidia.com/gpu=all").unwrap();
    assert_eq!(found.env, ["NVIDIA_VISIBLE_DEVICES=void"]);
    assert_eq!(found.library_directories, ["/.gantry-devices/lib0"]);
    assert_eq!(found.program_directory.as_deref(), Some("/.gantry-devices/bin"));
    for note in [
        "the hook `enable-cuda-compat` is not run",
        "/etc/vulkan/icd.d/nvidia_icd.json is left out: nothing may be mounted on",
        "the link /usr/lib/x86_64-linux-gnu/gbm/libnothing.so is not made",
        "the device node /dev/full does not appear as /dev/dri/card0",
    ] {
        assert!(found.notes.iter().any(|line| line.starts_with(note)), "{note}: {found:#?}");
    }
}

#[test]
fn amds_file_needs_nothing_but_its_nodes() {
    let host = Host::new();
    host.write("etc/amd.json", AMD);
    let found = host.find("amd.com/gpu=0").unwrap();
    assert!(found.volumes.is_empty() && found.env.is_empty(), "{found:?}");
    assert!(found.notes.iter().any(|note| note.starts_with("additionalGids")), "{found:?}");
    assert_eq!(host.find("amd.com/gpu=all").unwrap().library_directories, [""; 0]);
}

#[test]
fn what_is_not_there_is_named_with_what_can_be_done() {
    let host = Host::new();
    host.write("etc/nvidia.yaml", NVIDIA);
    let node = host.find("nvidia.com/gpu=1").unwrap_err();
    assert_eq!(
        node.text,
        "--device=nvidia.com/gpu=1: cannot use the device node /dev/nothing-like-nvidia1: no such file or directory"
    );
    assert!(node.hint.unwrap().contains("--gpus"));
    let device = host.find("nvidia.com/gpu=7").unwrap_err();
    assert!(device.text.starts_with("there is no device nvidia.com/gpu=7"), "{}", device.text);
    assert!(device.hint.unwrap().contains("nvidia.com/gpu=0, nvidia.com/gpu=1"));
    fs::remove_file(host.path("lib/libcuda.so.550.54")).unwrap();
    let library = host.find("nvidia.com/gpu=0").unwrap_err();
    assert!(
        library.text.contains("cannot bind /") && library.text.contains("libcuda"),
        "{library:?}"
    );
}

fn spec(kind: &str, env: &str) -> String {
    format!(
        r#"{{"cdiVersion":"1.0.0","kind":"{kind}","devices":[{{"name":"x","containerEdits":{{"env":["{env}"]}}}}]}}"#
    )
}

#[test]
fn the_later_directory_counts_and_two_files_of_one_contradict_each_other() {
    let host = Host::new();
    host.write("etc/a.json", &spec("v.com/c", "FROM=etc"));
    host.write("etc/ignored.txt", "{");
    assert_eq!(host.find("v.com/c=x").unwrap().env, ["FROM=etc"]);
    host.write("run/z.yaml", &spec("v.com/c", "FROM=run"));
    assert_eq!(host.find("v.com/c=x").unwrap().env, ["FROM=run"]);
    host.write("etc/b.json", &spec("v.com/c", "FROM=b"));
    assert_eq!(host.find("v.com/c=x").unwrap().env, ["FROM=run"]);
    fs::remove_file(host.path("run/z.yaml")).unwrap();
    let failure = host.find("v.com/c=x").unwrap_err();
    assert!(failure.text.starts_with("both /") && failure.text.contains("b.json"), "{failure:?}");
}

#[test]
fn a_file_that_is_malformed_fails_only_who_asks_for_what_it_may_have() {
    let host = Host::new();
    host.write("etc/good.json", &spec("v.com/c", "A=1"));
    host.write("etc/bad.yaml", "kind: w.com/c\ndevices: [{");
    let found = host.find("v.com/c=x").unwrap();
    assert!(found.notes.iter().any(|note| note.contains("bad.yaml is not used")), "{found:?}");
    let failure = host.find("w.com/c=x").unwrap_err();
    assert!(failure.text.contains("bad.yaml"), "{failure:?}");
    // It would go before the good one.
    host.write("run/newer.json", "{\"kind\": \"v.com/c\"");
    assert!(host.find("v.com/c=x").unwrap_err().text.contains("newer.json"));
}

#[test]
fn hostile_files_are_refused_with_a_short_reason() {
    let host = Host::new();
    let deep = format!("[\"v.com/c\", {}", "[".repeat(200_000));
    let aliases: String = std::iter::once("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned())
        .chain((1..12).map(|n| {
            let before = format!("*a{}", n - 1);
            format!("a{n}: &a{n} [{}]\n", vec![before; 10].join(","))
        }))
        .collect();
    let device = |edits: &str| {
        format!(
            r#"{{"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{{"name":"x","containerEdits":{edits}}}]}}"#
        )
    };
    for (name, text) in [
        ("huge.json", " ".repeat((1 << 20) + 1)),
        ("deep.json", deep.clone()),
        ("deep.yaml", deep),
        ("aliases.yaml", format!("{aliases}kind: [v.com/c]\n")),
        ("types.json", device(r#"{"env":"A=1"}"#)),
        ("types.yaml", device(r#"{"mounts":[7]}"#)),
        ("env.json", device(r#"{"env":["=x"]}"#)),
        ("version.json", device("{}").replace("0.5.0", "7.0.0")),
        ("name.json", device("{}").replace("\"x\"", "\"../x\"")),
        ("kind.json", device("{}").replace("v.com/c", "v.com/c/v.com/c")),
        ("none.yaml", "# v.com/c".into()),
    ] {
        host.write(&format!("etc/{name}"), &text);
        let failure = host.find("v.com/c=x").unwrap_err();
        assert!(failure.text.contains(name) && failure.text.len() < 500, "{name}: {failure:?}");
        fs::remove_file(host.path(&format!("etc/{name}"))).unwrap();
    }
    nix::unistd::mkfifo(&host.path("etc/pipe.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(host.find("v.com/c=x").unwrap_err().text.contains("not a regular file"));
}

#[test]
fn paths_that_users_may_not_have_are_left_out() {
    let host = Host::new();
    let mounts: String = ["/usr/../etc/x", "/etc/x", "/opt", "/", "relative", "/a;/b:/c", "/dev/x"]
        .map(|path| format!("  - {{hostPath: /dev/null, containerPath: \"{path}\"}}\n"))
        .concat();
    let text = format!(
        "cdiVersion: 0.5.0\nkind: v.com/c\ndevices: [{{name: x}}]\ncontainerEdits:\n mounts:\n{mounts}"
    );
    host.write("etc/paths.yaml", &text);
    let found = host.find("v.com/c=x").unwrap();
    assert!(found.volumes.is_empty(), "{found:?}");
    assert_eq!(
        found.notes.iter().filter(|note| note.contains("is left out")).count(),
        7,
        "{found:?}"
    );
}

#[test]
fn search_paths_keep_what_user_or_image_have() {
    let injection = Injection {
        library_directories: vec!["/l0".into(), "/l1".into()],
        program_directory: Some("/b".into()),
        ..Injection::default()
    };
    let image = [b"PATH=/image/bin".to_vec(), b"LD_LIBRARY_PATH=/image/lib".to_vec()];
    let of = |env: &[&str], image: Option<&[Vec<u8>]>| {
        let env: Vec<OsString> = env.iter().map(OsString::from).collect();
        search_paths(&injection, &env, image)
    };
    assert_eq!(of(&[], Some(&image)), ["LD_LIBRARY_PATH=/l0:/l1:/image/lib", "PATH=/image/bin:/b"]);
    let own = ["PATH=/x", "PATH=/own", "LD_LIBRARY_PATH="];
    assert_eq!(of(&own, Some(&image)), ["LD_LIBRARY_PATH=/l0:/l1", "PATH=/own:/b"]);
    assert_eq!(of(&[], None), ["LD_LIBRARY_PATH=/l0:/l1"]);
    assert!(search_paths(&Injection::default(), &[], Some(&image)).is_empty());
}

proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic(text in "\\PC{0,200}|[\\[\\]{}:,&*\"\n a-z-]{0,200}") {
        for format in [Format::Json, Format::Yaml] {
            let _ = parse(&text, format);
        }
    }

    #[test]
    fn whatever_a_file_says_its_volumes_are_ones_that_a_user_may_have(
        inside in proptest::collection::vec("(/(usr|lib|etc|var|\\.\\.|opt|a:b|x;y)){0,4}|\\PC{0,9}", 0..6),
        folder in "(/usr|/lib|/etc|/\\.\\.|/var|/){0,3}",
        target in "(/|\\.\\./|usr|etc|x){0,4}",
    ) {
        let mounts: Vec<_> = inside.iter().map(|path| serde_json::json!(
            {"hostPath": "/dev/null", "containerPath": path})).collect();
        let args = ["nvidia-cdi-hook", "create-symlinks", "--link", &format!("{target}::{folder}/x")];
        let folders = ["nvidia-cdi-hook", "update-ldcache", "--folder", &folder];
        let hook = |args: &[&str]| serde_json::json!(
            {"hookName": "createContainer", "path": "/nvidia-cdi-hook", "args": args});
        let edits = serde_json::json!(
            {"mounts": mounts, "hooks": [hook(&args), hook(&folders)]}).to_string();
        let edits: Edits = serde_json::from_str(&edits).unwrap();
        let injection = inject::inject(&[&edits]).unwrap();
        for volume in &injection.volumes {
            let parsed = Volume::parse(volume, Origin::User);
            prop_assert!(parsed.is_ok_and(|it| Path::new(&it.source) == Path::new("/dev/null") && it.flags.read_only));
        }
    }
}
