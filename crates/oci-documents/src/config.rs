//! The configuration of an image: what to run and what its layers must be.
//!
//! OCI image specification, image configuration.

use crate::index::parse_platform;
use crate::json;
use crate::manifest::Flaw;
use image_ref::{Digest, Platform};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What an image's configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageConfig {
    /// What the image is made for.
    pub platform: Platform,
    /// When it was made, as written (RFC 3339).
    pub created: Option<String>,
    /// The environment, each `NAME=value`.
    pub env: Vec<String>,
    /// The entrypoint; empty where there is none.
    pub entrypoint: Vec<String>,
    /// The default command or the entrypoint's arguments; empty where there are none.
    pub cmd: Vec<String>,
    /// The working directory; empty where there is none.
    pub workdir: String,
    /// The user that the image's author meant, as written; Gantry runs everything as the caller.
    pub user: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The digests of the uncompressed layers, the lowest first.
    pub diff_ids: Vec<Digest>,
}

/// Reads a configuration for an image with that many layers.
pub fn parse_config(bytes: &[u8], layers: usize) -> Result<ImageConfig, Flaw> {
    let raw: Raw = json::parse(bytes)?;
    if raw.rootfs.kind != "layers" || raw.rootfs.diff_ids.len() != layers {
        return Err(Flaw::Invalid(format!(
            "its manifest has {layers} layers, its configuration has {}",
            raw.rootfs.diff_ids.len()
        )));
    }
    let run = raw.config.unwrap_or_default();
    let config = ImageConfig {
        platform: parse_platform(&raw.os, &raw.architecture, raw.variant.as_deref())
            .map_err(|_| Flaw::Invalid("its configuration names no platform".to_owned()))?,
        created: raw.created,
        env: run.env.unwrap_or_default(),
        entrypoint: run.entrypoint.unwrap_or_default(),
        cmd: run.cmd.unwrap_or_default(),
        workdir: run.working_dir.unwrap_or_default(),
        user: run.user.unwrap_or_default(),
        labels: run.labels.unwrap_or_default(),
        diff_ids: raw.rootfs.diff_ids,
    };
    config.check()?;
    Ok(config)
}

impl ImageConfig {
    /// Refuses what cannot be handed to `execve(2)`.
    fn check(&self) -> Result<(), Flaw> {
        let texts = || {
            let lists = [&self.env, &self.entrypoint, &self.cmd].into_iter().flatten();
            lists.chain([&self.workdir])
        };
        if texts().any(|text| text.contains('\0')) {
            return Err(Flaw::Invalid("its configuration has a text with a NUL byte".to_owned()));
        }
        if let Some(odd) = self.env.iter().find(|entry| entry.find('=').unwrap_or(0) == 0) {
            let shown: String = odd.chars().filter(|c| !c.is_control()).take(40).collect();
            return Err(Flaw::Invalid(format!(
                "its environment has the entry `{shown}`, not NAME=value"
            )));
        }
        let (count, bytes) = texts().fold((0, 0), |(n, sum), text| (n + 1, sum + text.len()));
        if count > TEXT_LIMIT || bytes > TEXT_BYTES_LIMIT {
            return Err(Flaw::Limit(format!(
                "environment and command have {count} entries and {bytes} bytes, \
                 more than {TEXT_LIMIT} or {TEXT_BYTES_LIMIT}"
            )));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Raw {
    architecture: String,
    os: String,
    variant: Option<String>,
    created: Option<String>,
    config: Option<RawRun>,
    rootfs: RawRootfs,
}

/// Docker writes `null` for what is not set.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawRun {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Vec<Digest>,
}

/// The most entries of environment and command together.
const TEXT_LIMIT: usize = 8_192;
/// The most bytes of these; half of what a sidecar may hold, and what Linux hands to a program in 2 MiB with room to spare.
const TEXT_BYTES_LIMIT: usize = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(run: &str, layers: usize) -> Result<ImageConfig, Flaw> {
        let digest = format!("\"sha256:{}\"", "a".repeat(64));
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{run},"created":"2020-01-01T00:00:00Z",
            "rootfs":{{"type":"layers","diff_ids":[{digest},{digest}]}},"history":[{{"x":1}}]}}"#
        );
        parse_config(text.as_bytes(), layers)
    }

    #[test]
    fn what_docker_writes_is_read() {
        let config = parse(
            r#"{"Env":["PATH=/bin","A=b=c"],"Entrypoint":["/bin/sh","-c"],"Cmd":null,"WorkingDir":"/w",
            "User":"1000","Labels":{"a":"b"},"ArgsEscaped":true}"#,
            2,
        )
        .unwrap();
        assert_eq!(config.env, ["PATH=/bin", "A=b=c"]);
        assert_eq!(config.entrypoint, ["/bin/sh", "-c"]);
        assert_eq!((config.cmd.len(), config.workdir.as_str()), (0, "/w"));
        assert_eq!(
            (config.diff_ids.len(), config.platform.to_string().as_str()),
            (2, "linux/amd64")
        );
        assert_eq!(parse("null", 2).unwrap().env, [""; 0]);
    }

    #[test]
    fn layers_must_agree_with_the_manifest() {
        for layers in [0, 1, 3] {
            let Err(Flaw::Invalid(text)) = parse("{}", layers) else { panic!("{layers}") };
            assert_eq!(text, format!("its manifest has {layers} layers, its configuration has 2"));
        }
    }

    #[test]
    fn texts_that_no_program_can_be_given_are_refused() {
        for run in [
            r#"{"Env":["NOVALUE"]}"#,
            r#"{"Env":["=x"]}"#,
            r#"{"Env":[""]}"#,
            r#"{"Env":["A=\u0000"]}"#,
            r#"{"Cmd":["a\u0000b"]}"#,
            r#"{"WorkingDir":"/\u0000"}"#,
            r#"{"Cmd":"sh"}"#,
            r#"{"Env":["A=1"],"Env":["B=1"]}"#,
        ] {
            assert!(matches!(parse(run, 2), Err(Flaw::Invalid(_))), "{run}");
        }
        let long = format!(r#"{{"Env":["A={}"]}}"#, "x".repeat(TEXT_BYTES_LIMIT));
        assert!(matches!(parse(&long, 2), Err(Flaw::Limit(_))));
        let many = format!(r#"{{"Env":[{}"A=1"]}}"#, "\"A=1\",".repeat(TEXT_LIMIT));
        assert!(matches!(parse(&many, 2), Err(Flaw::Limit(_))));
    }
}
