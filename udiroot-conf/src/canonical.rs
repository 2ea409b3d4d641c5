//! The one text of a volume and of a set of volumes: what plugin and commands pass on and compare.

use crate::volume::{NodeCache, Propagation, Volume};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// The one text of a set of volumes, whatever order and spelling they came in.
pub fn canonical(volumes: &[Volume]) -> String {
    let mut items: Vec<String> = volumes.iter().map(Volume::to_string).collect();
    items.sort();
    items.join(";")
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.target)?;
        if self.flags.read_only {
            f.write_str(":ro")?;
        }
        if self.flags.recursive {
            f.write_str(":rec")?;
        }
        if let Some(NodeCache { size, block_size }) = self.flags.per_node_cache {
            write!(f, ":perNodeCache=size={size},bs={block_size},method=loop,fstype=xfs")?;
        }
        match self.flags.propagation {
            Some(Propagation::Slave) => f.write_str(":slave"),
            Some(Propagation::Private) => f.write_str(":private"),
            None => Ok(()),
        }
    }
}
