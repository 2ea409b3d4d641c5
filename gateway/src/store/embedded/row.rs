//! Rows of the embedded store, read into the domain's types and written from them.

use gateway_api::{ErrorBody, Status};
use image_ref::{Access, Digest, ImageRef};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::StoreError;
use super::super::record::{Content, Grant, Image, Moment, Pull, PullKey, Scope, Tag};
use super::Failure;
use crate::config::SystemName;

const IMAGE_COLUMNS: &str = "SELECT system, digest, owner, public, uids, gids, pulled_at, pull_seconds, content FROM images";

pub(super) fn image(
    db: &Connection,
    system: &SystemName,
    digest: &Digest,
) -> Result<Option<Image>, Failure> {
    let found = db
        .prepare_cached(&format!("{IMAGE_COLUMNS} WHERE system = ?1 AND digest = ?2"))?
        .query_row(params![system.as_str(), digest.to_string()], |row| Ok(parse_image(row)))
        .optional()?;
    let Some(mut image) = found.transpose()? else { return Ok(None) };
    let mut select = db.prepare_cached(
        "SELECT reference, checked_at, digest, by_uid FROM tags WHERE system = ?1 AND digest = ?2 ORDER BY reference",
    )?;
    let tags =
        select.query_map(params![system.as_str(), digest.to_string()], |row| Ok(parse_tag(row)))?;
    for tag in tags {
        image.tags.push(tag??.1);
    }
    Ok(Some(image))
}

pub(super) fn images(db: &Connection, system: &SystemName) -> Result<Vec<Image>, Failure> {
    let mut select = db.prepare_cached(&format!(
        "{IMAGE_COLUMNS} WHERE system = ?1 ORDER BY pulled_at DESC, digest"
    ))?;
    let rows = select.query_map([system.as_str()], |row| Ok(parse_image(row)))?;
    let images = rows.map(|row| row?).collect::<Result<Vec<Image>, Failure>>()?;
    with_tags(db, system, images)
}

pub(super) fn images_with_layers(
    db: &Connection,
    system: &SystemName,
    diff_ids: &[Digest],
) -> Result<Vec<Image>, Failure> {
    let mut select = db.prepare_cached(&format!(
        "{IMAGE_COLUMNS} WHERE system = ?1 AND digest IN (
             SELECT digest FROM image_layers
             WHERE system = ?1 AND diff_id IN (SELECT value FROM json_each(?2)))
         ORDER BY pulled_at DESC, digest"
    ))?;
    let diff_ids = to_json("list of digests", diff_ids)?;
    let rows = select.query_map(params![system.as_str(), diff_ids], |row| Ok(parse_image(row)))?;
    let images = rows.map(|row| row?).collect::<Result<Vec<Image>, Failure>>()?;
    with_tags(db, system, images)
}

/// Adds to images of one system what they are called.
fn with_tags(
    db: &Connection,
    system: &SystemName,
    mut images: Vec<Image>,
) -> Result<Vec<Image>, Failure> {
    let mut places = std::collections::HashMap::new();
    for (place, image) in images.iter().enumerate() {
        places.insert(image.digest, place);
    }
    let mut select = db.prepare_cached(
        "SELECT reference, checked_at, digest, by_uid FROM tags WHERE system = ?1 ORDER BY reference",
    )?;
    for tag in select.query_map([system.as_str()], |row| Ok(parse_tag(row)))? {
        let (digest, tag) = tag??;
        if let Some(image) = places.get(&digest).and_then(|place| images.get_mut(*place)) {
            image.tags.push(tag);
        }
    }
    Ok(images)
}

/// The digest that a reference stands for.
pub(super) fn tagged(
    db: &Connection,
    system: &SystemName,
    reference: &ImageRef,
) -> rusqlite::Result<Result<Digest, Failure>> {
    db.prepare_cached("SELECT digest FROM tags WHERE system = ?1 AND reference = ?2")?
        .query_row(params![system.as_str(), reference.to_string()], |row| {
            Ok(parse_text::<Digest>("digest", row.get(0)?))
        })
}

pub(super) fn put_image(db: &Connection, image: &Image) -> Result<(), Failure> {
    let (public, uids, gids) = match &image.access {
        Access::Public => (true, &[][..], &[][..]),
        Access::Listed { uids, gids } => (false, &uids[..], &gids[..]),
    };
    db.execute(
        "INSERT INTO images (system, digest, owner, public, uids, gids, pulled_at, pull_seconds, content)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (system, digest) DO UPDATE SET owner = ?3, public = ?4, uids = ?5, gids = ?6, pulled_at = ?7,
             pull_seconds = ?8, content = ?9",
        params![
            image.system.as_str(),
            image.digest.to_string(),
            image.owner,
            public,
            to_json("access list", uids)?,
            to_json("access list", gids)?,
            image.pulled_at.0,
            image.pull_seconds,
            to_json("image content", &image.content)?
        ],
    )?;
    put_layers(db, image)
}

/// Records the contents of an image's layers in place of those that were recorded, to be found by.
fn put_layers(db: &Connection, image: &Image) -> Result<(), Failure> {
    let (system, digest) = (image.system.as_str(), image.digest.to_string());
    db.execute(
        "DELETE FROM image_layers WHERE system = ?1 AND digest = ?2",
        params![system, digest],
    )?;
    let mut insert = db.prepare_cached(
        "INSERT OR IGNORE INTO image_layers (system, diff_id, digest) VALUES (?1, ?2, ?3)",
    )?;
    for diff_id in image.content.layers.iter().filter_map(|layer| layer.diff_id) {
        insert.execute(params![system, diff_id.to_string(), digest])?;
    }
    Ok(())
}

pub(super) fn put_tag(
    db: &Connection,
    system: &SystemName,
    reference: &ImageRef,
    digest: &Digest,
    checked_at: Moment,
    by: u32,
) -> Result<(), Failure> {
    db.execute(
        "INSERT INTO tags (system, reference, digest, checked_at, by_uid) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (system, reference) DO UPDATE SET digest = ?3, checked_at = ?4, by_uid = ?5",
        params![system.as_str(), reference.to_string(), digest.to_string(), checked_at.0, by],
    )?;
    Ok(())
}

pub(super) fn remove_tag(
    db: &Connection,
    system: &SystemName,
    reference: &ImageRef,
) -> Result<(), Failure> {
    db.execute(
        "DELETE FROM tags WHERE system = ?1 AND reference = ?2",
        params![system.as_str(), reference.to_string()],
    )?;
    Ok(())
}

/// Removes an image; its tags and layers go with it by the foreign keys.
pub(super) fn remove_image(
    db: &Connection,
    system: &SystemName,
    digest: &Digest,
) -> Result<(), Failure> {
    db.execute(
        "DELETE FROM images WHERE system = ?1 AND digest = ?2",
        params![system.as_str(), digest.to_string()],
    )?;
    Ok(())
}

const PULL_COLUMNS: &str = "SELECT system, reference, scope, status, request, failure, began_at, changed_at, fence, leased_until FROM pulls";

/// Whose a pull is: see `Ticket`.
pub(super) struct Held {
    pub(super) fence: i64,
    pub(super) leased_until: f64,
}

pub(super) fn pull(db: &Connection, key: &PullKey) -> Result<Option<(Pull, Held)>, Failure> {
    let found = db
        .prepare_cached(&format!(
            "{PULL_COLUMNS} WHERE system = ?1 AND reference = ?2 AND scope = ?3"
        ))?
        .query_row(
            params![key.system.as_str(), key.reference.to_string(), scope_number(key.scope)],
            |row| Ok(parse_pull(row)),
        )
        .optional()?;
    found.transpose()
}

/// Every pull of a system, or of all, with whose it is; the oldest first.
pub(super) fn pulls(
    db: &Connection,
    system: Option<&SystemName>,
) -> Result<Vec<(Pull, Held)>, Failure> {
    let mut select = db.prepare_cached(&format!(
        "{PULL_COLUMNS} WHERE ?1 IS NULL OR system = ?1 ORDER BY began_at, reference"
    ))?;
    let rows = select.query_map([system.map(SystemName::as_str)], |row| Ok(parse_pull(row)))?;
    rows.map(|row| row?).collect()
}

/// User ids are not negative, so that -1 can stand for no user.
pub(super) fn scope_number(scope: Scope) -> i64 {
    match scope {
        Scope::Anonymous => -1,
        Scope::User(uid) => i64::from(uid),
    }
}

fn parse_scope(number: i64) -> Result<Scope, Failure> {
    match u32::try_from(number) {
        Ok(uid) => Ok(Scope::User(uid)),
        Err(_) if number == -1 => Ok(Scope::Anonymous),
        Err(_) => Err(damaged("scope", number.to_string())),
    }
}

fn parse_image(row: &Row<'_>) -> Result<Image, Failure> {
    let access = if row.get(3)? {
        Access::Public
    } else {
        Access::Listed {
            uids: from_json("access list", &row.get::<_, String>(4)?)?,
            gids: from_json("access list", &row.get::<_, String>(5)?)?,
        }
    };
    Ok(Image {
        system: parse_system(row.get(0)?)?,
        digest: parse_text("digest", row.get(1)?)?,
        tags: Vec::new(),
        owner: row.get(2)?,
        access,
        pulled_at: Moment(row.get(6)?),
        pull_seconds: row.get(7)?,
        content: from_json::<Content>("image content", &row.get::<_, String>(8)?)?,
    })
}

fn parse_tag(row: &Row<'_>) -> Result<(Digest, Tag), Failure> {
    let tag = Tag {
        reference: parse_text("reference", row.get(0)?)?,
        checked_at: Moment(row.get(1)?),
        by: row.get(3)?,
    };
    Ok((parse_text("digest", row.get(2)?)?, tag))
}

fn parse_pull(row: &Row<'_>) -> Result<(Pull, Held), Failure> {
    let status: String = row.get(3)?;
    let failure: Option<String> = row.get(5)?;
    let pull = Pull {
        key: PullKey {
            system: parse_system(row.get(0)?)?,
            reference: parse_text("reference", row.get(1)?)?,
            scope: parse_scope(row.get(2)?)?,
        },
        status: Status::from_word(&status).ok_or_else(|| damaged("status", status))?,
        grant: from_json::<Grant>("pull request", &row.get::<_, String>(4)?)?,
        began_at: Moment(row.get(6)?),
        changed_at: Moment(row.get(7)?),
        failure: failure.map(|text| from_json::<ErrorBody>("failure", &text)).transpose()?,
    };
    Ok((pull, Held { fence: row.get(8)?, leased_until: row.get(9)? }))
}

fn parse_system(name: String) -> Result<SystemName, Failure> {
    SystemName::try_from(name).map_err(|why| damaged("system", why))
}

fn parse_text<T: std::str::FromStr>(what: &'static str, text: String) -> Result<T, Failure> {
    text.parse().map_err(|_| damaged(what, text))
}

pub(super) fn to_json<T: Serialize + ?Sized>(
    what: &'static str,
    value: &T,
) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| damaged(what, error.to_string()))
}

fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| damaged(what, error.to_string()))
}

fn damaged(what: &'static str, value: String) -> Failure {
    Failure::Store(StoreError::Damaged { what, value })
}
