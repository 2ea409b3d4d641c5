//! What every store must do, as functions over a store that is empty.
//!
//! `open` gives the store of a name, and the same store again where the name was there before and the earlier
//! handle is closed: so the suite sees that what was acknowledged is kept.

use std::collections::BTreeSet;
use std::time::Duration;

use gateway_api::{Code, ErrorBody, Status};
use image_ref::{Access, Digest, ImageRef};

use super::record::{Content, Grant, Image, Layer, Moment, PullKey, Scope, Ticket};
use super::{Claim, Store, StoreError};
use crate::config::SystemName;

/// Runs the whole suite.
pub(crate) async fn all(open: impl AsyncFn(&str) -> Box<dyn Store>) {
    a_pull_ends_in_an_image(open("image").await.as_ref()).await;
    one_claim_wins(open("claim").await.as_ref()).await;
    a_pull_whose_lease_has_ended_is_taken_over(open("lease").await.as_ref()).await;
    an_ended_pull_cannot_end_again(open("again").await.as_ref()).await;
    a_failed_pull_is_shown_and_replaced(open("failure").await.as_ref()).await;
    a_tag_belongs_to_one_image(open("tags").await.as_ref()).await;
    removing_the_last_tag_removes_the_image(open("remove").await.as_ref()).await;
    images_are_found_by_their_layers(open("layers").await.as_ref()).await;
    systems_do_not_see_each_other(open("systems").await.as_ref()).await;
    access_is_merged(open("access").await.as_ref()).await;
    odd_values_survive(open("odd").await.as_ref()).await;
    what_was_acknowledged_is_kept(&open).await;
}

const LEASE: Duration = Duration::from_secs(60);

fn system(name: &str) -> SystemName {
    SystemName::try_from(name.to_string()).unwrap()
}

fn reference(text: &str) -> ImageRef {
    text.parse().unwrap()
}

fn key(name: &str) -> PullKey {
    PullKey { system: system("c1"), reference: reference(name), scope: Scope::Anonymous }
}

fn grant(by: u32) -> Grant {
    Grant { by, admin: false, public: true, uids: BTreeSet::new(), gids: BTreeSet::new() }
}

fn image(number: u8) -> Image {
    Image {
        system: system("c1"),
        digest: Digest::from_bytes([number; 32]),
        tags: vec![],
        owner: 0,
        access: Access::Public,
        pulled_at: Moment(0.0),
        pull_seconds: 1.5,
        content: Content { size: 4096, ..Content::default() },
    }
}

async fn claim(store: &dyn Store, key: &PullKey) -> Ticket {
    match store.claim(key, &grant(1000), LEASE).await.unwrap() {
        Claim::Won(ticket) => ticket,
        Claim::Running(pull) => panic!("{pull:?} runs"),
    }
}

async fn pull(store: &dyn Store, name: &str, number: u8) -> Image {
    let ticket = claim(store, &key(name)).await;
    store.complete(&ticket, &image(number), &grant(1000)).await.unwrap()
}

async fn a_pull_ends_in_an_image(store: &dyn Store) {
    let c1 = system("c1");
    assert_eq!(store.image(&c1, &reference("a")).await.unwrap(), None);
    let ticket = claim(store, &key("a")).await;
    store.advance(&ticket, Status::Pulling, LEASE).await.unwrap();
    let running = store.pulls(&c1).await.unwrap();
    assert_eq!(running.len(), 1);
    assert_eq!((running[0].status, &running[0].key), (Status::Pulling, &key("a")));
    let made = store.complete(&ticket, &image(1), &grant(1000)).await.unwrap();
    assert_eq!((made.owner, &made.access), (1000, &Access::Public));
    assert_eq!(made.tags[0].reference, reference("a"));
    assert!(made.pulled_at.age() < 60.0 && made.tags[0].checked_at.age() < 60.0);
    assert_eq!(store.pulls(&c1).await.unwrap(), []);
    assert_eq!(store.image(&c1, &reference("a")).await.unwrap(), Some(made.clone()));
    let by_digest = ImageRef::from_digest(made.digest);
    assert_eq!(store.image(&c1, &by_digest).await.unwrap(), Some(made.clone()));
    assert_eq!(store.images(&c1).await.unwrap(), [made]);
    store.check().await.unwrap();
}

async fn one_claim_wins(store: &dyn Store) {
    let key = key("a");
    let wanted = grant(1);
    let claims =
        futures_util::future::join_all((0..20).map(|_| store.claim(&key, &wanted, LEASE))).await;
    let won = claims.iter().filter(|claim| matches!(claim, Ok(Claim::Won(_)))).count();
    assert_eq!((won, claims.len()), (1, 20));
    let other_eyes = PullKey { scope: Scope::User(7), ..key };
    assert!(matches!(store.claim(&other_eyes, &wanted, LEASE).await.unwrap(), Claim::Won(_)));
}

async fn a_pull_whose_lease_has_ended_is_taken_over(store: &dyn Store) {
    let Claim::Won(first) = store.claim(&key("a"), &grant(1), Duration::ZERO).await.unwrap() else {
        panic!("nothing runs yet")
    };
    let second = claim(store, &key("a")).await;
    assert!(matches!(
        store.advance(&first, Status::Pulling, LEASE).await,
        Err(StoreError::Lost(_))
    ));
    store.advance(&second, Status::Pulling, Duration::ZERO).await.unwrap();
    let third = claim(store, &key("a")).await;
    assert!(store.complete(&second, &image(1), &grant(1)).await.is_err());
    store.complete(&third, &image(1), &grant(1)).await.unwrap();
}

async fn an_ended_pull_cannot_end_again(store: &dyn Store) {
    let ticket = claim(store, &key("a")).await;
    store.complete(&ticket, &image(1), &grant(1)).await.unwrap();
    let lost = |result: Result<(), StoreError>| matches!(result, Err(StoreError::Lost(_)));
    assert!(lost(store.complete(&ticket, &image(2), &grant(1)).await.map(drop)));
    assert!(lost(store.advance(&ticket, Status::Pulling, LEASE).await));
    let later = claim(store, &key("a")).await;
    assert!(lost(store.fail(&ticket, &failure()).await), "an old ticket fits no later claim");
    store.fail(&later, &failure()).await.unwrap();
    assert!(lost(store.fail(&later, &failure()).await));
    assert!(lost(store.complete(&later, &image(2), &grant(1)).await.map(drop)));
    assert_eq!(store.images(&system("c1")).await.unwrap().len(), 1);
}

fn failure() -> ErrorBody {
    ErrorBody::new(Code::RegistryNotFound, "no such tag").with_hint("look again")
}

async fn a_failed_pull_is_shown_and_replaced(store: &dyn Store) {
    let ticket = claim(store, &key("a")).await;
    store.fail(&ticket, &failure()).await.unwrap();
    let shown = store.pulls(&system("c1")).await.unwrap();
    assert_eq!(shown[0].status, Status::Failure);
    assert_eq!(shown[0].failure, Some(failure()));
    claim(store, &key("a")).await;
    let shown = store.pulls(&system("c1")).await.unwrap();
    assert_eq!((shown.len(), shown[0].status, &shown[0].failure), (1, Status::Init, &None));
}

async fn a_tag_belongs_to_one_image(store: &dyn Store) {
    pull(store, "a:1", 1).await;
    let first = pull(store, "a:2", 1).await;
    assert_eq!(first.tags.len(), 2);
    let second = pull(store, "a:1", 2).await;
    assert_eq!(second.tags.len(), 1);
    let c1 = system("c1");
    let first = store.image(&c1, &reference("a:2")).await.unwrap().unwrap();
    assert_eq!(first.tags.iter().map(|t| &t.reference).collect::<Vec<_>>(), [&reference("a:2")]);
    pull(store, "a:2", 2).await;
    let by_digest = ImageRef::from_digest(first.digest);
    let untagged = store.image(&c1, &by_digest).await.unwrap().unwrap();
    assert_eq!(untagged.tags, [], "jobs may still use it");
    let digests: Vec<_> = store.images(&c1).await.unwrap().iter().map(|i| i.digest).collect();
    assert_eq!(digests, [image(2).digest, image(1).digest], "the latest first");
}

async fn removing_the_last_tag_removes_the_image(store: &dyn Store) {
    pull(store, "a:1", 1).await;
    pull(store, "a:2", 1).await;
    let c1 = system("c1");
    let one = image(1).digest;
    assert_eq!(store.remove(&c1, &reference("a:9"), &one).await.unwrap(), None);
    let other = image(2).digest;
    assert_eq!(store.remove(&c1, &reference("a:1"), &other).await.unwrap(), None, "it moved");
    assert_eq!(store.image(&c1, &reference("a:1")).await.unwrap().unwrap().digest, one);
    let left = store.remove(&c1, &reference("a:1"), &one).await.unwrap().unwrap();
    assert_eq!(left.tags.len(), 1);
    assert!(store.image(&c1, &reference("a:1")).await.unwrap().is_none());
    assert!(store.image(&c1, &reference("a:2")).await.unwrap().is_some());
    let left = store.remove(&c1, &reference("a:2"), &one).await.unwrap().unwrap();
    assert_eq!(left.tags, []);
    assert_eq!(store.images(&c1).await.unwrap(), []);
    let both = pull(store, "a:1", 1).await;
    pull(store, "a:2", 1).await;
    store.remove(&c1, &ImageRef::from_digest(both.digest), &both.digest).await.unwrap().unwrap();
    assert_eq!(store.images(&c1).await.unwrap(), []);
    assert_eq!(store.image(&c1, &reference("a:2")).await.unwrap(), None);
}

async fn images_are_found_by_their_layers(store: &dyn Store) {
    let layer = |content: u8| Layer {
        digest: Digest::from_bytes([100 + content; 32]),
        diff_id: Some(Digest::from_bytes([content; 32])),
        size: 1,
    };
    let c1 = system("c1");
    let put = async |name: &str, system: &SystemName, number, layers: &[Layer]| {
        let key = PullKey { system: system.clone(), ..key(name) };
        let ticket = claim(store, &key).await;
        let content = Content { layers: layers.to_vec(), ..image(number).content };
        let image = Image { system: system.clone(), content, ..image(number) };
        store.complete(&ticket, &image, &grant(1000)).await.unwrap();
    };
    // The same content twice, as two empty layers are; and one of which nothing is recorded.
    put("a", &c1, 1, &[layer(1), layer(2), layer(2)]).await;
    put("b", &c1, 2, &[layer(2), layer(3), Layer { diff_id: None, ..layer(4) }]).await;
    put("c", &system("c2"), 3, &[layer(1)]).await;
    let found = async |contents: &[u8]| {
        let diff_ids: Vec<_> = contents.iter().map(|n| Digest::from_bytes([*n; 32])).collect();
        let images = store.images_with_layers(&c1, &diff_ids).await.unwrap();
        images.iter().map(|image| image.digest.as_bytes()[0]).collect::<Vec<_>>()
    };
    assert_eq!(found(&[2]).await, [2, 1], "the latest first");
    assert_eq!((found(&[1]).await, found(&[1, 3]).await), (vec![1], vec![2, 1]));
    assert_eq!((found(&[]).await, found(&[4, 9, 102]).await), (vec![], vec![]));
    let whole = &store.images_with_layers(&c1, &[Digest::from_bytes([3; 32])]).await.unwrap()[0];
    assert_eq!(store.image(&c1, &reference("b")).await.unwrap().as_ref(), Some(whole));
    // An image that was made again may have been made of what is known of it only now.
    put("b", &c1, 2, &[layer(5)]).await;
    assert_eq!((found(&[3]).await, found(&[5]).await), (vec![], vec![2]));
    let before = store.image(&c1, &reference("b")).await.unwrap().unwrap();
    let content = Content { layers: vec![layer(6)], ..before.content.clone() };
    store.describe(&c1, &before.digest, &content).await.unwrap();
    let after = store.image(&c1, &reference("b")).await.unwrap();
    assert_eq!(after, Some(Image { content: content.clone(), ..before }));
    assert_eq!((found(&[5]).await, found(&[6]).await), (vec![], vec![2]));
    store.describe(&c1, &image(9).digest, &content).await.unwrap();
    assert_eq!(found(&[6]).await, [2], "an image that is not there stays away");
    store.remove(&c1, &reference("a"), &image(1).digest).await.unwrap();
    assert_eq!(found(&[1, 2]).await, [2; 0]);
}

async fn systems_do_not_see_each_other(store: &dyn Store) {
    pull(store, "a", 1).await;
    let other = PullKey { system: system("c2"), ..key("a") };
    let ticket = claim(store, &other).await;
    assert_eq!(store.pulls(&system("c1")).await.unwrap(), []);
    let second = Image { system: system("c2"), ..image(2) };
    store.complete(&ticket, &second, &grant(1)).await.unwrap();
    let found = async |name| store.image(&system(name), &reference("a")).await.unwrap().unwrap();
    assert_eq!(found("c1").await.digest, image(1).digest);
    assert_eq!(found("c2").await.digest, image(2).digest);
    store.remove(&system("c2"), &reference("a"), &image(2).digest).await.unwrap();
    found("c1").await;
}

async fn access_is_merged(store: &dyn Store) {
    let ticket = claim(store, &key("a")).await;
    let listed = Grant { public: false, uids: [5].into(), gids: [6].into(), ..grant(1000) };
    let made = store.complete(&ticket, &image(1), &listed).await.unwrap();
    assert_eq!(made.access, Access::Listed { uids: vec![5, 1000], gids: vec![6] });
    let ticket = claim(store, &key("b")).await;
    let other = Grant { public: false, ..grant(2000) };
    let made = store.complete(&ticket, &image(1), &other).await.unwrap();
    assert!(made.owner == 1000 && made.admits(2000, &[]) && !made.admits(3000, &[]));
}

async fn odd_values_survive(store: &dyn Store) {
    let content = Content {
        env: vec!["A='\"\\\n\u{0}ü".into(), String::new()],
        labels: [("k".to_string(), "v\u{1f600}".to_string())].into(),
        created: Some("2026-01-01T00:00:00Z".into()),
        resolved_digest: Some(Digest::from_bytes([9; 32])),
        entries: u64::MAX,
        ..Content::default()
    };
    let ticket = claim(store, &key("localhost:5000/a/b:t")).await;
    let odd = Image { owner: u32::MAX - 1, content: content.clone(), ..image(1) };
    let by = Grant { by: u32::MAX - 1, ..grant(0) };
    let made = store.complete(&ticket, &odd, &by).await.unwrap();
    assert_eq!((made.owner, made.content), (u32::MAX - 1, content));
}

async fn what_was_acknowledged_is_kept(open: &impl AsyncFn(&str) -> Box<dyn Store>) {
    let store = open("kept").await;
    let made = pull(store.as_ref(), "a", 1).await;
    let failed = claim(store.as_ref(), &key("failed")).await;
    store.fail(&failed, &failure()).await.unwrap();
    let before = claim(store.as_ref(), &key("running")).await;
    store.advance(&before, Status::Conversion, LEASE).await.unwrap();
    drop(store);
    let store = open("kept").await;
    assert_eq!(store.images(&system("c1")).await.unwrap(), [made]);
    let taken = store.take_over(LEASE).await.unwrap();
    assert_eq!(taken.len(), 1, "{taken:?}");
    let (ticket, pull) = &taken[0];
    assert_eq!((&pull.key, pull.status), (&key("running"), Status::Init));
    assert!(matches!(
        store.advance(&before, Status::Pulling, LEASE).await,
        Err(StoreError::Lost(_))
    ));
    store.advance(ticket, Status::Pulling, LEASE).await.unwrap();
}
