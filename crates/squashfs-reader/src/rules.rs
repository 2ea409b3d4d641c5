//! What an image may be: the rules for those that get published, and for those that get imported.

/// The rules that an image is read by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Who is supposed to have made it.
    pub origin: Origin,
    /// How much it may make the reader do.
    pub limits: Limits,
}

impl Rules {
    /// The rules for an image that is about to be published.
    pub fn published() -> Self {
        Self { origin: Origin::Published, limits: Limits::default() }
    }

    /// The rules for an image that is read to be converted.
    pub fn imported() -> Self {
        Self { origin: Origin::Imported, limits: Limits::default() }
    }
}

/// Who is supposed to have made an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Our own converter: everything that kernels take for granted must hold, and nothing may be in it that the converter
    /// leaves out.
    Published,
    /// Any program: what is dropped by the conversion (owners, attributes, devices), and what no tar stream shows (link
    /// counts, the export table), may be as it likes.
    Imported,
}

/// How much an image may make its reader do; each default is far above what real images have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Inodes; each costs about a hundred bytes of memory.
    pub inodes: u32,
    /// Names in all directories together; each costs about twenty bytes of memory.
    pub names: u32,
    /// Directories above an entry, the root not counted.
    pub depth: u16,
    /// Bytes of each table once it is decompressed; they are all kept in memory.
    pub table_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { inodes: 64_000_000, names: 64_000_000, depth: 1024, table_bytes: 1 << 30 }
    }
}
