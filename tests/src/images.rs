//! Docker images made here: layers, configuration and manifest, pushed to a registry over HTTP.
//!
//! Written after the OCI image specification and Docker's image manifest version 2, schema 2, and independent of
//! the crates that read them.

mod busybox;
mod layer;
mod push;

use serde_json::{Value, json};

pub use busybox::{PRETTY_NAME, busybox, busybox_with};
pub use layer::{Layer, Packing, Tree, noise};
pub use push::{Pushed, push, push_index};

/// An image: its layers, lowest first, and how it wants to be run.
#[derive(Clone, Debug)]
pub struct Image {
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
    /// Which family of media types it is written in.
    pub family: Family,
    /// `NAME=value` items.
    pub environment: Vec<String>,
    /// The entry point, if any.
    pub entrypoint: Vec<String>,
    /// The default command or the entry point's arguments, if any.
    pub command: Vec<String>,
    /// The directory to start in, if any.
    pub workdir: String,
    /// The processor architecture in Go's words.
    pub architecture: String,
}

/// The two families of media types that registries hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Docker's version 2, schema 2.
    Docker,
    /// The Open Container Initiative's.
    Oci,
}

impl Image {
    /// An image of these layers for this kind of machine, without any configuration.
    pub fn new(layers: Vec<Layer>) -> Self {
        Self {
            layers,
            family: Family::Docker,
            environment: vec!["PATH=/usr/local/bin:/usr/bin:/bin".to_string()],
            entrypoint: Vec::new(),
            command: Vec::new(),
            workdir: String::new(),
            architecture: "amd64".to_string(),
        }
    }

    /// The configuration blob.
    pub(crate) fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<&str> = self.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let mut process = json!({ "Env": self.environment });
        if !self.entrypoint.is_empty() {
            process["Entrypoint"] = json!(self.entrypoint);
        }
        if !self.command.is_empty() {
            process["Cmd"] = json!(self.command);
        }
        if !self.workdir.is_empty() {
            process["WorkingDir"] = json!(self.workdir);
        }
        let config = json!({
            "created": "2026-01-01T00:00:00Z",
            "architecture": self.architecture,
            "os": "linux",
            "config": process,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": diff_ids.iter().map(|_| json!({"created_by": "tests"})).collect::<Vec<_>>(),
        });
        config.to_string().into_bytes()
    }

    /// The manifest, for a configuration blob of this digest and size.
    pub(crate) fn manifest(&self, config_digest: &str, config_size: usize) -> Value {
        let layers = self.layers.iter().map(|layer| {
            json!({
                "mediaType": self.family.layer(layer.packing),
                "size": layer.size,
                "digest": layer.digest,
            })
        });
        json!({
            "schemaVersion": 2,
            "mediaType": self.family.manifest(),
            "config": {
                "mediaType": self.family.config(),
                "size": config_size,
                "digest": config_digest,
            },
            "layers": layers.collect::<Vec<_>>(),
        })
    }
}

impl Family {
    pub(crate) fn manifest(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
        }
    }

    pub(crate) fn index(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
            Self::Oci => "application/vnd.oci.image.index.v1+json",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.container.image.v1+json",
            Self::Oci => "application/vnd.oci.image.config.v1+json",
        }
    }

    fn layer(self, packing: Packing) -> &'static str {
        match (self, packing) {
            (Self::Docker, Packing::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
            (Self::Docker, Packing::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Self::Docker, Packing::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
            (Self::Oci, Packing::Plain) => "application/vnd.oci.image.layer.v1.tar",
            (Self::Oci, Packing::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Self::Oci, Packing::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}
