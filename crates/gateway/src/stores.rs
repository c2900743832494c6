//! Stores of secrets that are not ours: OpenBao or Vault (KV version 2) and the Secrets of Kubernetes.
//!
//! Which ones there are, with which token, and for which entries, is said by `stores.toml`, a file of this host's; a control plane names
//! places in them and nothing more. Beside the line: the vault asks here when a reference leads to a store.
//!
//! ```text
//!   vault ─look_up─► allowed? ─► kept, and young enough? ─► token file ─► GET over TLS, bounded ─► one field
//! ```
//!
//! Calls that want the same value at the same time share one request and its failure. A value is kept in memory for the seconds that
//! the store's row says and is wiped then. The buffers of the HTTP and TLS layers are not wiped.

mod answer;
mod client;
mod config;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clawstaff_types::{Secret, StoreName, StoredAt};
use clawstaff_vault::{Found, Lookup, LookupError, Store};
use tokio::{sync::Mutex as Turn, time::Instant};

use self::{client::Service, config::Row};
pub use config::StoresError;

/// Values that are kept at a time.
const MAX_KEPT: usize = 256;

/// The stores of this host.
#[derive(Debug)]
pub struct Stores {
    services: HashMap<StoreName, Service>,
    kept: Mutex<Kept>,
}

/// What is known, by scheme and place; whoever asks holds the turn meanwhile.
type Kept = HashMap<(&'static str, StoredAt), Arc<Turn<Slot>>>;

/// What was last heard of one value.
#[derive(Default)]
struct Slot {
    value: Option<(Instant, Secret<Vec<u8>>)>,
    failure: Option<(Instant, LookupError)>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

impl Stores {
    /// Reads `stores.toml` in the gateway's directory `own`; no file is no store. `extra_ca` has authorities that are trusted beside the
    /// public ones, where a store does not name its own.
    ///
    /// # Errors
    /// When the file is there and cannot be understood, or names authorities that cannot be read.
    pub fn load(own: &Path, extra_ca: Option<&Path>) -> Result<Self, StoresError> {
        let rows = config::read(own)?;
        let services = rows.into_iter().map(|(name, row)| {
            let service = Service::new(name.clone(), row, extra_ca);
            let service = service.map_err(|why| config::wrong(own, format!("store `{name}`: {why}")))?;
            Ok((name, service))
        });
        Ok(Self {
            services: services.collect::<Result<_, StoresError>>()?,
            kept: Mutex::default(),
        })
    }

    async fn found(&self, store: Store, place: &StoredAt) -> Result<Secret<Vec<u8>>, LookupError> {
        let service = self.services.get(place.store());
        let service = service
            .filter(|service| service.store() == store)
            .ok_or_else(|| LookupError::NoStore {
                scheme: store.scheme(),
                store: place.store().clone(),
            })?;
        service.check(place)?;
        let asked = Instant::now();
        let slot = self.slot(store, place);
        let mut turn = slot.lock().await;
        if let Some(known) = turn.known(asked, service.keep()) {
            return known;
        }
        let begun = Instant::now();
        let fetched = service.fetch(place).await;
        turn.note(begun, &fetched);
        drop(turn);
        if fetched.is_ok() {
            wipe_later(&slot, begun, service.keep());
        }
        fetched
    }

    fn slot(&self, store: Store, place: &StoredAt) -> Arc<Turn<Slot>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(kept.entry((store.scheme(), place.clone())).or_default())
    }
}

impl Lookup for Stores {
    fn look_up<'a>(&'a self, store: Store, place: &'a StoredAt) -> Found<'a> {
        Box::pin(self.found(store, place))
    }
}

impl Slot {
    /// What may be said without asking again to somebody who asked at `asked`: a value that is not older than `keep`, or was fetched
    /// since; a failure that came since.
    fn known(&self, asked: Instant, keep: Duration) -> Option<Result<Secret<Vec<u8>>, LookupError>> {
        let young = |begun: Instant| begun >= asked || begun.elapsed() < keep;
        if let Some((begun, value)) = &self.value
            && young(*begun)
        {
            return Some(Ok(value.clone()));
        }
        let failure = self.failure.as_ref().filter(|(ended, _)| *ended >= asked);
        failure.map(|(_, error)| Err(error.clone()))
    }

    fn note(&mut self, begun: Instant, fetched: &Result<Secret<Vec<u8>>, LookupError>) {
        match fetched {
            Ok(value) => (self.value, self.failure) = (Some((begun, value.clone())), None),
            Err(error) => (self.value, self.failure) = (None, Some((Instant::now(), error.clone()))),
        }
    }
}

/// Wipes the value of `begun` once its time is over, if it is still there.
fn wipe_later(slot: &Arc<Turn<Slot>>, begun: Instant, keep: Duration) {
    let slot = Arc::downgrade(slot);
    tokio::spawn(async move {
        tokio::time::sleep_until(begun + keep).await;
        if let Some(slot) = slot.upgrade() {
            let mut slot = slot.lock().await;
            slot.value.take_if(|(kept, _)| *kept == begun);
        }
    });
}

/// Where files for the stores lie, for confinement: their folders, since such files are replaced by renaming.
///
/// # Errors
/// As [`Stores::load`].
pub(crate) fn places(own: &Path) -> Result<Vec<PathBuf>, StoresError> {
    let rows = config::read(own)?;
    let files = rows.values().flat_map(Row::files);
    Ok(files
        .filter_map(|file| file.parent())
        .filter(|folder| !folder.starts_with(own) && !own.starts_with(folder))
        .map(Path::to_path_buf)
        .collect())
}
