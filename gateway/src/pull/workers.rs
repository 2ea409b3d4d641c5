//! Whose turn it is to have an image made.
//!
//! A number of images is made at the same time; one user never has all of the places, so that nobody's slow registry
//! keeps the others waiting. Knows nothing of what is done in a place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::queue::locked;

/// The places where images are made.
#[derive(Debug)]
pub(super) struct Workers {
    places: Arc<Semaphore>,
    /// How many of them one user may have.
    of_one: usize,
    /// Of the users that have or want a place.
    users: Mutex<HashMap<u32, Weak<Semaphore>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _place: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Workers {
    /// This many places, of which one user may have all but one; with a single place all have that.
    pub(super) fn new(places: usize) -> Self {
        let of_one = places.saturating_sub(1).max(1);
        Self { places: Arc::new(Semaphore::new(places)), of_one, users: Mutex::default() }
    }

    /// Waits for a place for this user; `None` never comes, for nothing closes the semaphores.
    pub(super) async fn turn(&self, uid: u32) -> Option<Turn> {
        // The user's own limit first: who waits for that keeps no place from others.
        let own = self.of_user(uid).acquire_owned().await.ok()?;
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        Some(Turn { _place: place, _own: own })
    }

    fn of_user(&self, uid: u32) -> Arc<Semaphore> {
        let mut users = locked(&self.users);
        if let Some(there) = users.get(&uid).and_then(Weak::upgrade) {
            return there;
        }
        users.retain(|_, user| user.strong_count() > 0);
        let user = Arc::new(Semaphore::new(self.of_one));
        users.insert(uid, Arc::downgrade(&user));
        user
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn at_once(workers: &Workers, uid: u32) -> Option<Turn> {
        tokio::time::timeout(Duration::from_millis(20), workers.turn(uid)).await.ok().flatten()
    }

    #[tokio::test]
    async fn one_user_never_has_every_place() {
        let workers = Workers::new(3);
        let first = at_once(&workers, 1).await.unwrap();
        let second = at_once(&workers, 1).await.unwrap();
        assert!(at_once(&workers, 1).await.is_none());
        let other = at_once(&workers, 2).await.unwrap();
        assert!(at_once(&workers, 2).await.is_none(), "all places are taken");
        drop(first);
        let again = at_once(&workers, 1).await.unwrap();
        drop((second, other, again));
        at_once(&workers, 3).await.unwrap();
        assert_eq!(locked(&workers.users).len(), 1, "who has gone is forgotten");
    }

    #[tokio::test]
    async fn a_single_place_is_for_everybody_in_turn() {
        let workers = Workers::new(1);
        let turn = at_once(&workers, 1).await.unwrap();
        assert!(at_once(&workers, 2).await.is_none());
        drop(turn);
        at_once(&workers, 2).await.unwrap();
    }
}
