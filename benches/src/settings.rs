//! `./bench read --settings`: what compressor, level and block size cost and give, for the choice of the defaults.

use ::tests::Machine;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

use crate::layers::Layers;
use crate::read::{Reading, import, program, read_here_and_there};
use crate::report::{Report, mib, row};
use crate::site::{Pull, Site};
use crate::statistics::spread;

/// Runs it all.
///
/// # Errors
/// Where a command fails.
pub(crate) fn run(machine: &Machine, layers: &Layers) -> Result<Report> {
    let mut report = Report::begin("bench read --settings: compressors, levels and block sizes")?;
    let mut site = Site::start(machine, layers)?;
    let mut made: Vec<(String, Pull, PathBuf)> = Vec::new();
    for (compressor, block) in SETTINGS {
        let name = format!("{compressor} {} KiB", block >> 10);
        eprintln!("bench: converting with {name}");
        site.restart_empty(machine, Some(json!({ "Compressor": compressor, "BlockSize": block })))?;
        let pull = site.pull(1)?;
        let kept = Path::new("/srv").join(format!("{compressor}-{block}.squashfs"));
        std::fs::copy(&pull.image, &kept).context("cannot keep an image")?;
        made.push((name, pull, kept));
    }
    site.stop()?;
    let mut imports: Vec<Vec<Reading>> = vec![Vec::new(); made.len()];
    let mut places: Vec<Vec<Reading>> = vec![Vec::new(); made.len()];
    for round in 1..=RUNS {
        eprintln!("bench: reading, round {round} of {RUNS}");
        for ((_, _, image), (import_runs, place_runs)) in
            made.iter().zip(imports.iter_mut().zip(&mut places))
        {
            import_runs.push(import(image, layers.kind)?);
            place_runs.push(read_here_and_there(image)?);
        }
    }
    report.line(&format!(
        "python3 -c '{}' and 1000 reads of 4 KiB in the largest file, both cold, n={RUNS}",
        program(layers.kind)
    ));
    let mut rows = vec![row(&[
        "setting",
        "conversion CPU s",
        "MiB",
        "import wall s",
        "import system s",
        "import MiB read",
        "reads wall s",
        "reads MiB",
    ])];
    for ((name, pull, _), (imports, places)) in made.iter().zip(imports.iter().zip(&places)) {
        rows.push(vec![
            name.clone(),
            format!("{:.2}", pull.cost.cpu),
            mib(pull.size),
            spread(imports, |run| run.cost.wall)?,
            spread(imports, |run| run.cost.system)?,
            mib(imports.first().context("no run")?.bytes),
            spread(places, |run| run.cost.wall)?,
            mib(places.first().context("no run")?.bytes),
        ]);
    }
    report.table(&rows);
    Ok(report)
}

/// The default is among them.
const SETTINGS: [(&str, u64); 7] = [
    ("zstd:2", 128 << 10),
    ("zstd:1", 128 << 10),
    ("zstd:3", 128 << 10),
    ("zstd:6", 128 << 10),
    ("zstd:2", 32 << 10),
    ("zstd:2", 256 << 10),
    ("zstd:2", 1 << 20),
];

const RUNS: usize = 5;
