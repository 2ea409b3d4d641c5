//! The embedded store: one SQLite file on a local disk, for one gateway.
//!
//! Write-ahead log with full synchronisation, so that what was acknowledged survives a power cut. One connection
//! writes, one reads, both on blocking threads. A lock file keeps a second gateway out.

mod file;
mod row;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use gateway_api::{ErrorBody, Status};
use image_ref::{Digest, ImageRef, Kind, Version};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::record::{Content, Grant, Image, Moment, Pull, PullKey, Ticket};
use super::{Claim, FAILURE_KEPT, Store, StoreError};
use crate::config::SystemName;

/// A store in one file.
#[derive(Debug)]
pub struct Embedded {
    reader: Arc<Mutex<Connection>>,
    writer: Arc<Mutex<Connection>>,
    /// Held open: closing it would let another gateway in.
    _lock: std::fs::File,
}

impl Embedded {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`StoreError`]: on a network file system, beside another gateway, or with a file of a later version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = file::lock(path)?;
        let writer = file::connect(path)?;
        file::migrate(&writer, path)?;
        let reader = file::connect(path)?;
        Ok(Self {
            reader: Arc::new(Mutex::new(reader)),
            writer: Arc::new(Mutex::new(writer)),
            _lock: lock,
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = Arc::clone(&self.reader);
        on_thread(operation, move || {
            // A panic in an earlier read leaves nothing half done: SQLite rolls back.
            let connection = reader.lock().unwrap_or_else(PoisonError::into_inner);
            work(&connection)
        })
        .await
    }

    async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let writer = Arc::clone(&self.writer);
        on_thread(operation, move || {
            let mut connection = writer.lock().unwrap_or_else(PoisonError::into_inner);
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&change)?;
            change.commit()?;
            Ok(result)
        })
        .await
    }
}

/// What can go wrong within one operation.
enum Failure {
    Sql(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

async fn on_thread<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Failure::Store(error))) => Err(error),
        Ok(Err(Failure::Sql(error))) => Err(file::database_error(operation, error)),
        Err(_) => Err(StoreError::Thread(operation)),
    }
}

#[async_trait]
impl Store for Embedded {
    async fn image(
        &self,
        system: &SystemName,
        reference: &ImageRef,
    ) -> Result<Option<Image>, StoreError> {
        let (system, reference) = (system.clone(), reference.clone());
        self.read("find an image", move |db| find(db, &system, &reference)).await
    }

    async fn images(&self, system: &SystemName) -> Result<Vec<Image>, StoreError> {
        let system = system.clone();
        self.read("list images", move |db| row::images(db, &system)).await
    }

    async fn images_with_layers(
        &self,
        system: &SystemName,
        diff_ids: &[Digest],
    ) -> Result<Vec<Image>, StoreError> {
        let (system, diff_ids) = (system.clone(), diff_ids.to_vec());
        self.read("find images by their layers", move |db| {
            row::images_with_layers(db, &system, &diff_ids)
        })
        .await
    }

    async fn claim(
        &self,
        key: &PullKey,
        grant: &Grant,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        let (key, grant) = (key.clone(), grant.clone());
        self.write("begin a pull", move |db| {
            let now = Moment::now().0;
            match row::pull(db, &key)? {
                Some((pull, held)) if pull.status.is_running() && held.leased_until > now => {
                    return Ok(Claim::Running(pull));
                }
                _ => {}
            }
            let fence = next_fence(db)?;
            db.execute(
                "INSERT INTO pulls (system, reference, scope, status, by_uid, request, began_at, changed_at, fence, leased_until)
                 VALUES (?1, ?2, ?3, 'INIT', ?4, ?5, ?6, ?6, ?7, ?8)
                 ON CONFLICT (system, reference, scope) DO UPDATE SET status = 'INIT', by_uid = ?4, request = ?5,
                     failure = NULL, began_at = ?6, changed_at = ?6, fence = ?7, leased_until = ?8",
                params![
                    key.system.as_str(),
                    key.reference.to_string(),
                    row::scope_number(key.scope),
                    grant.by,
                    row::to_json("pull request", &grant)?,
                    now,
                    fence,
                    now + lease.as_secs_f64()
                ],
            )?;
            Ok(Claim::Won(Ticket { key, fence }))
        })
        .await
    }

    async fn advance(
        &self,
        ticket: &Ticket,
        status: Status,
        lease: Duration,
    ) -> Result<(), StoreError> {
        let ticket = ticket.clone();
        self.write("record a pull's progress", move |db| {
            let now = Moment::now().0;
            let changed = db.execute(
                "UPDATE pulls SET status = ?5, changed_at = ?6, leased_until = ?7
                 WHERE system = ?1 AND reference = ?2 AND scope = ?3 AND fence = ?4 AND status <> 'FAILURE'",
                params![
                    ticket.key.system.as_str(),
                    ticket.key.reference.to_string(),
                    row::scope_number(ticket.key.scope),
                    ticket.fence,
                    status.as_str(),
                    now,
                    now + lease.as_secs_f64()
                ],
            )?;
            held(changed, &ticket)
        })
        .await
    }

    async fn complete(
        &self,
        ticket: &Ticket,
        image: &Image,
        grant: &Grant,
    ) -> Result<Image, StoreError> {
        let (ticket, image, grant) = (ticket.clone(), image.clone(), grant.clone());
        self.write("record an image", move |db| {
            let ended = db.execute(
                "DELETE FROM pulls
                 WHERE system = ?1 AND reference = ?2 AND scope = ?3 AND fence = ?4 AND status <> 'FAILURE'",
                params![
                    ticket.key.system.as_str(),
                    ticket.key.reference.to_string(),
                    row::scope_number(ticket.key.scope),
                    ticket.fence
                ],
            )?;
            held(ended, &ticket)?;
            let system = image.system.clone();
            let known = row::image(db, &system, &image.digest)?;
            let merged = Image::after_pull(known, &image, &grant);
            let now = Moment::now();
            row::put_image(db, &Image { pulled_at: now, ..merged.clone() })?;
            row::put_tag(db, &system, &ticket.key.reference, &merged.digest, now, grant.by)?;
            row::image(db, &system, &merged.digest)?.ok_or_else(|| {
                StoreError::Damaged { what: "image", value: merged.digest.to_string() }.into()
            })
        })
        .await
    }

    async fn fail(&self, ticket: &Ticket, failure: &ErrorBody) -> Result<(), StoreError> {
        let (ticket, failure) = (ticket.clone(), failure.clone());
        self.write("record a failed pull", move |db| {
            let changed = db.execute(
                "UPDATE pulls SET status = 'FAILURE', failure = ?5, changed_at = ?6
                 WHERE system = ?1 AND reference = ?2 AND scope = ?3 AND fence = ?4 AND status <> 'FAILURE'",
                params![
                    ticket.key.system.as_str(),
                    ticket.key.reference.to_string(),
                    row::scope_number(ticket.key.scope),
                    ticket.fence,
                    row::to_json("failure", &failure)?,
                    Moment::now().0
                ],
            )?;
            db.execute(
                "DELETE FROM pulls WHERE status = 'FAILURE' AND changed_at < ?1",
                [Moment::now().0 - FAILURE_KEPT],
            )?;
            held(changed, &ticket)
        })
        .await
    }

    async fn pulls(&self, system: &SystemName) -> Result<Vec<Pull>, StoreError> {
        let system = system.clone();
        self.read("list pulls", move |db| {
            let recent = Moment::now().0 - FAILURE_KEPT;
            let found = row::pulls(db, Some(&system))?;
            Ok(found
                .into_iter()
                .map(|(pull, _)| pull)
                .filter(|pull| pull.status.is_running() || pull.changed_at.0 >= recent)
                .collect())
        })
        .await
    }

    async fn take_over(&self, lease: Duration) -> Result<Vec<(Ticket, Pull)>, StoreError> {
        self.write("take over pulls", move |db| {
            let fence = next_fence(db)?;
            // One gateway has the file, and it has just started: whatever runs has no worker.
            db.execute(
                "UPDATE pulls SET status = 'INIT', fence = ?1, leased_until = ?2 WHERE status <> 'FAILURE'",
                params![fence, Moment::now().0 + lease.as_secs_f64()],
            )?;
            let found = row::pulls(db, None)?;
            Ok(found
                .into_iter()
                .filter(|(pull, _)| pull.status.is_running())
                .map(|(pull, held)| (Ticket { key: pull.key.clone(), fence: held.fence }, pull))
                .collect())
        })
        .await
    }

    async fn describe(
        &self,
        system: &SystemName,
        digest: &Digest,
        content: &Content,
    ) -> Result<(), StoreError> {
        let (system, digest, content) = (system.clone(), *digest, content.clone());
        self.write("describe an image", move |db| match row::image(db, &system, &digest)? {
            Some(image) => row::put_image(db, &Image { content, ..image }),
            None => Ok(()),
        })
        .await
    }

    async fn remove(
        &self,
        system: &SystemName,
        reference: &ImageRef,
        digest: &Digest,
    ) -> Result<Option<Image>, StoreError> {
        let (system, reference, digest) = (system.clone(), reference.clone(), *digest);
        self.write("remove an image", move |db| {
            let found = find(db, &system, &reference)?;
            let Some(mut image) = found.filter(|image| image.digest == digest) else {
                return Ok(None);
            };
            if reference.kind() == Kind::Id {
                image.tags.clear();
            } else {
                image.tags.retain(|tag| tag.reference != reference);
                row::remove_tag(db, &system, &reference)?;
            }
            if image.tags.is_empty() {
                row::remove_image(db, &system, &image.digest)?;
            }
            Ok(Some(image))
        })
        .await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.write("check", |db| {
            db.execute("UPDATE gateway SET alive_at = ?1", [Moment::now().0])?;
            Ok(())
        })
        .await
    }
}

fn find(
    db: &Connection,
    system: &SystemName,
    reference: &ImageRef,
) -> Result<Option<Image>, Failure> {
    let digest = match (reference.kind(), reference.version()) {
        (Kind::Id, Version::Digest(digest)) => Some(*digest),
        _ => row::tagged(db, system, reference).optional()?.transpose()?,
    };
    digest.map_or(Ok(None), |digest| row::image(db, system, &digest))
}

/// A number that no claim had before, of whatever pull: an ended pull's ticket never fits a later one.
fn next_fence(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("UPDATE gateway SET fence = fence + 1 RETURNING fence", [], |row| row.get(0))
}

/// An update that changed nothing was somebody else's to make.
fn held(changed: usize, ticket: &Ticket) -> Result<(), Failure> {
    if changed == 1 { Ok(()) } else { Err(StoreError::Lost(ticket.key.reference.clone()).into()) }
}

/// The file beside the store that its gateway holds a lock on.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    #[tokio::test]
    async fn the_embedded_store_conforms() {
        let dir = tempfile::tempdir().unwrap();
        conformance::all(async |name| {
            Box::new(Embedded::open(&dir.path().join(name)).unwrap()) as Box<dyn Store>
        })
        .await;
    }

    #[tokio::test]
    async fn a_second_gateway_is_kept_out_and_let_in_after_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let first = Embedded::open(&path).unwrap();
        assert!(matches!(Embedded::open(&path), Err(StoreError::InUse(_))));
        drop(first);
        Embedded::open(&path).unwrap().check().await.unwrap();
    }

    #[test]
    fn a_file_of_a_later_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        drop(Embedded::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(Embedded::open(&path), Err(StoreError::Schema { found: 99, .. })));
    }

    #[tokio::test]
    async fn a_file_of_the_first_version_is_brought_up_to_date_with_all_that_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let (system, digest) = (SystemName::try_from("c1".to_string()).unwrap(), [7; 32]);
        let digest = Digest::from_bytes(digest);
        let old = Connection::open(&path).unwrap();
        old.execute_batch(file::FIRST_SCHEMA).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        let content = format!(
            r#"{{"env":[],"entrypoint":[],"cmd":[],"workdir":"","labels":{{}},"created":null,"platform":"linux/amd64",
                "source":"reg/app","resolved_digest":null,"layers":[{{"digest":"{digest}","size":9}}],"entries":1,
                "size":4096,"made_by":"gantry"}}"#
        );
        old.execute(
            "INSERT INTO images VALUES ('c1', ?1, 1000, 1, '[]', '[]', 5.0, 1.0, ?2)",
            params![digest.to_string(), content],
        )
        .unwrap();
        drop(old);
        for _ in 0..2 {
            let store = Embedded::open(&path).unwrap();
            let kept = store.images(&system).await.unwrap();
            assert_eq!((kept.len(), kept[0].content.layers[0].diff_id), (1, None));
            let by_layer = store.images_with_layers(&system, &[digest]).await.unwrap();
            assert_eq!(by_layer, [], "what its layers hold was not recorded");
        }
    }

    #[test]
    fn others_cannot_read_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let _store = Embedded::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
