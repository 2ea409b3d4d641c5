//! The media types that are understood, and why others are not.

/// Manifest or index, of Docker or of OCI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// One image: `application/vnd.oci.image.manifest.v1+json`.
    OciManifest,
    /// One image: `application/vnd.docker.distribution.manifest.v2+json`.
    DockerManifest,
    /// A list of images: `application/vnd.oci.image.index.v1+json`.
    OciIndex,
    /// A list of images: `application/vnd.docker.distribution.manifest.list.v2+json`.
    DockerList,
}

impl ManifestKind {
    const ALL: [Self; 4] =
        [Self::OciIndex, Self::OciManifest, Self::DockerList, Self::DockerManifest];

    /// What is sent in the `Accept` header.
    pub fn accepted() -> String {
        Self::ALL.map(Self::media_type).join(", ")
    }

    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::OciManifest => "application/vnd.oci.image.manifest.v1+json",
            Self::DockerManifest => "application/vnd.docker.distribution.manifest.v2+json",
            Self::OciIndex => "application/vnd.oci.image.index.v1+json",
            Self::DockerList => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    /// Tells whether it lists images for several platforms.
    pub const fn is_index(self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerList)
    }

    /// Reads a media type.
    ///
    /// # Errors
    /// A phrase that says why it cannot be used.
    pub fn parse(media_type: &str) -> Result<Self, String> {
        let essence = essence(media_type);
        if let Some(kind) = Self::ALL.into_iter().find(|kind| kind.media_type() == essence) {
            return Ok(kind);
        }
        Err(if essence.starts_with("application/vnd.docker.distribution.manifest.v1+") {
            SCHEMA1.to_owned()
        } else {
            format!("its media type is `{}`, not that of an image", shown(essence))
        })
    }
}

/// How a layer's tar archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerCompression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl LayerCompression {
    /// Reads the media type of a layer.
    ///
    /// # Errors
    /// A phrase that says why it cannot be used.
    pub fn parse(media_type: &str) -> Result<Self, String> {
        let essence = essence(media_type);
        if essence.contains(".foreign.") || essence.contains(".nondistributable.") {
            return Err(FOREIGN.to_owned());
        }
        let (base, compression) = [
            ("+gzip", Self::Gzip),
            (".gzip", Self::Gzip),
            ("+zstd", Self::Zstd),
            (".zstd", Self::Zstd),
        ]
        .into_iter()
        .find_map(|(end, compression)| Some((essence.strip_suffix(end)?, compression)))
        .unwrap_or((essence, Self::None));
        match base {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Ok(compression),
            _ if essence.ends_with("+encrypted") => Err("a layer is encrypted".to_owned()),
            _ => {
                Err(format!("a layer has the media type `{}`, which is not known", shown(essence)))
            }
        }
    }
}

/// Makes sure that a media type is that of a container image's configuration.
///
/// # Errors
/// A phrase that says what it is instead.
pub(crate) fn check_config(media_type: &str) -> Result<(), String> {
    match essence(media_type) {
        "application/vnd.oci.image.config.v1+json"
        | "application/vnd.docker.container.image.v1+json" => Ok(()),
        other => Err(format!(
            "it is no container image: its configuration has the media type `{}`",
            shown(other)
        )),
    }
}

/// A media type without parameters.
fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// As much of a stranger's media type as fits into a sentence.
fn shown(media_type: &str) -> String {
    media_type.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// What is said of manifests from before 2016.
pub(crate) const SCHEMA1: &str = "its manifest has schema version 1, which docker gave up for being unsafe; \
     push it again with a current docker or skopeo";
/// What is said of layers that are to be fetched elsewhere.
pub(crate) const FOREIGN: &str = "a layer must be fetched from elsewhere (a foreign or nondistributable layer), \
     and only the registry itself is asked";

#[cfg(test)]
mod tests {
    use super::*;
    use LayerCompression::{Gzip, None, Zstd};

    #[test]
    fn layers_of_docker_and_oci_are_understood() {
        for (media_type, expected) in [
            ("application/vnd.oci.image.layer.v1.tar", None),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Gzip),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Zstd),
            ("application/vnd.docker.image.rootfs.diff.tar", None),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Gzip),
            ("application/vnd.docker.image.rootfs.diff.tar.zstd", Zstd),
        ] {
            assert_eq!(LayerCompression::parse(media_type), Ok(expected), "{media_type}");
        }
    }

    #[test]
    fn other_layers_are_refused_with_the_reason() {
        for (media_type, reason) in [
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "elsewhere"),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "elsewhere"),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "encrypted"),
            ("application/vnd.oci.image.layer.v1.tar+gzip+gzip", "not known"),
            ("application/vnd.in-toto+json", "not known"),
            ("", "not known"),
        ] {
            let error = LayerCompression::parse(media_type).unwrap_err();
            assert!(error.contains(reason), "{media_type}: {error}");
        }
    }

    #[test]
    fn manifests_are_known_by_their_media_type_with_or_without_parameters() {
        let text = format!("{}; charset=utf-8", ManifestKind::OciIndex.media_type());
        assert_eq!(ManifestKind::parse(&text), Ok(ManifestKind::OciIndex));
        for end in ["prettyjws", "json"] {
            let old = format!("application/vnd.docker.distribution.manifest.v1+{end}");
            assert_eq!(ManifestKind::parse(&old), Err(SCHEMA1.to_owned()));
        }
        assert!(ManifestKind::parse("text/html").unwrap_err().contains("`text/html`"));
    }
}
