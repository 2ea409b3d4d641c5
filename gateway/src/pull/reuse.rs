//! Which published images a new one may take layers from.
//!
//! A digest is a name, not a permission: who has a digest from somewhere must not get by it what their registry would
//! not give them. So it is decided here, from the store and the registry, before any file is opened. No reading of
//! images, and never an error: what cannot be used is read from the registry instead.

use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;

use futures_util::StreamExt;
use image_ref::{Access, Digest};
use oci_registry::Descriptor;
use tracing::{debug, warn};

use super::Found;
use super::error::chain;
use crate::config::Conversion;
use crate::store::Store;
use crate::store::record::{Grant, Image, Layer};
use crate::system::System;

/// The images of a system that have layers of an image to be made, the latest first, whoever may use them.
///
/// Only those that were made with the same options: of others no layer fits. None where the site wants no reuse.
pub(crate) async fn candidates(
    store: &dyn Store,
    system: &System,
    layers: &[Layer],
    conversion: &Conversion,
) -> Vec<Image> {
    if !conversion.reuse {
        return Vec::new();
    }
    let contents: Vec<Digest> = layers.iter().filter_map(|layer| layer.diff_id).collect();
    let mut images =
        store.images_with_layers(&system.name, &contents).await.unwrap_or_else(|error| {
            warn!("cannot look for images that have the same layers: {}", chain(&error));
            Vec::new()
        });
    let made_with = conversion.to_string();
    images.retain(|image| image.content.made_with == made_with);
    images
}

/// Opens the images that a pull may take layers from.
///
/// These are public ones, and private ones that came from the same registry: from the same repository, or such that the
/// caller may use. Of the latter the registry must give the caller each layer that would be taken; of one that is not
/// theirs to use, every layer that it has, because the converter gets the whole file. Asking that also tells whether the
/// caller's login is needed, and with it whether the new image is private. For one that is going to be public no private
/// image is offered: a converter in foreign hands could copy anything of it.
///
/// A private image of another registry is never offered, though the caller may use it: a registry that pretends to have
/// its layers would have them published under a manifest of its own.
pub(crate) async fn for_pull(
    store: &dyn Store,
    system: &System,
    found: &Found,
    grant: &Grant,
    layers: &[Layer],
    conversion: &Conversion,
) -> Vec<File> {
    let mut images = candidates(store, system, layers, conversion).await;
    // What an import says of its layers nobody but its converter has seen.
    images.retain(|image| !image.content.is_imported());
    images.retain(|image| !image.is_private() || is_offered(image, found, grant));
    let mut images = choose(images, layers);
    let private = images.iter().filter(|image| image.is_private());
    let asked = private.flat_map(|image| to_be_readable(image, grant, layers)).collect();
    let readable = readable(found, asked).await;
    images.retain(|image| {
        let fits = || to_be_readable(image, grant, layers).is_subset(&readable);
        !image.is_private() || (!found.is_public() && fits())
    });
    open(system, images).await
}

/// Opens the images among those that the caller of an import may use from which it may take layers.
pub(crate) async fn for_import(system: &System, usable: Vec<Image>, layers: &[Layer]) -> Vec<File> {
    open(system, choose(usable, layers)).await
}

fn is_offered(image: &Image, found: &Found, grant: &Grant) -> bool {
    found.is_registry_of(image) && (image.content.source == found.origin() || may_use(image, grant))
}

/// Groups are not looked up for this: what a group lets in is a matter of more requests to the registry.
fn may_use(image: &Image, grant: &Grant) -> bool {
    (grant.admin || image.admits(grant.by, &[])) && is_for_all_of(image, grant)
}

/// Tells whether everybody to whom this grant opens a new image may use that one too.
pub(crate) fn is_for_all_of(image: &Image, grant: &Grant) -> bool {
    match &image.access {
        Access::Public => true,
        Access::Listed { gids, .. } => {
            !grant.public
                && grant.uids.iter().all(|uid| image.admits(*uid, &[]))
                && grant.gids.iter().all(|gid| gids.contains(gid))
        }
    }
}

/// The blobs that the registry must give the caller before layers are taken from a private image.
fn to_be_readable(image: &Image, grant: &Grant, layers: &[Layer]) -> HashSet<Digest> {
    let taken = layers.iter().filter(|layer| has(image, layer));
    let others = image.content.layers.iter().filter(|_| !may_use(image, grant));
    taken.chain(others).map(|layer| layer.digest).collect()
}

/// Those of these blobs that the registry would give the caller.
async fn readable(found: &Found, asked: HashSet<Digest>) -> HashSet<Digest> {
    futures_util::stream::iter(asked)
        .map(|digest| async move {
            // Only the digest is asked for.
            let blob = Descriptor { digest, ..found.manifest.config };
            match found.session.may_read(&blob).await {
                Ok(()) => Some(digest),
                Err(error) => {
                    debug!("takes nothing that has the layer {digest}: {}", chain(&error));
                    None
                }
            }
        })
        .buffer_unordered(ASKED_AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// Tells whether an image has a layer of which the converter says that it is the same.
///
/// The content must be. The blob must be too, unless the wanted one is not compressed, as in an archive of
/// `docker save`: its digest is then that of its content.
fn has(image: &Image, wanted: &Layer) -> bool {
    image.content.layers.iter().any(|layer| {
        layer.diff_id.is_some()
            && layer.diff_id == wanted.diff_id
            && (layer.digest == wanted.digest || Some(wanted.digest) == wanted.diff_id)
    })
}

/// The images that together have as many bytes of the layers as they can; of two with as many the public one, then the
/// later one.
///
/// Where there is room for more, further ones with the same layers: an image lacks those blocks of its layers that
/// are hidden in it.
fn choose(mut images: Vec<Image>, layers: &[Layer]) -> Vec<Image> {
    let mut chosen: Vec<Image> = Vec::new();
    let mut missing: Vec<&Layer> = layers.iter().collect();
    let mut gained = false;
    while chosen.len() < SOURCES {
        let gain = |image: &Image| {
            // An empty layer is worth something too.
            let had = missing.iter().filter(|layer| has(image, layer));
            had.fold(0u64, |sum, layer| sum.saturating_add(layer.size.max(1)))
        };
        let best = images
            .iter()
            .map(|image| (gain(image), !image.is_private()))
            .enumerate()
            .reduce(|best, next| if next.1 > best.1 { next } else { best });
        match best {
            Some((place, (gain, _))) if gain > 0 => {
                let image = images.remove(place);
                missing.retain(|layer| !has(&image, layer));
                chosen.push(image);
                gained = true;
            }
            Some(_) if gained => {
                missing = layers.iter().collect();
                gained = false;
            }
            _ => break,
        }
    }
    chosen
}

/// Opens those whose files are there and as large as they were when they were published.
async fn open(system: &System, images: Vec<Image>) -> Vec<File> {
    let dir = Arc::clone(&system.dir);
    let open = move || {
        let open = |image: &Image| match dir.open_image(&image.digest, image.content.size) {
            Ok(file) => file,
            Err(error) => {
                warn!(image.digest = %image.digest, "cannot take layers from an image: {}", chain(&error));
                None
            }
        };
        images.iter().filter_map(open).collect::<Vec<_>>()
    };
    tokio::task::spawn_blocking(open).await.unwrap_or_default()
}

/// How many images are offered: each costs the converter a descriptor and the reading of an index.
const SOURCES: usize = 8;

const ASKED_AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SystemName;
    use crate::store::record::{Content, Moment};

    fn layer(number: u8, size: u64) -> Layer {
        let digest = Digest::from_bytes([number; 32]);
        Layer { digest, diff_id: Some(Digest::from_bytes([number + 100; 32])), size }
    }

    fn image(number: u8, public: bool, layers: &[Layer]) -> Image {
        let listed = Access::Listed { uids: vec![1], gids: vec![] };
        Image {
            system: SystemName::try_from("c1".to_string()).unwrap(),
            digest: Digest::from_bytes([number; 32]),
            tags: vec![],
            owner: 1,
            access: if public { Access::Public } else { listed },
            pulled_at: Moment(0.0),
            pull_seconds: 0.0,
            content: Content { layers: layers.to_vec(), ..Content::default() },
        }
    }

    fn chosen(images: Vec<Image>, layers: &[Layer]) -> Vec<u8> {
        choose(images, layers).iter().map(|image| image.digest.as_bytes()[0]).collect()
    }

    #[test]
    fn the_fewest_images_with_the_most_bytes_come_first() {
        let (base, tools, app) = (layer(1, 1000), layer(2, 100), layer(3, 10));
        let wanted = [base, tools, app];
        let images = vec![
            image(1, true, &[app]),
            image(2, true, &[base]),
            image(3, true, &[base, layer(9, 9)]),
            image(4, true, &[base, tools]),
            image(5, true, &[layer(9, 9)]),
        ];
        assert_eq!(chosen(images, &wanted), [4, 1, 2, 3], "then those that have the same again");
        assert_eq!(chosen(vec![], &wanted), [0; 0]);
        assert_eq!(chosen(vec![image(1, true, &wanted)], &[]), [0; 0]);
    }

    #[test]
    fn of_two_images_with_as_much_the_public_one_is_taken_and_then_the_later() {
        let wanted = [layer(1, 10)];
        let images = [(1, false), (2, true), (3, true)].map(|(n, open)| image(n, open, &wanted));
        assert_eq!(chosen(images.to_vec(), &wanted), [2, 3, 1]);
        let many = (0..20).map(|number| image(number, true, &wanted)).collect();
        assert_eq!(chosen(many, &wanted), [0, 1, 2, 3, 4, 5, 6, 7], "no more than are of use");
    }

    #[test]
    fn an_image_is_for_all_of_a_grant_where_it_opens_nothing_to_anybody_new() {
        let private = image(1, false, &[]);
        let grant = |public, uids: &[u32], gids: &[u32]| {
            let (uids, gids) = (uids.iter().copied().collect(), gids.iter().copied().collect());
            Grant { by: 1, admin: false, public, uids, gids }
        };
        assert!(is_for_all_of(&private, &grant(false, &[], &[])));
        assert!(is_for_all_of(&private, &grant(false, &[1], &[])));
        for wider in [grant(true, &[], &[]), grant(false, &[1, 2], &[]), grant(false, &[], &[1])] {
            assert!(!is_for_all_of(&private, &wider) && !may_use(&private, &wider), "{wider:?}");
            assert!(is_for_all_of(&image(1, true, &[]), &wider));
        }
    }

    #[test]
    fn absurd_sizes_do_not_overflow() {
        let wanted = [layer(1, u64::MAX), layer(2, u64::MAX)];
        assert_eq!(chosen(vec![image(1, true, &wanted)], &wanted), [1]);
    }

    #[test]
    fn a_layer_is_the_same_where_its_content_is_and_its_blob_or_the_archive_itself() {
        let there = layer(1, 10);
        let has_it = |wanted: Layer| has(&image(1, true, &[there]), &wanted);
        assert!(has_it(there));
        assert!(has_it(Layer { digest: there.diff_id.unwrap(), ..there }), "docker save");
        assert!(!has_it(Layer { digest: layer(2, 0).digest, ..there }), "compressed otherwise");
        assert!(!has_it(Layer { diff_id: layer(2, 0).diff_id, ..there }), "what a manifest claims");
        assert!(!has_it(Layer { diff_id: None, ..there }));
        let unknown = image(1, true, &[Layer { diff_id: None, ..there }]);
        assert!(!has(&unknown, &there) && !has(&unknown, &Layer { diff_id: None, ..there }));
    }
}
