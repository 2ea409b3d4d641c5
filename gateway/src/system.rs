//! A system that the gateway serves, such as a cluster: its users, its nodes' platform and its image directory.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image_ref::{Digest, Platform};
use nix::unistd::User;
use tokio::sync::{Mutex, MutexGuard};

use crate::config::{self, Account, ImportUsers, SystemName};
use crate::image_dir::{ImageDir, ImageDirError};

/// One system.
#[derive(Debug)]
pub struct System {
    /// Its name in URLs.
    pub name: SystemName,
    /// Where its images lie.
    pub dir: Arc<ImageDir>,
    /// What its nodes are.
    pub platform: Platform,
    /// The socket of the munged that vouches for its users; munge's own default where `None`.
    pub munge_socket: Option<PathBuf>,
    admins: BTreeSet<u32>,
    /// See [`Self::lock`].
    locks: [Mutex<()>; LOCKS],
    hasher: RandomState,
}

impl System {
    /// Makes a system of its configuration; opens its image directory and looks its admins' names up.
    ///
    /// An admin whom this host does not know is told of in the second value, and is then no admin.
    ///
    /// # Errors
    /// [`ImageDirError`] where the image directory cannot be used.
    pub fn open(
        name: &SystemName,
        platform: &config::Platform,
    ) -> Result<(Self, Vec<String>), ImageDirError> {
        // Config::load has seen that there is one.
        let root = platform.image_dir().unwrap_or(Path::new(""));
        let mut complaints = unknown_admins(name, platform);
        let dir = ImageDir::open(root)?;
        complaints.extend(dir.complaint());
        let system = Self {
            name: name.clone(),
            dir: Arc::new(dir),
            platform: platform.platform.clone().unwrap_or_else(Platform::host),
            munge_socket: platform.munge_socket.clone(),
            admins: platform.admins.iter().filter_map(find_uid).collect(),
            locks: std::array::from_fn(|_| Mutex::new(())),
            hasher: RandomState::new(),
        };
        Ok((system, complaints))
    }

    /// Tells whether a user is an admin of the system.
    pub fn is_admin(&self, uid: u32) -> bool {
        self.admins.contains(&uid)
    }

    /// Keeps everybody else from publishing, describing or removing the image of this digest.
    pub async fn lock(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        let place = self.hasher.hash_one(digest) as usize % LOCKS;
        match self.locks.get(place) {
            Some(lock) => lock.lock().await,
            None => unreachable!("a remainder is smaller than its divisor"),
        }
    }
}

/// A sentence for each admin whom this host does not know.
pub fn unknown_admins(name: &SystemName, platform: &config::Platform) -> Vec<String> {
    let unknown = platform.admins.iter().filter(|account| find_uid(account).is_none());
    unknown
        .map(|account| format!("Platforms.{name}.admins: this host knows no user {account}"))
        .collect()
}

/// A sentence for each user in `ImportUsers` whom this host does not know.
pub fn unknown_importers(users: &ImportUsers) -> Vec<String> {
    let ImportUsers::Listed(accounts) = users else { return Vec::new() };
    let unknown = accounts.iter().filter(|account| find_uid(account).is_none());
    unknown.map(|account| format!("ImportUsers: this host knows no user {account}")).collect()
}

/// Who may import at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Importers {
    /// Everybody.
    All,
    /// Nobody.
    Nobody,
    /// These users, and admins.
    Listed(BTreeSet<u32>),
}

/// Who may import, with names looked up; a user whom this host does not know may not.
pub fn find_importers(users: &ImportUsers) -> Importers {
    match users {
        ImportUsers::All => Importers::All,
        ImportUsers::Nobody => Importers::Nobody,
        ImportUsers::Listed(accounts) => {
            Importers::Listed(accounts.iter().filter_map(find_uid).collect())
        }
    }
}

fn find_uid(account: &Account) -> Option<u32> {
    match account {
        Account::Uid(uid) => Some(*uid),
        Account::Name(name) => User::from_name(name).ok().flatten().map(|user| user.uid.as_raw()),
    }
}

/// Every system by name.
pub type Systems = HashMap<SystemName, Arc<System>>;

/// Digests share this many locks; two that meet in one wait for each other without need, which is rare and short.
const LOCKS: usize = 64;
