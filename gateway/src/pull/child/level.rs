//! Builds of the converter for what most processors can do, beside the one that runs on all of them.
//!
//! They lie in a directory that is called like the level (the x86-64 psABI's names, as in ld.so(8), "hardware
//! capabilities") beside the program. What they make is the same, byte for byte.

use std::path::{Path, PathBuf};

/// The highest level above the baseline that this processor has and that there is a build for.
pub(super) fn of_this_processor() -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("f16c")
        && std::arch::is_x86_feature_detected!("fma")
        && std::arch::is_x86_feature_detected!("lzcnt")
        && std::arch::is_x86_feature_detected!("movbe")
    {
        return Some("x86-64-v3");
    }
    None
}

/// The build of `program` for a level, where the site has installed it.
pub(super) fn variant(program: &Path, level: &str) -> Option<PathBuf> {
    let path = program.parent()?.join(level).join(program.file_name()?);
    path.is_file().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_for_the_level_is_taken_where_there_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("gantry-convert");
        assert_eq!(variant(&program, "x86-64-v3"), None);
        let own = directory.path().join("x86-64-v3");
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("gantry-convert"), "").unwrap();
        assert_eq!(variant(&program, "x86-64-v3"), Some(own.join("gantry-convert")));
        assert_eq!(variant(&program, "x86-64-v4"), None);
    }
}
