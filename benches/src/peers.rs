//! What others do with the same image, each as its own commands, from the same registry to a squashfs file.
//!
//! Shifter's way runs as an account that is not root, as its gateway does. Unpacking is done once and its cost is added
//! to everything that starts from the unpacked tree.

use ::tests::caller::GATEWAY;
use ::tests::images::Pushed;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::measure::{self, Cost, Disk, Peaks};
use crate::storage::empty;

/// Somebody's way, measured.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// For the table.
    pub(crate) name: &'static str,
    /// From the registry to the file. Disk is without the file.
    pub(crate) cost: Cost,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// The file.
    pub(crate) image: PathBuf,
}

/// An image unpacked by skopeo and umoci.
#[derive(Clone, Debug)]
pub(crate) struct Unpacked {
    directory: PathBuf,
    /// What that cost.
    pub(crate) cost: Cost,
}

impl Unpacked {
    /// `skopeo copy` to an OCI layout, `umoci unpack --rootless`, as Shifter's gateway calls them, but for its
    /// directory of blobs that all images share: none is there yet.
    ///
    /// # Errors
    /// Where one fails.
    pub(crate) fn make(directory: &Path, pushed: &Pushed) -> Result<Self> {
        fs::create_dir_all(directory.join("tmp"))?;
        for path in [directory.to_path_buf(), directory.join("tmp")] {
            chown(&path, Some(GATEWAY.uid), Some(GATEWAY.uid))?;
        }
        let reference = pushed.reference.replacen("docker:", "docker://", 1);
        let script = format!(
            "skopeo --insecure-policy copy --quiet --src-tls-verify=false {reference} oci:oci:image
             umoci unpack --rootless --image oci:image bundle"
        );
        let cost = run("unpack", directory, &script)?;
        Ok(Self { directory: directory.to_path_buf(), cost })
    }

    /// `mksquashfs DIR OUT -all-root -no-xattrs`: Shifter's default options, and with them mksquashfs' gzip at level 9.
    ///
    /// # Errors
    /// Where it fails; so for those below.
    pub(crate) fn shifter(&self) -> Result<Peer> {
        self.pack("Shifter: skopeo + umoci + mksquashfs", MKSQUASHFS)
    }

    /// The same at our own compressor, level and block size.
    pub(crate) fn same_compressor(&self) -> Result<Peer> {
        let script = format!("{MKSQUASHFS} -comp zstd -Xcompression-level 2 -b 131072");
        self.pack("the same, mksquashfs zstd level 2", &script)
    }

    /// `tar | tar2sqfs` at our own compressor, level and block size.
    pub(crate) fn tar2sqfs(&self) -> Result<Peer> {
        let script = "tar --create --directory bundle/rootfs --sort=name --owner=0 --group=0 --numeric-owner . |
            tar2sqfs --quiet --no-xattr --compressor zstd --comp-extra level=2 --block-size 131072 \
              --num-jobs \"$(nproc)\" out.squashfs";
        self.pack("skopeo + umoci + tar | tar2sqfs zstd level 2", script)
    }

    fn pack(&self, name: &'static str, script: &str) -> Result<Peer> {
        let image = self.directory.join("out.squashfs");
        fs::remove_file(&image).ok();
        let packing = run("pack", &self.directory, script)?;
        let size = fs::metadata(&image).with_context(|| format!("{name} left no file"))?.len();
        Ok(Peer { name, cost: self.then(packing, size), size, image })
    }

    /// The cost of unpacking and then packing into a file of `size` bytes.
    fn then(&self, packing: Cost, size: u64) -> Cost {
        let (first, second) = (&self.cost, &packing);
        let mut high_water = first.peaks.high_water.clone();
        for (name, bytes) in &second.peaks.high_water {
            let mark = high_water.entry(name.clone()).or_default();
            *mark = (*mark).max(*bytes);
        }
        // The tree stays until the file is finished.
        let packed = first.peaks.disk_left + second.peaks.disk.saturating_sub(size);
        Cost {
            wall: first.wall + second.wall,
            cpu: first.cpu + second.cpu,
            system: first.system + second.system,
            peaks: Peaks {
                memory: first.peaks.memory.max(second.peaks.memory),
                resident: first.peaks.resident.max(second.peaks.resident),
                high_water,
                disk: first.peaks.disk.max(packed),
                disk_left: first.peaks.disk_left,
            },
        }
    }

    /// Removes everything.
    ///
    /// # Errors
    /// Where something stays.
    pub(crate) fn remove(self) -> Result<()> {
        empty(&self.directory)
    }
}

/// `enroot import` as its script does it: layers through curl, sha256sum, pigz and zstd into a cache, each unpacked by
/// tar, whiteouts made overlayfs' own, the overlay packed with `mksquashfs -comp lzo -noD`. As root, in place of the
/// user namespace that it makes.
///
/// # Errors
/// Where a step fails.
pub(crate) fn enroot(directory: &Path, pushed: &Pushed, layers: &[String]) -> Result<Peer> {
    fs::create_dir_all(directory.join("tmp"))?;
    let base = pushed.reference.trim_start_matches("docker:").rsplit_once(':').context("no tag")?.0;
    let (host, repository) = base.split_once('/').context("no repository")?;
    // Uppermost first, as overlayfs wants them.
    let digests: Vec<&str> =
        layers.iter().rev().map(|digest| digest.trim_start_matches("sha256:")).collect();
    let script = ENROOT
        .replace("@URL@", &format!("http://{host}/v2/{repository}/blobs"))
        .replace("@LAYERS@", &digests.join(" "));
    let mut cost = run_as_root("enroot", directory, &script)?;
    let image = directory.join("out.squashfs");
    let size = fs::metadata(&image).context("enroot's way left no file")?.len();
    cost.peaks.disk = cost.peaks.disk.saturating_sub(size);
    let name = "enroot: curl + pigz + zstd + tar + mksquashfs lzo -noD";
    Ok(Peer { name, cost, size, image })
}

const MKSQUASHFS: &str = "mksquashfs bundle/rootfs out.squashfs -no-progress -all-root -no-xattrs";

const ENROOT: &str = r#"
    mkdir cache rootfs
    export processors=$(nproc)
    fetch() {
      curl -fsS "@URL@/sha256:$1" | tee >(sha256sum | cut -d' ' -f1 >"cache/$1.sum") | pigz -d -f -c |
        zstd -T"$(expr "$processors" / 10 \| 1)" -q -f -1 -o "cache/$1"
      for _ in $(seq 100); do [ -s "cache/$1.sum" ] && break; sleep 0.1; done
      [ "$(cat "cache/$1.sum")" = "$1" ]
    }
    unpack() {
      mkdir "$1"
      tar -C "$1" --warning=no-timestamp --anchored --exclude='dev/*' --exclude='./dev/*' --use-compress-program=zstd \
        -pxf "cache/$2"
      find "$1" -name '.wh.*' -type f | while IFS= read -r whiteout; do
        rm "$whiteout"
        mknod "${whiteout%/*}/$(basename "$whiteout" | cut -c5-)" c 0 0
      done
    }
    export -f fetch unpack
    printf '%s\n' @LAYERS@ | xargs -P 10 -I@ bash -ec 'set -o pipefail; fetch @'
    printf '%s\n' @LAYERS@ | awk '{ print NR, $1 }' | xargs -P "$processors" -L 1 bash -ec 'set -o pipefail; unpack $1 $2' -
    chmod -R u+rwX [0-9]*
    lower=$(printf '%s\n' @LAYERS@ | awk '{ printf "%s%d", (NR > 1 ? ":" : ""), NR }')
    mount -t overlay overlay -o "lowerdir=$lower" rootfs
    trap 'umount rootfs' EXIT
    mksquashfs rootfs out.squashfs -all-root -no-progress -processors "$processors" -comp lzo -noD
"#;

/// Runs a script as the gateway's account.
fn run(name: &str, directory: &Path, script: &str) -> Result<Cost> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", GATEWAY.name, "--regid", GATEWAY.name, "--init-groups", "bash"]);
    command.env_clear().env("HOME", directory);
    run_script(name, directory, script, command)
}

fn run_as_root(name: &str, directory: &Path, script: &str) -> Result<Cost> {
    run_script(name, directory, script, Command::new("bash"))
}

fn run_script(name: &str, directory: &Path, script: &str, mut command: Command) -> Result<Cost> {
    command
        .args(["-c", &format!("set -euo pipefail\n{script}")])
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TMPDIR", directory.join("tmp"))
        .env("LANG", "C.UTF-8")
        .current_dir(directory);
    measure::run(name, &mut command, Disk::FileSystem(directory.to_path_buf()))
}
