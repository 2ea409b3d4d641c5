//! SIF, the image format of Singularity and Apptainer, version 1: a header, descriptors, and what they describe.
//!
//! Of all that can be in one only the primary system partition counts, and that only as a squashfs. Signatures are not
//! checked: who imports a file vouches for it. Layout: `pkg/sif` of github.com/apptainer/sif; little-endian, packed.

use image_ref::Platform;

use crate::error::ArchiveError;
use crate::upload::Upload;
use crate::{Format, Planned, SQUASHFS, rootfs};

/// Behind the line that makes the file executable.
pub(crate) const MAGIC_OFFSET: u64 = 32;
/// What stands there.
pub(crate) const MAGIC: &[u8] = b"SIF_MAGIC\0";

/// Plans the system partition.
pub(crate) fn plan(upload: &Upload, platform: &Platform) -> Result<Planned, ArchiveError> {
    let header = upload.raw_head(0, HEADER_BYTES)?;
    let bad = |reason: &str| ArchiveError::Document {
        name: "SIF header".to_owned(),
        reason: reason.to_owned(),
    };
    if bytes_at(&header, 42, 3) != Some(b"01\0") {
        return Err(bad("its version is not 01"));
    }
    let total = number_at(&header, 88).ok_or_else(|| bad("it is cut short"))?;
    let table = number_at(&header, 96).ok_or_else(|| bad("it is cut short"))?;
    if total > DESCRIPTOR_LIMIT {
        let why = format!("it has {total} descriptors, more than {DESCRIPTOR_LIMIT}");
        return Err(ArchiveError::Limit(why));
    }
    let table = upload.raw_head(table, total as usize * DESCRIPTOR_BYTES)?;
    let mut system = None;
    let mut is_oci = false;
    for descriptor in table.chunks(DESCRIPTOR_BYTES) {
        let kind = small_at(descriptor, 0).ok_or_else(|| bad("its table is cut short"))?;
        if descriptor.get(4) != Some(&1) {
            continue;
        }
        is_oci |= kind == OCI_ROOT_INDEX;
        if kind != PARTITION {
            continue;
        }
        let partition = Partition::read(descriptor).ok_or_else(|| bad("its table is cut short"))?;
        if partition.role == PRIMARY_SYSTEM && system.replace(partition).is_some() {
            return Err(bad("it has two primary system partitions"));
        }
    }
    match system {
        Some(partition) => partition.plan(upload, platform),
        None if is_oci => Err(ArchiveError::Foreign(OCI_SIF)),
        None => Err(bad("it has no primary system partition")),
    }
}

struct Partition {
    offset: u64,
    size: u64,
    file_system: u32,
    role: u32,
    architecture: [u8; 2],
}

impl Partition {
    /// Type, used, id, group and link take 17 bytes; offset, size and five more numbers 56; a name 128.
    fn read(descriptor: &[u8]) -> Option<Self> {
        Some(Self {
            offset: number_at(descriptor, 17)?,
            size: number_at(descriptor, 25)?,
            file_system: small_at(descriptor, 201)?,
            role: small_at(descriptor, 205)?,
            architecture: bytes_at(descriptor, 209, 2)?.try_into().ok()?,
        })
    }

    fn plan(&self, upload: &Upload, platform: &Platform) -> Result<Planned, ArchiveError> {
        match self.file_system {
            1 => {}
            2 => return Err(ArchiveError::Foreign(EXT3)),
            5 | 6 => return Err(ArchiveError::Foreign(ENCRYPTED)),
            _ => return Err(ArchiveError::Foreign("a SIF whose file system is no squashfs")),
        }
        if let Some(offered) = self.platform()
            && !platform.accepts(&offered)
        {
            let (wanted, offered) = (platform.clone(), vec![offered]);
            return Err(ArchiveError::NoPlatform { wanted, offered });
        }
        let name = || "system partition".to_owned();
        let section = upload.section(self.offset, self.size);
        if section.len() != self.size {
            let (expected, found) = (self.size, section.len());
            return Err(ArchiveError::Size { name: name(), expected, found });
        }
        if !upload.starts_with(self.offset, SQUASHFS)? {
            let reason = "it does not begin as a squashfs does".to_owned();
            return Err(ArchiveError::Document { name: name(), reason });
        }
        rootfs::plan_section(Format::Sif, upload, section, platform)
    }

    /// What it was built for; `None` where it does not say.
    fn platform(&self) -> Option<Platform> {
        let architecture = match &self.architecture {
            b"01" => "386",
            b"02" => "amd64",
            b"03" => "arm",
            b"04" => "arm64",
            b"05" => "ppc64",
            b"06" => "ppc64le",
            b"07" => "mips",
            b"08" => "mipsle",
            b"09" => "mips64",
            b"10" => "mips64le",
            b"11" => "s390x",
            b"12" => "riscv64",
            _ => return None,
        };
        Some(Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        })
    }
}

fn bytes_at(bytes: &[u8], offset: usize, length: usize) -> Option<&[u8]> {
    bytes.get(offset..offset + length)
}

fn small_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes_at(bytes, offset, 4)?.try_into().ok()?))
}

/// A signed number that is never negative.
fn number_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let number = i64::from_le_bytes(bytes_at(bytes, offset, 8)?.try_into().ok()?);
    u64::try_from(number).ok()
}

const HEADER_BYTES: usize = 128;
const DESCRIPTOR_BYTES: usize = 585;
/// Singularity makes room for 48.
const DESCRIPTOR_LIMIT: u64 = 4096;

const PARTITION: u32 = 0x4004;
const OCI_ROOT_INDEX: u32 = 0x400a;
const PRIMARY_SYSTEM: u32 = 2;

const EXT3: &str =
    "a SIF with an ext3 file system, which cannot be imported; build it anew, without `--writable`";
const ENCRYPTED: &str = "an encrypted SIF, which cannot be imported; nobody here has the key";
const OCI_SIF: &str =
    "an OCI-SIF, which cannot be imported; pull its image from the registry, or build a plain SIF";
