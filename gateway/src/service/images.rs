//! Images that are there: finding, listing, inspecting and deleting them.

use std::sync::Arc;
use std::time::Duration;

use gateway_api::{Details, LayerDetail, Record, Removed};
use image_ref::{Digest, ImageRef, Kind};
use tracing::info;

use super::access::{Caller, Rights};
use super::error::ServiceError;
use super::record;
use crate::store::Store;
use crate::store::record::Image;
use crate::system::System;

/// What can be asked of images.
pub struct Images {
    store: Arc<dyn Store>,
    rights: Arc<Rights>,
}

impl Images {
    /// The images in this store.
    pub fn new(store: Arc<dyn Store>, rights: Arc<Rights>) -> Self {
        Self { store, rights }
    }

    /// What a reference stands for.
    ///
    /// # Errors
    /// [`ServiceError::NotFound`] also where the caller may not use it; [`ServiceError::FileGone`] where somebody
    /// has removed the file behind the gateway's back.
    pub async fn lookup(
        &self,
        system: &System,
        caller: &Caller,
        reference: &ImageRef,
    ) -> Result<Record, ServiceError> {
        Ok(record::of_image(&self.usable(system, caller, reference).await?))
    }

    /// Everything that is known of an image.
    ///
    /// # Errors
    /// As for [`Self::lookup`].
    pub async fn inspect(
        &self,
        system: &System,
        caller: &Caller,
        reference: &ImageRef,
    ) -> Result<Details, ServiceError> {
        let image = self.usable(system, caller, reference).await?;
        let record = record::of_image(&image);
        let content = image.content;
        Ok(Details {
            record,
            platform: content.platform,
            cmd: content.cmd,
            created: content.created,
            source: content.source,
            resolved_digest: content.resolved_digest,
            layers: content
                .layers
                .iter()
                .map(|layer| LayerDetail { digest: layer.digest, size: layer.size })
                .collect(),
            reused_layers: content.reused_layers,
            entries: content.entries,
            made_by: content.made_by,
        })
    }

    /// Every image of the system that the caller may use, the latest first. Does not look at the files.
    ///
    /// # Errors
    /// [`ServiceError::Store`].
    pub async fn list(
        &self,
        system: &System,
        caller: &Caller,
    ) -> Result<Vec<Record>, ServiceError> {
        let images = self.store.images(&system.name).await?;
        let usable = self.rights.usable(system, caller, images).await;
        Ok(usable.iter().map(record::of_image).collect())
    }

    /// Removes a reference, and with the last one the image. With `id:` the image goes with all its references.
    ///
    /// The image's owner and admins may do so, and of the name of an import also who gave it.
    ///
    /// # Errors
    /// [`ServiceError::NotOwner`] for an image that the caller may use but not delete; otherwise as for
    /// [`Self::lookup`].
    pub async fn remove(
        &self,
        system: &System,
        caller: &Caller,
        reference: &ImageRef,
    ) -> Result<Removed, ServiceError> {
        let image = self.visible(system, caller, reference).await?;
        let given = reference.kind() == Kind::Custom
            && image.tag(reference).and_then(|tag| tag.by) == Some(caller.uid);
        if image.owner != caller.uid && !given && !system.is_admin(caller.uid) {
            let reference = reference.clone();
            return Err(ServiceError::NotOwner { reference, owner: image.owner });
        }
        let removed = self.remove_unchecked(system, reference, image.digest).await?;
        info!(image.ref = %reference, image.digest = %removed.digest, caller.uid = caller.uid, "deleted {reference}");
        Ok(removed)
    }

    /// Removes the image behind a reference with all its references, for an admin: `Some(true)` done, `Some(false)`
    /// not an admin, `None` no such image.
    ///
    /// # Errors
    /// [`ServiceError::Store`] or [`ServiceError::ImageDir`].
    pub async fn expire(
        &self,
        system: &System,
        caller: &Caller,
        reference: &ImageRef,
    ) -> Result<Option<bool>, ServiceError> {
        if !system.is_admin(caller.uid) {
            return Ok(Some(false));
        }
        let Some(image) = self.store.image(&system.name, reference).await? else { return Ok(None) };
        let whole = ImageRef::from_digest(image.digest);
        match self.remove_unchecked(system, &whole, image.digest).await {
            Ok(_) => {
                info!(image.ref = %reference, image.digest = %image.digest, caller.uid = caller.uid, "expired {reference}");
                Ok(Some(true))
            }
            Err(ServiceError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Files before rows: a crash between the two leaves an image whose file is known to be gone, never a file that
    /// nobody knows of.
    ///
    /// `digest` is the image that the caller may delete: a reference that has moved to another one stays.
    async fn remove_unchecked(
        &self,
        system: &System,
        reference: &ImageRef,
        digest: Digest,
    ) -> Result<Removed, ServiceError> {
        let gone = || ServiceError::NotFound(reference.clone());
        let _lock = system.lock(&digest).await;
        // Under the lock once more: a pull may have moved the reference.
        let found = self.store.image(&system.name, reference).await?;
        let image = found.filter(|image| image.digest == digest).ok_or_else(gone)?;
        let last = reference.kind() == Kind::Id || image.tags.len() <= 1;
        let (dir, tags, named) = (Arc::clone(&system.dir), image.tags, reference.clone());
        tokio::task::spawn_blocking(move || {
            for tag in tags.iter().filter(|tag| last || tag.reference == named) {
                dir.unlink_from(&tag.reference, &digest)?;
            }
            if last { dir.remove(&digest) } else { Ok(()) }
        })
        .await??;
        // A pull of another image, under another lock, may have moved the reference even now.
        let Some(left) = self.store.remove(&system.name, reference, &digest).await? else {
            if last {
                let whole = ImageRef::from_digest(digest);
                self.store.remove(&system.name, &whole, &digest).await?;
            }
            return Err(gone());
        };
        let remaining = left.tags.iter().map(|tag| tag.reference.to_string()).collect();
        Ok(Removed { tag: reference.to_string(), digest, remaining })
    }

    /// An image that the caller may use and whose file is there.
    pub(super) async fn usable(
        &self,
        system: &System,
        caller: &Caller,
        reference: &ImageRef,
    ) -> Result<Image, ServiceError> {
        let image = self.visible(system, caller, reference).await?;
        let (dir, digest, size) = (Arc::clone(&system.dir), image.digest, image.content.size);
        if answer(PATIENCE, move || dir.holds(&digest, size)).await?? {
            Ok(image)
        } else {
            Err(ServiceError::FileGone(reference.clone()))
        }
    }

    async fn visible(
        &self,
        system: &System,
        caller: &Caller,
        reference: &ImageRef,
    ) -> Result<Image, ServiceError> {
        match self.store.image(&system.name, reference).await? {
            Some(image) if self.rights.may_use(system, caller, &image).await => Ok(image),
            _ => Err(ServiceError::NotFound(reference.clone())),
        }
    }
}

/// Asks the file system on a thread that may hang, without hanging with it.
async fn answer<T: Send + 'static>(
    patience: Duration,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServiceError> {
    match tokio::time::timeout(patience, tokio::task::spawn_blocking(ask)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ServiceError::Silent { seconds: patience.as_secs() }),
    }
}

/// How long the image directory may take to say whether a file is there.
const PATIENCE: Duration = Duration::from_secs(5);

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_system_that_hangs_does_not_hang_its_caller() {
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let asked = answer(Duration::from_millis(10), move || hold.recv().is_err()).await;
        assert!(matches!(asked, Err(ServiceError::Silent { .. })), "{asked:?}");
        drop(release);
        assert!(answer(PATIENCE, || true).await.unwrap());
    }
}
