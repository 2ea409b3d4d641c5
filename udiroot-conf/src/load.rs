//! Reads udiRoot.conf from a path, for the unprivileged programs.
//!
//! Does not judge who owns the file: nothing that these programs do with it needs trust. The set-user-id program
//! opens and checks the file itself.

use crate::{CONF_LIMIT, CommandConf, ConfError};
use core::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::vec::Vec;

/// Opens, reads and parses the file at `path`.
///
/// # Errors
/// See [`LoadError`]; every one names the file.
pub fn load(path: impl AsRef<Path>) -> Result<CommandConf, LoadError> {
    let path = path.as_ref();
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(CONF_LIMIT as u64 + 1).read_to_end(&mut text))
        .map_err(|source| LoadError::Read { path: path.into(), source })?;
    CommandConf::parse(&text).map_err(|source| LoadError::Parse { path: path.into(), source })
}

/// Why a configuration could not be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be opened or read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file's content cannot be used.
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: ConfError,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, .. } => write!(f, "cannot read {}", path.display()),
            Self::Parse { path, .. } => write!(f, "cannot use {}", path.display()),
        }
    }
}

impl core::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Parse { source, .. } => Some(source),
        }
    }
}
