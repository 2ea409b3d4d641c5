//! Opening the store's file: where it may lie, who may have it, which tables it has.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::sys::statfs::{self, FsType};
use rusqlite::{Connection, ErrorCode};

use super::super::StoreError;

/// Makes the directory where it is missing and locks the file beside the store until it is closed.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let failed = |operation, path: &Path, source| StoreError::File {
        operation,
        path: path.to_path_buf(),
        source,
    };
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| failed("make the directory", directory, source))?;
    refuse_network(path, directory)?;
    let lock_path = super::lock_path(path);
    let open = |path: &Path| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
    };
    let lock = open(&lock_path).map_err(|source| failed("open", &lock_path, source))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(path.to_path_buf())),
        Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path, source)),
    }
    // SQLite makes its other files with the mode of this one.
    open(path).map_err(|source| failed("open", path, source))?;
    Ok(lock)
}

/// SQLite's write-ahead log needs memory shared between processes: on a network file system it is damaged.
fn refuse_network(path: &Path, directory: &Path) -> Result<(), StoreError> {
    let facts = statfs::statfs(directory).map_err(|errno| StoreError::File {
        operation: "examine the file system of",
        path: directory.to_path_buf(),
        source: errno.into(),
    })?;
    match network_kind(facts.filesystem_type()) {
        Some(kind) => Err(StoreError::NetworkFileSystem { path: path.to_path_buf(), kind }),
        None => Ok(()),
    }
}

fn network_kind(kind: FsType) -> Option<&'static str> {
    NETWORK_FILE_SYSTEMS.iter().find(|(magic, _)| kind.0 == *magic).map(|(_, name)| *name)
}

/// Opens one connection.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let open = || {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    };
    open().map_err(|source| database_error("open the file", source))
}

/// Brings the tables to the present version.
pub(super) fn migrate(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |source| database_error("make the tables", source);
    let found: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let known = i64::try_from(SCHEMAS.len()).unwrap_or(i64::MAX);
    let missing = usize::try_from(found).ok().and_then(|found| SCHEMAS.get(found..));
    match missing {
        Some([]) => Ok(()),
        Some(steps) => {
            let steps = steps.concat();
            connection
                .execute_batch(&format!(
                    "BEGIN IMMEDIATE; {steps} PRAGMA user_version = {known}; COMMIT;"
                ))
                .map_err(failed)
        }
        None => Err(StoreError::Schema { path: path.to_path_buf(), found, known }),
    }
}

/// Tells a full disk from other errors.
pub(super) fn database_error(operation: &'static str, source: rusqlite::Error) -> StoreError {
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(source),
        _ => StoreError::Database { operation, source },
    }
}

/// What makes a file of each version from one of the version before; the first makes it from an empty file.
const SCHEMAS: &[&str] = &[FIRST_SCHEMA, LAYERS_SCHEMA, GIVERS_SCHEMA];

pub(super) const FIRST_SCHEMA: &str = "
    CREATE TABLE images (
        system TEXT NOT NULL, digest TEXT NOT NULL, owner INTEGER NOT NULL, public INTEGER NOT NULL,
        uids TEXT NOT NULL, gids TEXT NOT NULL, pulled_at REAL NOT NULL, pull_seconds REAL NOT NULL,
        content TEXT NOT NULL, PRIMARY KEY (system, digest)
    ) STRICT;
    CREATE TABLE tags (
        system TEXT NOT NULL, reference TEXT NOT NULL, digest TEXT NOT NULL, checked_at REAL NOT NULL,
        PRIMARY KEY (system, reference),
        FOREIGN KEY (system, digest) REFERENCES images (system, digest) ON DELETE CASCADE
    ) STRICT;
    CREATE INDEX tags_of_an_image ON tags (system, digest);
    CREATE TABLE pulls (
        system TEXT NOT NULL, reference TEXT NOT NULL, scope INTEGER NOT NULL, status TEXT NOT NULL,
        by_uid INTEGER NOT NULL, request TEXT NOT NULL, failure TEXT, began_at REAL NOT NULL,
        changed_at REAL NOT NULL, fence INTEGER NOT NULL,
        leased_until REAL NOT NULL, PRIMARY KEY (system, reference, scope)
    ) STRICT;
    CREATE TABLE gateway (alive_at REAL NOT NULL, fence INTEGER NOT NULL) STRICT;
    INSERT INTO gateway VALUES (0.0, 0);
";

/// Which images have which contents as layers; filled as images are recorded.
const LAYERS_SCHEMA: &str = "
    CREATE TABLE image_layers (
        system TEXT NOT NULL, diff_id TEXT NOT NULL, digest TEXT NOT NULL,
        PRIMARY KEY (system, diff_id, digest),
        FOREIGN KEY (system, digest) REFERENCES images (system, digest) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX layers_of_an_image ON image_layers (system, digest);
";

/// Who gave a tag; unknown of tags of earlier versions.
const GIVERS_SCHEMA: &str = "
    ALTER TABLE tags ADD COLUMN by_uid INTEGER;
";

/// Magic numbers from statfs(2), and those of Lustre, GPFS, Ceph, BeeGFS and WekaFS from their sources.
const NETWORK_FILE_SYSTEMS: &[(i64, &str)] = &[
    (0x6969, "NFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x00c3_6400, "Ceph"),
    (0x1983_0326, "BeeGFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x5346_414f, "AFS"),
    (0x0102_1997, "9P"),
    (0xaad7_aaea, "PanFS"),
    (0x2030_528d, "OrangeFS"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_by_their_numbers() {
        assert_eq!(network_kind(FsType(0x6969)), Some("NFS"));
        assert_eq!(network_kind(FsType(0x0bd0_0bd0)), Some("Lustre"));
        assert_eq!(network_kind(statfs::EXT4_SUPER_MAGIC), None);
    }
}
