//! Writes sidecars: what the gateway does and the runtime does not.

use crate::sidecar::{Access, MAGIC, SIDECAR_LIMIT, Sidecar, SidecarError};
use alloc::vec::Vec;

impl Sidecar {
    /// Encodes the sidecar.
    ///
    /// # Errors
    /// [`SidecarError::TooLarge`] where the result would exceed [`SIDECAR_LIMIT`].
    pub fn encode(&self) -> Result<Vec<u8>, SidecarError> {
        let mut out = Vec::from(&MAGIC[..]);
        let mut record = |key: &[u8; 4], value: &[u8]| {
            let length = u32::try_from(value.len()).map_err(|_| SidecarError::TooLarge)?;
            out.extend_from_slice(key);
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(value);
            Ok(())
        };
        record(b"DIGE", self.digest.as_bytes())?;
        record(b"OWNR", &self.owner.to_le_bytes())?;
        match &self.access {
            Access::Public => record(b"PUBL", &[])?,
            Access::Listed { uids, gids } => {
                record(b"UIDS", &numbers(uids))?;
                record(b"GIDS", &numbers(gids))?;
            }
        }
        self.env.iter().try_for_each(|value| record(b"ENVI", value))?;
        self.entrypoint.iter().try_for_each(|value| record(b"ENTR", value))?;
        self.cmd.iter().try_for_each(|value| record(b"CMDA", value))?;
        record(b"WDIR", &self.workdir)?;
        record(b"PLAT", self.platform.as_bytes())?;
        record(b"MADE", self.made_by.as_bytes())?;
        record(b"LAST", &[])?;
        if out.len() > SIDECAR_LIMIT { Err(SidecarError::TooLarge) } else { Ok(out) }
    }
}

fn numbers(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}
