//! The durable bindings: an embedded database, written in groups by one thread.
//!
//! [`Store::open`] reads what is there, [`OpenedStore::start`] begins to write. A write is handed
//! to a bounded queue; the thread gathers what arrives within a window, or until one comes that a
//! call waits for, writes it as one atomic group, syncs once and reports each ticket. `true` is said
//! after the sync and never before it.
//!
//! On disk: `lock`, `key` (32 bytes, mode 0600), `db/` (the database, mode 0700), `entered` (what
//! operators have entered, mode 0600).

mod database;
mod entered;
mod error;
mod files;
mod journal;
mod schema;
mod seal;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use parking_lot::Mutex;

pub use crate::io::store::database::Loaded;
pub use crate::io::store::entered::EnteredFile;
pub use crate::io::store::error::StoreError;
use crate::io::store::files::Files;
use crate::io::store::writer::{Job, Writer};
use crate::proto::registration::binding::StoredBinding;
use crate::proto::{StoreTicket, StoreWrite, StoredCall};

/// Bytes that are kept in memory before they become a table on disk: bounds the replay at start.
const MEMORY: u64 = 16 << 20;

/// Where the store is and how it groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Its directory; made if it is missing.
    pub path: PathBuf,
    /// For how long writes gather, unless a call waits for one of them.
    pub window: Duration,
    /// How many writes may wait.
    pub queue: usize,
}

impl StoreConfig {
    /// The defaults in this directory.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            window: Duration::from_millis(5),
            queue: 16_384,
        }
    }
}

/// Whether bytes are a record that the store could have written, and say the same when it writes what
/// it read of them; `None` if they are none: for fuzz targets.
#[must_use]
pub fn rereads(raw: &[u8]) -> Option<bool> {
    schema::rereads(raw)
}

/// A write was not taken: the queue is full, or the store is closed. It will not be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store's queue is full")]
pub struct QueueFull;

/// What the store has done, for metrics and health.
#[derive(Debug, Default)]
pub struct StoreStats {
    /// Writes that are durable.
    pub durable: AtomicU64,
    /// Writes that failed.
    pub failed: AtomicU64,
    /// Groups that were written.
    pub groups: AtomicU64,
    /// Writes that the full queue refused.
    pub refused: AtomicU64,
    /// 1 while the last group failed, 0 otherwise.
    pub failing: AtomicU64,
}

/// A handle to the running store.
#[derive(Clone, Debug)]
pub struct Store {
    queue: SyncSender<Job>,
    hurry: Arc<AtomicBool>,
    sleeper: Thread,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    stats: Arc<StoreStats>,
}

/// A store that is open, before it takes writes.
pub struct OpenedStore {
    config: StoreConfig,
    files: Files,
}

impl Store {
    /// Opens the store, or makes one at the first start.
    ///
    /// # Errors
    /// If the directory cannot be used, another process uses it, its key does not fit, or its data
    /// is damaged or of a newer version.
    pub fn open(config: StoreConfig) -> Result<OpenedStore, StoreError> {
        Self::open_sized(config, MEMORY)
    }

    /// As [`Store::open`]; a new store keeps so many bytes in memory before it writes a table.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_sized(config: StoreConfig, memory: u64) -> Result<OpenedStore, StoreError> {
        let files = Files::open(&config.path, memory)?;
        Ok(OpenedStore { config, files })
    }

    /// Hands over a write; its ticket is reported when it is durable or has failed.
    ///
    /// # Errors
    /// If the queue is full. Never blocks.
    pub fn submit(&self, ticket: Option<StoreTicket>, write: StoreWrite) -> Result<(), QueueFull> {
        let job = Job::Write { ticket, write };
        self.queue.try_send(job).map_err(|_| {
            self.stats.refused.fetch_add(1, Ordering::Relaxed);
            QueueFull
        })?;
        if ticket.is_some_and(|ticket| ticket.is_awaited) {
            self.hurry();
        }
        Ok(())
    }

    /// What is in the queue is written now.
    fn hurry(&self) {
        self.hurry.store(true, Ordering::Release);
        self.sleeper.unpark();
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &StoreStats {
        &self.stats
    }

    /// Whether the last group failed: a disk that is full, read-only or broken.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.stats.failing.load(Ordering::Relaxed) != 0
    }

    /// Writes what waits, reports it, and closes the files. Blocks until that is done.
    pub fn close(self) {
        // dropped: an error means that the thread has ended already.
        drop(self.queue.send(Job::Close));
        self.hurry();
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's thread panicked");
        }
    }
}

impl OpenedStore {
    /// The gateway's own key: made at the first start, the same at every later one.
    #[must_use]
    pub fn gateway_key(&self) -> [u8; 32] {
        self.files.gateway_key()
    }

    /// The file of the devices that operators have entered.
    ///
    /// # Errors
    /// If the store's key cannot be read.
    pub fn entered(&self) -> Result<EnteredFile, StoreError> {
        EnteredFile::of(&self.config.path)
    }

    /// Hands out every binding that is live at `now_unix` (seconds since the Unix epoch) and
    /// removes the others.
    ///
    /// # Errors
    /// If a record is damaged or of a newer version: a part of the bindings is never silently lost.
    pub fn load(
        &self,
        now_unix: u64,
        each: impl FnMut(StoredBinding) + Send,
    ) -> Result<Loaded, StoreError> {
        self.load_shards(now_unix, &mut [each])
    }

    /// As [`OpenedStore::load`], for as many shards as there are takers, each on a thread.
    ///
    /// # Errors
    /// As [`OpenedStore::load`].
    pub fn load_shards<E: FnMut(StoredBinding) + Send>(
        &self,
        now_unix: u64,
        takers: &mut [E],
    ) -> Result<Loaded, StoreError> {
        self.files.load(now_unix, takers)
    }

    /// Hands out every call that waited for a phone when the last process ended, oldest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn calls(&self, each: impl FnMut(StoredCall)) -> Result<(), StoreError> {
        self.files.calls(each)
    }

    /// Starts the thread that writes. `report` is called on it, once for each ticket, in the order
    /// of submission; it must not block.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        self,
        report: impl FnMut(StoreTicket, bool) + Send + 'static,
    ) -> Result<Store, StoreError> {
        let (queue, jobs) = sync_channel(self.config.queue);
        let stats = Arc::new(StoreStats::default());
        let hurry = Arc::new(AtomicBool::new(false));
        let path = self.config.path.clone();
        let writer = Writer::new(
            self.files,
            jobs,
            self.config.window,
            Box::new(report),
            (Arc::clone(&stats), Arc::clone(&hurry)),
        );
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run())
            .map_err(StoreError::io("start the thread for", &path))?;
        Ok(Store {
            queue,
            hurry,
            sleeper: thread.thread().clone(),
            thread: Arc::new(Mutex::new(Some(thread))),
            stats,
        })
    }
}

impl std::fmt::Debug for OpenedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedStore")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
