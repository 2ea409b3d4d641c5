//! A large image with a real MPI program: Debian, Python and ScaLAPACK, as a computing group would make it.
//!
//! The program is ScaLAPACK's parallel LU solver from Debian, linked with MPICH (which speaks PMI-2) and again with
//! Open MPI (which speaks PMIx). It computes the residual of its own solution, so a wrong result is seen as such.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::images::{Image, Layer, Packing, Tree, noise};
use crate::machine::workspace;

/// The image; its base is made once, which takes minutes, and kept in `target/cache`.
///
/// A middle layer is data, as large as it takes to make an image of `size` bytes in the registry.
///
/// # Errors
/// Where the base cannot be made (it takes root and a Debian mirror), or a file cannot be written.
pub fn science(directory: &Path, size: u64) -> Result<Image> {
    let base = Layer::of_file(&base()?, Packing::Zstd)?;
    let mut data = Tree::new();
    data.directory("data", 0o755)?;
    let mut missing = size.saturating_sub(base.size);
    for number in 0.. {
        if missing == 0 {
            break;
        }
        let length = missing.min(PIECE);
        let name = format!("data/sample-{number:03}.bin");
        data.file(&name, 0o644, &noise(number + 1, usize::try_from(length)?))?;
        missing -= length;
    }
    let data = Layer::pack(directory, &data.finish()?, Packing::Plain)?;
    let mut input = Tree::new();
    input.directory(DIRECTORY.trim_start_matches('/'), 0o755)?;
    input.file(
        &format!("{}/LU.dat", DIRECTORY.trim_start_matches('/')),
        0o644,
        INPUT.as_bytes(),
    )?;
    // Its own, so that nobody takes the host for the image: both are Debian.
    input.file("etc/os-release", 0o644, format!("PRETTY_NAME=\"{PRETTY_NAME}\"\n").as_bytes())?;
    let input = Layer::pack(directory, &input.finish()?, Packing::Gzip)?;
    let mut image = Image::new(vec![base, data, input]);
    image.environment.push("GANTRY_TEST=science".to_string());
    Ok(image)
}

/// Makes the base if it is not kept, and returns where it is. Needs the network the first time.
///
/// # Errors
/// Where it cannot be made.
pub fn base() -> Result<PathBuf> {
    let script = workspace().join("scripts/make-root");
    let output = Command::new(&script)
        .arg(workspace().join("target/cache"))
        .args(["bookworm", "python3-minimal", "scalapack-mpi-test", "procps"])
        .output()
        .with_context(|| format!("cannot run {}", script.display()))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{} failed:\n{said}", script.display());
    let path = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    fs::metadata(&path).with_context(|| format!("cannot find {}", path.display()))?;
    Ok(path)
}

/// Tells whether the report of the solver, run in [`DIRECTORY`] by three tasks, is that of one passed problem.
pub fn is_solved(report: &str) -> bool {
    let solved = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.first() == Some(&"WALL")
            && words.get(1..8) == Some(&["400", "400", "32", "2", "16", "1", "3"][..])
            && words.last() == Some(&"PASSED")
    };
    report.lines().filter(|line| solved(line)).count() == 1
        && report.contains("1 tests completed and passed residual checks")
}

/// What the image's `/etc/os-release` calls itself.
pub const PRETTY_NAME: &str = "Gantry science image (Debian 12, Python, ScaLAPACK)";

/// The solver linked with MPICH.
pub const WITH_MPICH: &str = "/usr/lib/x86_64-linux-gnu/scalapack/mpich-tests/xdlu";

/// The solver linked with Open MPI.
pub const WITH_OPEN_MPI: &str = "/usr/lib/x86_64-linux-gnu/scalapack/openmpi-tests/xdlu";

/// Where the image has the solver's input: it reads `LU.dat` from the directory that it is started in.
pub const DIRECTORY: &str = "/opt/lu";

/// One problem of 400 equations, in blocks of 32, two right-hand sides, on one row of three processes.
///
/// The last line leaves out the condition estimate and the refinement: Debian's build of that test fails and hangs now
/// and then with more than one process, on a plain host with `mpirun` as well.
const INPUT: &str = "\
'ScaLAPACK LU factorization input file'
'MPI machine'
'LU.out'
6
1
400
400
1
32
1
2
1
16
1
1
3
3.0
F
";

/// As large as a data file may be, so that no layer needs one giant buffer twice.
const PIECE: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_solution_is_told_from_a_right_one() {
        let end = "\n    1 tests completed and passed residual checks.\n";
        let line = "WALL   400   400  32     2   16    1    3     0.60     0.20    54.30 ";
        assert!(is_solved(&format!("{line}PASSED{end}")));
        assert!(!is_solved(&format!("{line}FAILED{end}")));
        assert!(!is_solved(&format!("{line}PASSED\n")));
        let alone = line.replace("1    3", "1    1");
        assert!(!is_solved(&format!("{alone}PASSED{end}")), "three tasks that each ran alone");
    }
}
