//! Who is asking, and which images they may use.
//!
//! A caller is what MUNGE says. Supplementary groups are this host's opinion, asked for only where a group list
//! decides, on a blocking thread, and remembered for a minute.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use image_ref::Access;
use nix::unistd::{Gid, Uid, User, getgrouplist};
use tracing::warn;

use crate::credentials::Logins;
use crate::store::record::Image;
use crate::system::System;

/// An authenticated person.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user id that MUNGE vouches for.
    pub uid: u32,
    /// The primary group that MUNGE vouches for.
    pub gid: u32,
    /// The registry logins that came along.
    pub logins: Logins,
    /// Whether the credential was made for this very request, as Gantry's clients do.
    pub bound: bool,
}

/// Decides who may use what.
#[derive(Debug, Default)]
pub struct Rights {
    groups: Mutex<HashMap<u32, Known>>,
}

/// A user's groups and when they were looked up.
type Known = (Instant, Arc<[u32]>);

impl Rights {
    /// Tells whether the caller may use an image: one that is public, theirs, or open to them or a group of theirs.
    /// An admin may use every image of the system.
    pub async fn may_use(&self, system: &System, caller: &Caller, image: &Image) -> bool {
        if system.is_admin(caller.uid) || image.admits(caller.uid, &[caller.gid]) {
            return true;
        }
        decided_by_groups(image) && image.admits(caller.uid, &self.groups(caller).await)
    }

    /// Keeps the images that the caller may use; looks their groups up once at most.
    pub async fn usable(&self, system: &System, caller: &Caller, images: Vec<Image>) -> Vec<Image> {
        if system.is_admin(caller.uid) {
            return images;
        }
        let direct = |image: &Image| image.admits(caller.uid, &[caller.gid]);
        let groups = if images.iter().any(|image| !direct(image) && decided_by_groups(image)) {
            self.groups(caller).await
        } else {
            Arc::from([])
        };
        images
            .into_iter()
            .filter(|image| direct(image) || image.admits(caller.uid, &groups))
            .collect()
    }

    /// The caller's primary and supplementary groups.
    async fn groups(&self, caller: &Caller) -> Arc<[u32]> {
        let (uid, gid) = (caller.uid, caller.gid);
        let known = self.groups.lock().unwrap_or_else(PoisonError::into_inner).get(&uid).cloned();
        if let Some((since, groups)) = known
            && since.elapsed() < GROUPS_KEPT
        {
            return groups;
        }
        let asked = tokio::task::spawn_blocking(move || look_up_groups(uid, gid));
        let groups: Arc<[u32]> = match tokio::time::timeout(GROUPS_TIMEOUT, asked).await {
            Ok(Ok(groups)) => groups.into(),
            _ => {
                warn!(
                    caller.uid = uid,
                    "cannot look up the groups of user {uid}: the name service does not answer"
                );
                return Arc::from([gid]);
            }
        };
        let mut cache = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        cache.retain(|_, (since, _)| since.elapsed() < GROUPS_KEPT);
        cache.insert(uid, (Instant::now(), Arc::clone(&groups)));
        groups
    }
}

fn decided_by_groups(image: &Image) -> bool {
    matches!(&image.access, Access::Listed { gids, .. } if !gids.is_empty())
}

/// A user whom this host does not know has the group that MUNGE says and no other.
fn look_up_groups(uid: u32, gid: u32) -> Vec<u32> {
    let own = vec![gid];
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return own };
    let Ok(name) = CString::new(user.name) else { return own };
    match getgrouplist(&name, Gid::from_raw(gid)) {
        Ok(groups) => groups.into_iter().map(Gid::as_raw).collect(),
        Err(_) => own,
    }
}

/// A new member of a group waits this long at most.
const GROUPS_KEPT: Duration = Duration::from_secs(60);
const GROUPS_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, SystemName};
    use crate::store::record::{Content, Moment};
    use image_ref::Digest;

    fn system(root: &std::path::Path) -> System {
        let platform: config::Platform = serde_json::from_value(
            serde_json::json!({ "admins": [9], "local": { "imageDir": root } }),
        )
        .unwrap();
        System::open(&SystemName::try_from("c1".to_string()).unwrap(), &platform).unwrap().0
    }

    fn image(access: Access) -> Image {
        Image {
            system: SystemName::try_from("c1".to_string()).unwrap(),
            digest: Digest::from_bytes([1; 32]),
            tags: vec![],
            owner: 1,
            access,
            pulled_at: Moment(0.0),
            pull_seconds: 0.0,
            content: Content::default(),
        }
    }

    #[tokio::test]
    async fn an_image_is_for_its_owner_the_listed_their_groups_and_admins() {
        let root = tempfile::tempdir().unwrap();
        let system = system(root.path());
        let rights = Rights::default();
        let listed = |uids: &[u32], gids: &[u32]| {
            image(Access::Listed { uids: uids.to_vec(), gids: gids.to_vec() })
        };
        for (image, uid, gid, may) in [
            (image(Access::Public), 77, 77, true),
            (listed(&[], &[]), 1, 77, true),
            (listed(&[], &[]), 2, 2, false),
            (listed(&[], &[]), 0, 0, false),
            (listed(&[], &[]), 9, 77, true),
            (listed(&[2], &[]), 2, 77, true),
            (listed(&[2], &[]), 3, 2, false),
            (listed(&[], &[50]), 3, 50, true),
            (listed(&[], &[50]), 50, 3, false),
            // Groups of root and of a user whom this host does not know.
            (listed(&[], &[50]), 0, 0, false),
            (listed(&[], &[50]), 4_000_000_000, 51, false),
        ] {
            let caller = Caller { uid, gid, logins: Logins::default(), bound: true };
            assert_eq!(
                rights.may_use(&system, &caller, &image).await,
                may,
                "{uid}:{gid} {image:?}"
            );
            let kept = rights.usable(&system, &caller, vec![image.clone()]).await;
            assert_eq!(kept.len() == 1, may, "the list agrees: {uid}:{gid} {image:?}");
        }
    }

    #[test]
    fn supplementary_groups_are_this_hosts() {
        let known = look_up_groups(0, 7);
        assert!(known.contains(&7), "the primary group is what MUNGE says: {known:?}");
        assert_eq!(look_up_groups(4_000_000_000, 8), [8]);
    }
}
