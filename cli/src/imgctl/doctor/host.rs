//! What this host itself must have: a trusted configuration, readable images, the set-user-id program, the kernel's
//! parts, and the plugin's line for Slurm.

use super::Finding;
use crate::site::{CONF_PATHS, Site};
use image_ref::NAMES_DIRECTORY;
use nix::sys::statvfs::{FsFlags, statvfs};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The file that was read, and whether the set-user-id program will take it.
pub(super) fn configuration(site: &Site) -> Vec<Finding> {
    let name = site.conf_name();
    let mut findings = vec![match fs::metadata(&name) {
        Ok(meta) if meta.uid() != 0 || meta.mode() & 0o022 != 0 => Finding::fail(
            "configuration",
            format!("{name} can be changed by others than root: gantry-suid will refuse it"),
        )
        .hint(format!("chown root {name} && chmod go-w {name}")),
        Ok(_) if Path::new(&name) != Path::new(CONF_PATHS[0]) => {
            Finding::warn("configuration", format!("{name} was read"))
                .hint(format!("gantry-suid reads {} and no other file", CONF_PATHS[0]))
        }
        Ok(_) => Finding::ok("configuration", format!("{name} belongs to root")),
        Err(_) => Finding::warn("configuration", "there is no udiRoot.conf")
            .hint(format!("gantry-suid needs {}", CONF_PATHS[0])),
    }];
    findings.extend(
        site.notices
            .iter()
            .map(|notice| Finding::warn("configuration", format!("{name}: {notice}"))),
    );
    findings
}

/// Whether images can be seen from here.
pub(super) fn images(site: &Site) -> Vec<Finding> {
    let Some(path) = &site.image_path else { return Vec::new() };
    let shown = path.display();
    match fs::read_dir(path) {
        Ok(_) if !path.join(NAMES_DIRECTORY).is_dir() => {
            vec![
                Finding::warn("images", format!("{shown} has no published names yet"))
                    .hint("the gateway makes them with the first public image"),
            ]
        }
        Ok(_) => vec![Finding::ok("images", format!("{shown} is readable"))],
        Err(error) => {
            let why = error.to_string();
            let why = why.split(" (os error").next().unwrap_or_default().to_lowercase();
            vec![
                Finding::fail("images", format!("cannot read {shown}: {why}"))
                    .hint("mount the shared file system, or correct `imagePath` in udiRoot.conf"),
            ]
        }
    }
}

/// Whether the set-user-id program is there and can do its work.
pub(super) fn suid(path: &Path) -> Finding {
    const CHECK: &str = "gantry-suid";
    let shown = path.display();
    let Ok(meta) = fs::metadata(path) else {
        return Finding::fail(CHECK, format!("{shown} is not installed"))
            .hint("install the gantry package, or correct `gantrySuidPath` in udiRoot.conf");
    };
    let mode = meta.mode() & 0o7777;
    if !meta.is_file() || meta.uid() != 0 || mode & 0o4001 != 0o4001 || mode & 0o022 != 0 {
        return Finding::fail(
            CHECK,
            format!("{shown} has owner {} and mode {mode:o}, not root and 4755", meta.uid()),
        )
        .hint(format!("chown root:root {shown} && chmod 4755 {shown}"));
    }
    match statvfs(path) {
        Ok(file_system) if file_system.flags().contains(FsFlags::ST_NOSUID) => {
            Finding::fail(CHECK, format!("{shown} lies on a file system mounted nosuid"))
                .hint("install it on a file system that is mounted without nosuid")
        }
        _ => Finding::ok(CHECK, format!("{shown} is set-user-id root")),
    }
}

/// Whether the kernel mounts squashfs.
pub(super) fn squashfs() -> Finding {
    const CHECK: &str = "squashfs";
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.lines().any(|line| line.split_whitespace().last() == Some("squashfs")) {
        return Finding::ok(CHECK, "the kernel mounts squashfs");
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let module = Path::new("/lib/modules").join(release.trim()).join("kernel/fs/squashfs");
    if module.is_dir() {
        Finding::ok(CHECK, "the kernel has a squashfs module, to be loaded when it is needed")
    } else {
        Finding::fail(CHECK, "the kernel cannot mount squashfs").hint("`modprobe squashfs`")
    }
}

/// Whether loop devices can be had.
pub(super) fn loop_control() -> Finding {
    const CHECK: &str = "loop devices";
    if Path::new("/dev/loop-control").exists() {
        Finding::ok(CHECK, "/dev/loop-control is there")
    } else {
        Finding::fail(CHECK, "there is no /dev/loop-control").hint("`modprobe loop`")
    }
}

/// Whether Slurm is told to load the plugin.
pub(super) fn plugin() -> Finding {
    const CHECK: &str = "slurm plugin";
    let slurm_conf = std::env::var_os("SLURM_CONF").map(PathBuf::from);
    let beside = slurm_conf.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let directories: Vec<PathBuf> = beside
        .into_iter()
        .chain(["/etc/slurm", "/etc/slurm-llnl", "/usr/local/etc/slurm"].map(PathBuf::from))
        .collect();
    match directories.iter().find_map(|directory| plugin_line(directory)) {
        Some((file, plugin))
            if Path::new(&plugin).is_absolute() && !Path::new(&plugin).exists() =>
        {
            Finding::fail(CHECK, format!("{} names {plugin}, which is not there", file.display()))
                .hint("correct the path; Slurm refuses to start jobs with a `required` plugin away")
        }
        Some((file, _)) => Finding::ok(CHECK, format!("{} loads it", file.display())),
        None => Finding::warn(CHECK, "no plugstack.conf loads spank_gantry.so").hint(
            "without it, `--image` is unknown to sbatch, srun and salloc; `gantry` still works",
        ),
    }
}

/// The file below Slurm's configuration directory that names the plugin, and the plugin's path as it stands there.
fn plugin_line(directory: &Path) -> Option<(PathBuf, String)> {
    let included = fs::read_dir(directory.join("plugstack.conf.d")).into_iter().flatten();
    let mut files: Vec<PathBuf> = included.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.insert(0, directory.join("plugstack.conf"));
    files.into_iter().find_map(|file| {
        let text = fs::read_to_string(&file).ok()?;
        let plugin = text.lines().filter_map(|line| {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            words.find(|word| word.ends_with("spank_gantry.so")).map(str::to_string)
        });
        plugin.into_iter().next().map(|plugin| (file, plugin))
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_program_that_is_not_set_user_id_root_fails() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gantry-suid");
        assert_eq!(suid(&path).verdict, Verdict::Fail);
        fs::write(&path, "").unwrap();
        for mode in [0o755, 0o4775, 0o4700] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let finding = suid(&path);
            assert_eq!(finding.verdict, Verdict::Fail, "{mode:o}");
            assert!(finding.text.contains(&format!("mode {mode:o}")), "{}", finding.text);
        }
    }

    #[test]
    fn the_plugins_line_is_found_in_included_files_too() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(plugin_line(directory.path()), None);
        fs::write(directory.path().join("plugstack.conf"), "include plugstack.conf.d/*\n").unwrap();
        fs::create_dir(directory.path().join("plugstack.conf.d")).unwrap();
        let file = directory.path().join("plugstack.conf.d/gantry.conf");
        fs::write(&file, "#required /a/spank_gantry.so\n").unwrap();
        assert_eq!(plugin_line(directory.path()), None);
        fs::write(&file, "required /b/spank_gantry.so enter=steps\n").unwrap();
        let found = plugin_line(directory.path());
        assert_eq!(found, Some((file, "/b/spank_gantry.so".to_string())));
    }

    #[test]
    fn a_configuration_that_others_can_change_fails() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("udiRoot.conf");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        let site = Site { conf: Some(path), notices: vec!["line 1: x".into()], ..Site::default() };
        let findings = configuration(&site);
        assert_eq!(findings[0].verdict, Verdict::Fail);
        assert_eq!(findings[1].verdict, Verdict::Warn);
    }
}
