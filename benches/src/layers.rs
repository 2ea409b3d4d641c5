//! The layers of the two images that are converted: made once by `scripts/make-bench-layers`, then kept.

use ::tests::images::{Image, Layer, Packing};
use ::tests::machine::workspace;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Which pair of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 3 GB: compilers, MPI, libraries and two layers of Python.
    Big,
    /// 200 MB: to try the bench itself.
    Small,
}

/// The kept layers.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    /// Which.
    pub(crate) kind: Kind,
    /// Where they lie.
    pub(crate) directory: PathBuf,
    listed: Vec<Listed>,
}

/// A line of the list.
#[derive(Clone, Debug)]
struct Listed {
    name: String,
    layer: Layer,
    unpacked: u64,
    entries: u64,
}

impl Layers {
    /// Makes them where they are not kept, which takes the network and minutes.
    ///
    /// # Errors
    /// Where they cannot be made, or what is kept is not what the list says.
    pub(crate) fn make(kind: Kind) -> Result<Self> {
        let script = workspace().join("scripts/make-bench-layers");
        let word = match kind {
            Kind::Big => "big",
            Kind::Small => "small",
        };
        let output = Command::new(&script)
            .arg(workspace().join("target/bench/cache"))
            .arg(word)
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot run {}", script.display()))?;
        ensure!(output.status.success(), "{} {word} failed", script.display());
        let directory = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        let list = directory.join("layers");
        let text =
            fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        let listed: Vec<Listed> = text
            .lines()
            .map(|line| parse(&directory, line).with_context(|| format!("no layer: {line}")))
            .collect::<Result<_>>()?;
        for Listed { layer, .. } in &listed {
            let size = fs::metadata(&layer.path)?.len();
            ensure!(size == layer.size, "{} has {size} bytes", layer.path.display());
        }
        ensure!(listed.len() >= 3, "{} names too few layers", list.display());
        Ok(Self { kind, directory, listed })
    }

    /// The first image, or the second: they differ in their last layer alone.
    pub(crate) fn image(&self, number: usize) -> Image {
        Image::new(self.of_image(number).map(|listed| listed.layer.clone()).collect())
    }

    /// What an image holds: bytes of its layers as they are pushed, bytes of them as archives, entries.
    pub(crate) fn totals(&self, number: usize) -> (u64, u64, u64) {
        self.of_image(number).fold((0, 0, 0), |(packed, unpacked, entries), listed| {
            (packed + listed.layer.size, unpacked + listed.unpacked, entries + listed.entries)
        })
    }

    fn of_image(&self, number: usize) -> impl Iterator<Item = &Listed> {
        let last = format!("app{number}");
        self.listed
            .iter()
            .filter(move |listed| !listed.name.starts_with("app") || listed.name == last)
    }
}

/// `NAME PACKED UNPACKED ENTRIES SHA256-PACKED SHA256-UNPACKED`.
fn parse(directory: &std::path::Path, line: &str) -> Result<Listed> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, packed, unpacked, entries, digest, diff_id] = words[..] else {
        anyhow::bail!("it has {} words", words.len());
    };
    ensure!(digest.len() == 64 && diff_id.len() == 64, "it has no digests");
    let layer = Layer {
        path: directory.join(format!("{name}.tar.gz")),
        packing: Packing::Gzip,
        digest: format!("sha256:{digest}"),
        diff_id: format!("sha256:{diff_id}"),
        size: packed.parse()?,
    };
    let (unpacked, entries) = (unpacked.parse()?, entries.parse()?);
    Ok(Listed { name: name.to_string(), layer, unpacked, entries })
}
