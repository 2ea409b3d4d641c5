//! What an import says it is, and what it takes to believe it.
//!
//! Its digest comes from a converter that may be in the hands of whoever made the file. Nobody gets into an image by it, and
//! no image gets into the hands of those who may use the import, unless the bytes are the same.

use std::io::Read;
use std::sync::Arc;

use image_ref::ImageRef;
use tracing::warn;

use super::blocking;
use super::error::PullError;
use crate::image_dir::Partial;
use crate::store::Store;
use crate::store::record::{Grant, Image};
use crate::system::System;

/// Tells whether an importer must show that they have the image, to get it or to open it to others.
///
/// A plan shows no more than that its converter has seen the digest, which may be in the hands of whoever made the file,
/// and of that file's importer no friend.
pub(super) fn needs_proof(image: &Image, grant: &Grant) -> bool {
    let own = grant.admin || image.owner == grant.by;
    let widens = grant.public || !grant.uids.is_empty() || !grant.gids.is_empty();
    image.is_private() && (widens || !(own || image.admits(grant.by, &[])))
}

/// Settles with an import that calls itself by the digest of an image that was just pulled into `out`; tells whether its
/// file is the image's already. The caller holds the image's lock.
///
/// One with the same bytes becomes the pulled image. Any other is removed with its names: who may use it, because its
/// converter said so, must not therefore use what somebody's login got from a registry.
pub(super) async fn is_settled(
    store: &dyn Store,
    system: &System,
    pulled: &Image,
    out: &Partial,
) -> Result<bool, PullError> {
    let by_digest = ImageRef::from_digest(pulled.digest);
    let there = store.image(&system.name, &by_digest).await?;
    let Some(there) = there.filter(|image| image.content.is_imported()) else { return Ok(false) };
    if has_bytes_of(system, &there, &pulled.content.made_with, out).await? {
        store.describe(&system.name, &there.digest, &pulled.content).await?;
        return Ok(true);
    }
    warn!(image.digest = %there.digest, caller.uid = there.owner, "removes an import that is not what a registry has under this digest");
    let (dir, digest) = (Arc::clone(&system.dir), there.digest);
    blocking(move || {
        let mut tags = there.tags.iter();
        tags.try_for_each(|tag| Ok(dir.unlink_from(&tag.reference, &digest)?))
    })
    .await?;
    store.remove(&system.name, &by_digest, &digest).await?;
    Ok(false)
}

/// Tells whether a file that was just made with these options is the same as that of an image.
pub(super) async fn has_bytes_of(
    system: &System,
    image: &Image,
    made_with: &str,
    out: &Partial,
) -> Result<bool, PullError> {
    if image.content.made_with != made_with {
        return Ok(false);
    }
    let (dir, digest, size) = (Arc::clone(&system.dir), image.digest, image.content.size);
    let made = out.reader()?;
    blocking(move || {
        let published = dir.open_image(&digest, size)?;
        Ok(published.is_some_and(|published| same_bytes(published, made)))
    })
    .await
}

fn same_bytes(mut one: impl Read, mut other: impl Read) -> bool {
    let (mut left, mut right) = (vec![0; COMPARED], vec![0; COMPARED]);
    let fill = |input: &mut dyn Read, space: &mut Vec<u8>| {
        space.clear();
        input.take(COMPARED as u64).read_to_end(space).is_ok()
    };
    loop {
        if !fill(&mut one, &mut left) || !fill(&mut other, &mut right) || left != right {
            return false;
        }
        if left.is_empty() {
            return true;
        }
    }
}

const COMPARED: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::io::Write;
    use std::time::Duration;

    use image_ref::{Access, Digest};
    use tempfile::TempDir;

    use crate::config::{self, SystemName};
    use crate::pull::sidecar;
    use crate::store::Claim;
    use crate::store::embedded::Embedded;
    use crate::store::record::{Content, Moment, PullKey, Scope};

    const ALICE: u32 = 1;
    const BOB: u32 = 2;

    fn grant(by: u32, public: bool) -> Grant {
        Grant { by, admin: false, public, uids: BTreeSet::new(), gids: BTreeSet::new() }
    }

    fn image(owner: u32, source: &str) -> Image {
        let content = Content { source: source.into(), size: 4, ..Content::default() };
        Image {
            system: SystemName::try_from("c1".to_string()).unwrap(),
            digest: Digest::from_bytes([7; 32]),
            tags: vec![],
            owner,
            access: grant(owner, false).first_access(),
            pulled_at: Moment(0.0),
            pull_seconds: 0.0,
            content,
        }
    }

    #[test]
    fn who_has_a_private_image_already_proves_only_what_opens_it() {
        let image = image(ALICE, "reg/app");
        let listed = |by| Grant { uids: [BOB].into(), ..grant(by, false) };
        assert!(!needs_proof(&image, &grant(ALICE, false)));
        assert!(needs_proof(&image, &grant(BOB, false)));
        assert!(!needs_proof(&image, &Grant { admin: true, ..grant(BOB, false) }));
        for opens in [grant(ALICE, true), listed(ALICE), Grant { admin: true, ..listed(BOB) }] {
            assert!(needs_proof(&image, &opens), "{opens:?}");
            let public = Image { access: Access::Public, ..image.clone() };
            assert!(!needs_proof(&public, &opens));
        }
    }

    /// A system and store with an import of Alice's, which calls itself by the digest of the image that Bob has pulled.
    async fn site(imported: &[u8]) -> (TempDir, System, Embedded, Image) {
        let root = tempfile::tempdir().unwrap();
        let images = root.path().join("images");
        std::fs::create_dir(&images).unwrap();
        let text = format!(r#"{{ "local": {{ "imageDir": {images:?} }} }}"#);
        let platform: config::Platform = serde_json::from_str(&text).unwrap();
        let import = image(ALICE, &Content::imported_from("oci-layout"));
        let (system, _) = System::open(&import.system, &platform).unwrap();
        let store = Embedded::open(&root.path().join("store.sqlite")).unwrap();
        let file = partial(&system, imported);
        system.dir.publish(&file, &sidecar(&import)).unwrap();
        let reference: ImageRef = "custom:app:1".parse().unwrap();
        system.dir.link(&reference, &import.digest).unwrap();
        let key = PullKey { system: system.name.clone(), reference, scope: Scope::User(ALICE) };
        let claim = store.claim(&key, &grant(ALICE, false), Duration::from_secs(60)).await;
        let Claim::Won(ticket) = claim.unwrap() else { panic!() };
        store.complete(&ticket, &import, &grant(ALICE, false)).await.unwrap();
        (root, system, store, image(BOB, "reg/app"))
    }

    fn partial(system: &System, bytes: &[u8]) -> Partial {
        let partial = system.dir.partial().unwrap();
        partial.file().write_all(bytes).unwrap();
        partial
    }

    #[tokio::test]
    async fn an_import_that_only_says_it_is_a_pulled_image_is_removed_and_lets_nobody_in() {
        let (root, system, store, pulled) = site(b"junk").await;
        let out = partial(&system, b"real");
        assert!(!is_settled(&store, &system, &pulled, &out).await.unwrap());
        assert_eq!(store.images(&system.name).await.unwrap(), []);
        assert!(!root.path().join("images/names/custom%3Aapp%3A1").is_symlink());
        assert!(!is_settled(&store, &system, &pulled, &out).await.unwrap(), "there is none now");
    }

    #[tokio::test]
    async fn an_import_with_the_same_bytes_becomes_the_pulled_image_and_stays_its_importers() {
        let (_root, system, store, pulled) = site(b"real").await;
        let out = partial(&system, b"real");
        assert!(is_settled(&store, &system, &pulled, &out).await.unwrap());
        let known = store.images(&system.name).await.unwrap().remove(0);
        assert!(known.admits(ALICE, &[]) && !known.admits(BOB, &[]));
        assert_eq!((known.owner, known.tags.len(), known.content), (ALICE, 1, pulled.content));
        assert!(has_bytes_of(&system, &image(BOB, "reg/app"), "", &out).await.unwrap());
        assert!(!has_bytes_of(&system, &image(BOB, "reg/app"), "gzip:9", &out).await.unwrap());
    }
}
