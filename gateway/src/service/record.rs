//! Images and pulls as the wire tells of them.

use gateway_api::{Known, PullEvent, Record, Status};
use image_ref::{Access, ImageRef};

use crate::pull::queue::Attempt;
use crate::store::record::Image;

/// A published image.
pub(super) fn of_image(image: &Image) -> Record {
    let content = &image.content;
    let (user_acl, group_acl) = match &image.access {
        Access::Public => (Vec::new(), Vec::new()),
        Access::Listed { uids, gids } => (uids.clone(), gids.clone()),
    };
    Record {
        id: image.digest.hex().to_string(),
        system: image.system.to_string(),
        itype: image.tags.first().map_or("docker", |tag| tag.reference.kind().as_str()).to_string(),
        tag: image.tags.iter().map(|tag| tag.reference.tag_text()).collect(),
        status: Status::Ready,
        user_acl,
        group_acl,
        env: Known::Value(Some(content.env.clone())),
        entry: Known::Value(Some(content.entrypoint.clone()).filter(|entry| !entry.is_empty())),
        workdir: Known::Value(content.workdir.clone()),
        labels: Known::Value(content.labels.clone()),
        last_pull: Known::Value(image.pulled_at.0),
        status_message: Known::Value("ready".to_string()),
        digest: Some(image.digest),
        size: Some(content.size),
        owner: Some(image.owner),
        private: image.is_private(),
        pull_seconds: Some(image.pull_seconds),
        failure: None,
        progress: None,
    }
}

/// A pull that runs or has just failed.
pub(super) fn of_attempt(attempt: &Attempt) -> Record {
    let event = attempt.latest();
    Record {
        id: "MISSING".to_string(),
        system: attempt.key.system.to_string(),
        itype: attempt.key.reference.kind().to_string(),
        tag: Vec::new(),
        status: event.status,
        user_acl: Vec::new(),
        group_acl: Vec::new(),
        env: Known::MISSING,
        entry: Known::MISSING,
        workdir: Known::MISSING,
        labels: Known::MISSING,
        last_pull: Known::MISSING,
        status_message: Known::Value(event.message.clone()),
        digest: event.digest,
        size: None,
        owner: None,
        private: false,
        pull_seconds: None,
        failure: event.failure.clone(),
        progress: Some(event),
    }
}

/// The event stream of an image that is there already: one event.
pub(super) fn ready_event(image: &Image) -> PullEvent {
    PullEvent {
        status: Status::Ready,
        message: "ready".to_string(),
        digest: Some(image.digest),
        layers: Vec::new(),
        written: image.content.size,
        seconds: 0.0,
        failure: None,
    }
}

/// The name that a queue shows.
pub(super) fn queue_name(reference: &ImageRef) -> String {
    reference.tag_text()
}
