//! `cargo xtask install`: the products and what belongs to them, laid out below a root directory.
//!
//! Packages, the demo and the tests all go through this one table. Files that an admin edits are never overwritten.

use crate::{command, products};
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

/// Where a file comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A built product.
    Product(&'static str),
    /// A file of the repository.
    File(&'static str),
    /// A file of the repository that the admin edits: put there only where none is.
    Example(&'static str),
}

/// Every file: where it comes from, where it goes and its mode. Root owns them all.
const FILES: [(Source, &str, u32); 16] = [
    (Source::Product("imgctl"), "usr/bin/imgctl", 0o755),
    (Source::Product("gantry"), "usr/bin/gantry", 0o755),
    (Source::Product("gantry-gateway"), "usr/sbin/gantry-gateway", 0o755),
    (Source::Product("gantry-convert"), "usr/libexec/gantry/gantry-convert", 0o755),
    (Source::Product("gantry-guard"), "usr/libexec/gantry/gantry-guard", 0o755),
    (Source::Product(products::SETUID), "usr/libexec/gantry/gantry-suid", 0o4755),
    (
        Source::File("packaging/systemd/gantry-gateway.service"),
        "usr/lib/systemd/system/gantry-gateway.service",
        0o644,
    ),
    (
        Source::File("packaging/systemd/gantry.sysusers.conf"),
        "usr/lib/sysusers.d/gantry.conf",
        0o644,
    ),
    (
        Source::File("packaging/systemd/gantry.tmpfiles.conf"),
        "usr/lib/tmpfiles.d/gantry.conf",
        0o644,
    ),
    (Source::File("packaging/slurm/gantry-prolog"), "usr/libexec/gantry/gantry-prolog", 0o755),
    (Source::File("packaging/slurm/gantry-epilog"), "usr/libexec/gantry/gantry-epilog", 0o755),
    (
        Source::File("packaging/mpi/gantry-mpi-module"),
        "usr/libexec/gantry/gantry-mpi-module",
        0o755,
    ),
    (Source::File("packaging/mpi/gantry-mpi-check"), "usr/libexec/gantry/gantry-mpi-check", 0o755),
    // Not where Slurm reads it: turning the plugin on is the admin's decision.
    (
        Source::File("packaging/slurm/plugstack.conf.d/gantry.conf"),
        "usr/share/gantry/plugstack.conf.d/gantry.conf",
        0o644,
    ),
    (Source::Example("packaging/etc/udiRoot.conf"), "etc/gantry/udiRoot.conf", 0o644),
    (Source::Example("packaging/etc/imagemanager.json"), "etc/gantry/imagemanager.json", 0o644),
];

/// The plugin's file name, wherever Slurm's plugins lie.
const PLUGIN: &str = "spank_gantry.so";

/// Directories that must be there, empty ones included. A container's root is attached to `root`; Prolog mounts
/// for jobs below `jobs`, where nobody else can look.
const DIRECTORIES: [(&str, u32); 4] = [
    ("etc/gantry", 0o755),
    ("usr/libexec/gantry/root", 0o755),
    ("run/gantry", 0o755),
    ("run/gantry/jobs", 0o700),
];

/// Installs below `root`; Slurm's plugins lie in `slurm_plugins` below it.
///
/// Run by root, everything ends up owned by root. Run by another user, owners stay that user's: a package's build
/// sets them itself.
///
/// # Errors
/// Where a product is not built, a file cannot be written, or an ordinary user installs into `/`.
pub(crate) fn run(root: &Path, slurm_plugins: &Path) -> Result<()> {
    let own = fs::metadata("/proc/self").context("cannot tell who runs this")?.uid() == 0;
    if !own && root == Path::new("/") {
        bail!("only root installs into /\nhint: give another directory with --root");
    }
    let built = products::products_directory()?;
    let workspace = command::workspace_root();
    products::check_setuid(&built.join(products::SETUID))?;
    fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
    let installer = Installer { root, own };
    for (directory, mode) in DIRECTORIES {
        installer.make_directory(Path::new(directory), mode)?;
    }
    for (source, target, mode) in FILES {
        let target = Path::new(target);
        match source {
            Source::Product(name) => installer.put(&built.join(name), target, mode)?,
            Source::File(path) => installer.put(&workspace.join(path), target, mode)?,
            Source::Example(_) if root.join(target).exists() => {
                println!("{}: kept", root.join(target).display());
            }
            Source::Example(path) => installer.put(&workspace.join(path), target, mode)?,
        }
    }
    if products::HAS_LEVELS {
        let target = Path::new("usr/libexec/gantry").join(products::CONVERTER_V3);
        installer.put(&built.join(products::CONVERTER_V3), &target, 0o755)?;
    }
    let plugins = slurm_plugins.strip_prefix("/").unwrap_or(slurm_plugins);
    installer.put(&built.join(PLUGIN), &plugins.join(PLUGIN), 0o755)?;
    installer.link("gantry", Path::new("usr/bin/shifter"))
}

/// Writes below a root directory.
#[derive(Debug)]
struct Installer<'a> {
    root: &'a Path,
    /// Whether everything is given to root.
    own: bool,
}

impl Installer<'_> {
    /// Copies a file to `target` below the root, replacing what is there in one step.
    fn put(&self, from: &Path, target: &Path, mode: u32) -> Result<()> {
        if let Some(parent) = target.parent() {
            self.make_parents(parent)?;
        }
        let to = self.root.join(target);
        let aside = PathBuf::from(format!("{}.new", to.display()));
        fs::copy(from, &aside)
            .with_context(|| format!("cannot copy {} to {}", from.display(), aside.display()))?;
        self.give_to_root(&aside)?;
        // Behind the change of owner, which takes the set-user-id bit away.
        set_mode(&aside, mode)?;
        fs::rename(&aside, &to).with_context(|| format!("cannot rename {}", aside.display()))?;
        println!("{} {mode:04o}", to.display());
        Ok(())
    }

    /// Makes `directory` with this mode; one that is there gets the mode and the owner.
    fn make_directory(&self, directory: &Path, mode: u32) -> Result<()> {
        self.make_parents(directory)?;
        let path = self.root.join(directory);
        self.give_to_root(&path)?;
        set_mode(&path, mode)
    }

    /// Makes what is missing of `directory`; leaves alone what is there.
    fn make_parents(&self, directory: &Path) -> Result<()> {
        let mut path = self.root.to_path_buf();
        for part in directory.components() {
            path.push(part);
            if !path.exists() {
                fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
                self.give_to_root(&path)?;
                set_mode(&path, 0o755)?;
            }
        }
        Ok(())
    }

    fn link(&self, target: &str, link: &Path) -> Result<()> {
        let path = self.root.join(link);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot replace {}", path.display()));
            }
            _ => {}
        }
        symlink(target, &path).with_context(|| format!("cannot link {}", path.display()))?;
        println!("{} -> {target}", path.display());
        Ok(())
    }

    fn give_to_root(&self, path: &Path) -> Result<()> {
        if self.own {
            chown(path, Some(0), Some(0))
                .with_context(|| format!("cannot give {} to root", path.display()))?;
        }
        Ok(())
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn every_file_of_the_repository_that_is_installed_is_there() {
        let workspace = command::workspace_root();
        for (source, target, _) in FILES {
            if let Source::File(path) | Source::Example(path) = source {
                assert!(workspace.join(path).is_file(), "{path}, installed as {target}");
            }
        }
    }

    #[test]
    fn the_example_for_the_gateway_is_json() {
        let path = command::workspace_root().join("packaging/etc/imagemanager.json");
        let example: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert!(example["Platforms"].is_object());
    }

    #[test]
    fn only_the_runtime_is_set_user_id() {
        let set_id: Vec<&str> =
            FILES.iter().filter(|(.., mode)| mode & 0o7000 != 0).map(|(_, to, _)| *to).collect();
        assert_eq!(set_id, ["usr/libexec/gantry/gantry-suid"]);
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_missing_directories_are_made() {
        let root = tempfile::tempdir().unwrap();
        let from = root.path().join("from");
        fs::write(&from, "one").unwrap();
        let installer = Installer { root: root.path(), own: false };
        let target = Path::new("usr/libexec/x");
        for text in ["one", "two"] {
            fs::write(&from, text).unwrap();
            installer.put(&from, target, 0o4755).unwrap();
            assert_eq!(fs::read_to_string(root.path().join(target)).unwrap(), text);
        }
        assert_eq!(mode_of(&root.path().join(target)), 0o4755);
        assert_eq!(mode_of(&root.path().join("usr/libexec")), 0o755);
        assert_eq!(fs::read_dir(root.path().join("usr/libexec")).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_gets_its_mode_also_when_it_is_there() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("run")).unwrap();
        set_mode(&root.path().join("run"), 0o777).unwrap();
        let installer = Installer { root: root.path(), own: false };
        installer.make_directory(Path::new("run"), 0o755).unwrap();
        assert_eq!(mode_of(&root.path().join("run")), 0o755);
    }
}
