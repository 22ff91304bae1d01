//! The database on disk: fjall with four keyspaces, opened, read and written in groups.
//!
//! `bindings` holds sealed records, `extensions` the times that changed since, `calls` those that
//! wait for a phone, `meta` what tells
//! whether this gateway may read the rest. A group is one atomic batch and one sync; each key is
//! in it once, because all records of a batch share one sequence number.
//! fjall panics on some damaged files: every call that reads or writes is caught at this border.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread::ScopedJoinHandle;

use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database as Fjall, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::io::store::error::StoreError;
use crate::io::store::schema::{self, DecodeError, Extension, RawKey};
use crate::io::store::seal::{OpenError, Sealer};
use crate::proto::registration::binding::StoredBinding;
use crate::proto::{HeldId, StoredCall};

const BINDINGS: &str = "bindings";
const EXTENSIONS: &str = "extensions";
const CALLS: &str = "calls";
const META: &str = "meta";

/// In `meta`: the schema's version, one byte.
const SCHEMA: &[u8] = b"schema";
/// In `meta`: a sealed record of no meaning, which only the right key opens.
const CHECK: &[u8] = b"check";

/// Tables are read at start and by compaction only.
const CACHE_BYTES: u64 = 8 << 20;
/// Removals of one batch while expired bindings are swept.
const SWEEP: usize = 4096;
/// Calls wait for seconds: most are removed before they would become a table.
const CALLS_MEMORY: u64 = 4 << 20;

/// What a group does to one binding.
#[derive(Debug)]
pub(super) enum Change {
    /// Writes its times.
    Extend(Extension),
    /// Writes all of it.
    Put(Box<StoredBinding>),
    /// Removes it.
    Remove,
    /// Writes a call that waits.
    Hold(Box<StoredCall>),
    /// Removes it.
    Release,
}

/// A group of changes, each binding once.
pub(super) type Changes = BTreeMap<RawKey, Change>;

/// Why a group is not durable.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// It could not be written: what was written before is as durable as it was.
    #[error("write to the journal")]
    Commit(#[source] fjall::Error),
    /// It could not be synced: what the journal holds of it is unknown.
    #[error("sync the journal")]
    Sync(#[source] fjall::Error),
    /// A record could not be sealed.
    #[error("seal a record")]
    Seal,
    /// The database is closed after an earlier failure.
    #[error("the database is closed")]
    Closed,
    /// The database panicked.
    #[error("the database panicked")]
    Panic,
}

/// What was found at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Live bindings.
    pub live: usize,
    /// Bindings that had expired and are removed.
    pub expired: usize,
}

/// The open database.
pub(super) struct Database {
    fjall: Fjall,
    bindings: Keyspace,
    extensions: Keyspace,
    calls: Keyspace,
    meta: Keyspace,
}

impl Database {
    /// Makes an empty database in a directory that holds none.
    pub(super) fn create(path: &Path, memory: u64, sealer: &Sealer) -> Result<(), StoreError> {
        guarded(path, || {
            let database = Self::open_files(path, Some(memory))?;
            let check = sealer
                .seal(CHECK, &mut Vec::new())
                .ok_or_else(|| fjall::Error::Io(std::io::Error::other("cannot seal")))?;
            let mut batch = database.fjall.batch();
            batch.insert(&database.meta, SCHEMA, [schema::VERSION]);
            batch.insert(&database.meta, CHECK, check);
            batch.commit()?;
            database.fjall.persist(PersistMode::SyncAll)
        })?
        .map_err(|error| StoreError::database(path, error))
    }

    /// Opens a database that was made by [`Database::create`].
    pub(super) fn open(path: &Path, key_file: &Path, sealer: &Sealer) -> Result<Self, StoreError> {
        let database = guarded(path, || Self::open_files(path, None))?
            .map_err(|error| StoreError::database(path, error))?;
        database.check(path, key_file, sealer)?;
        Ok(database)
    }

    /// `memory` is for a new database, whose options fjall keeps.
    fn open_files(path: &Path, memory: Option<u64>) -> fjall::Result<Self> {
        let fjall = Fjall::builder(path)
            .worker_threads(1)
            .cache_size(CACHE_BYTES)
            .manual_journal_persist(true)
            .journal_compression(CompressionType::None)
            .open()?;
        let keyspace = |name| match memory {
            Some(memory) => fjall.keyspace(name, || keyspace_options(memory)),
            None if fjall.keyspace_exists(name) => {
                fjall.keyspace(name, KeyspaceCreateOptions::default)
            }
            None => Err(fjall::Error::Unrecoverable),
        };
        Ok(Self {
            bindings: keyspace(BINDINGS)?,
            extensions: keyspace(EXTENSIONS)?,
            // One of an earlier version has none.
            calls: fjall.keyspace(CALLS, || keyspace_options(CALLS_MEMORY))?,
            meta: keyspace(META)?,
            fjall,
        })
    }

    fn check(&self, path: &Path, key_file: &Path, sealer: &Sealer) -> Result<(), StoreError> {
        let read = |name: &[u8]| {
            self.meta
                .get(name)
                .map_err(|error| StoreError::database(path, error))?
                .ok_or_else(|| damaged(path, "its own description is missing"))
        };
        let found = read(SCHEMA)?.first().copied().unwrap_or_default();
        if found > schema::VERSION {
            return Err(newer(path, found));
        }
        sealer
            .open(CHECK, &read(CHECK)?, &mut Vec::new())
            .map(drop)
            .map_err(|error| match error {
                OpenError::Forged => StoreError::KeyWrong(key_file.to_path_buf()),
                OpenError::Version(found) => newer(path, found),
            })
    }

    /// Hands out every binding that is live at this time and removes the others. Of so many
    /// takers each gets those of its shard, all of them at once, each on a thread of its own.
    pub(super) fn load<E: FnMut(StoredBinding) + Send>(
        &self,
        path: &Path,
        sealer: &Sealer,
        now_unix: u64,
        takers: &mut [E],
    ) -> Result<Loaded, StoreError> {
        let shards = u16::try_from(takers.len()).unwrap_or(u16::MAX);
        let read: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..shards)
                .zip(takers)
                .map(|(shard, each)| {
                    let keys = schema::keys_of_shard(shard, shards);
                    scope.spawn(move || self.load_part(path, sealer, now_unix, keys, each))
                })
                .collect();
            threads.into_iter().map(ScopedJoinHandle::join).collect()
        });
        let mut loaded = Loaded::default();
        let mut stale = Vec::new();
        for part in read {
            let gave_up = |_| damaged(path, "the database gave up on it");
            let (live, expired, mut gone) = part.map_err(gave_up)??;
            loaded.live += live;
            loaded.expired += expired;
            stale.append(&mut gone);
        }
        self.sweep(&stale);
        Ok(loaded)
    }

    /// Loads the bindings of these keys; returns how many are live, how many have expired, and what
    /// has to go.
    fn load_part(
        &self,
        path: &Path,
        sealer: &Sealer,
        now_unix: u64,
        keys: RangeInclusive<RawKey>,
        mut each: impl FnMut(StoredBinding),
    ) -> Result<(usize, usize, Vec<RawKey>), StoreError> {
        let mut extensions = self.extensions_on_disk(path, keys.clone())?;
        let mut live = 0;
        let mut stale = Vec::new();
        let mut buffer = Vec::new();
        for guard in self.bindings.range(keys) {
            let (key, value) = guard
                .into_inner()
                .map_err(|error| StoreError::database(path, error))?;
            let mut binding = read_binding(path, sealer, &key, &value, &mut buffer)?;
            if let Some(extension) = extensions.remove(&schema::encode_key(binding.key)) {
                binding.expires_unix = extension.expires_unix;
                binding.registered_ms = extension.registered_ms;
            }
            if binding.expires_unix > now_unix {
                live += 1;
                each(binding);
            } else {
                stale.push(schema::encode_key(binding.key));
            }
        }
        let expired = stale.len();
        let mut orphans: Vec<RawKey> = extensions.into_keys().collect();
        orphans.sort_unstable();
        stale.append(&mut orphans);
        Ok((live, expired, stale))
    }

    /// Hands out every call that waits, oldest first. One that cannot be read is removed: whoever
    /// called has given up by the time that somebody could mend it.
    pub(super) fn calls(
        &self,
        path: &Path,
        sealer: &Sealer,
        mut each: impl FnMut(StoredCall),
    ) -> Result<(), StoreError> {
        let mut buffer = Vec::new();
        for guard in self.calls.iter() {
            let (key, value) = guard
                .into_inner()
                .map_err(|error| StoreError::database(path, error))?;
            let id = RawKey::try_from(&*key).map(u128::from_be_bytes).map(HeldId);
            let plain = sealer.open(&key, &value, &mut buffer);
            let call = id.ok().zip(plain.ok());
            match call.and_then(|(id, plain)| schema::decode_call(id, plain).ok()) {
                Some(call) => each(call),
                None => {
                    tracing::warn!("a call that waited cannot be read");
                    let mut batch = self.fjall.batch();
                    batch.remove(&self.calls, key);
                    let removed = batch.durability(Some(PersistMode::SyncAll)).commit();
                    removed.map_err(|error| StoreError::database(path, error))?;
                }
            }
        }
        Ok(())
    }

    fn extensions_on_disk(
        &self,
        path: &Path,
        keys: RangeInclusive<RawKey>,
    ) -> Result<HashMap<RawKey, Extension>, StoreError> {
        let mut extensions = HashMap::new();
        for guard in self.extensions.range(keys) {
            let (key, value) = guard
                .into_inner()
                .map_err(|error| StoreError::database(path, error))?;
            let key = schema::decode_key(&key).map_err(|error| unreadable(path, error))?;
            let extension =
                schema::decode_extension(&value).map_err(|error| unreadable(path, error))?;
            extensions.insert(schema::encode_key(key), extension);
        }
        Ok(extensions)
    }

    /// Removes what has expired. A disk that refuses is no reason not to start: the next start
    /// sweeps again.
    fn sweep(&self, stale: &[RawKey]) {
        for part in stale.chunks(SWEEP) {
            let mut batch = self.fjall.batch();
            for key in part {
                batch.remove(&self.bindings, *key);
                batch.remove(&self.extensions, *key);
            }
            // Synced one by one: `journal` expects no group behind one that is torn.
            let swept = batch.durability(Some(PersistMode::SyncAll)).commit();
            if let Err(error) = swept {
                tracing::warn!(%error, "expired bindings stay in the store");
                return;
            }
        }
    }

    /// Writes a group and waits until it is durable.
    pub(super) fn write(&self, sealer: &Sealer, changes: &Changes) -> Result<(), WriteError> {
        catch_unwind(AssertUnwindSafe(|| self.write_caught(sealer, changes)))
            .unwrap_or(Err(WriteError::Panic))
    }

    fn write_caught(&self, sealer: &Sealer, changes: &Changes) -> Result<(), WriteError> {
        let mut batch = self.fjall.batch();
        let mut plain = Vec::new();
        for (key, change) in changes {
            match change {
                Change::Extend(extension) => {
                    batch.insert(&self.extensions, *key, schema::encode_extension(*extension));
                }
                Change::Put(binding) => {
                    schema::encode(binding, &mut plain);
                    let sealed = sealer.seal(key, &mut plain).ok_or(WriteError::Seal)?;
                    batch.insert(&self.bindings, *key, sealed);
                    batch.remove(&self.extensions, *key);
                }
                Change::Remove => {
                    batch.remove(&self.bindings, *key);
                    batch.remove(&self.extensions, *key);
                }
                Change::Hold(call) => {
                    schema::encode_call(call, &mut plain);
                    let sealed = sealer.seal(key, &mut plain).ok_or(WriteError::Seal)?;
                    batch.insert(&self.calls, *key, sealed);
                }
                Change::Release => batch.remove(&self.calls, *key),
            }
        }
        batch
            .durability(Some(PersistMode::Buffer))
            .commit()
            .map_err(WriteError::Commit)?;
        self.fjall
            .persist(PersistMode::SyncAll)
            .map_err(WriteError::Sync)
    }
}

impl WriteError {
    /// Whether the journal may hold what is not on disk: see `journal`.
    pub(super) fn leaves_doubt(&self) -> bool {
        match self {
            Self::Closed | Self::Commit(fjall::Error::Io(_)) | Self::Seal => false,
            Self::Commit(_) | Self::Sync(_) | Self::Panic => true,
        }
    }

    /// Whether the database goes on after it.
    pub(super) fn is_harmless(&self) -> bool {
        matches!(self, Self::Seal)
    }
}

fn keyspace_options(memory: u64) -> KeyspaceCreateOptions {
    // Sealed records do not compress.
    KeyspaceCreateOptions::default()
        .max_memtable_size(memory)
        .manual_journal_persist(true)
        .data_block_compression_policy(CompressionPolicy::disabled())
}

fn read_binding(
    path: &Path,
    sealer: &Sealer,
    key: &[u8],
    value: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<StoredBinding, StoreError> {
    let name = schema::decode_key(key).map_err(|error| unreadable(path, error))?;
    let plain = sealer
        .open(key, value, buffer)
        .map_err(|error| match error {
            OpenError::Forged => damaged(path, &error.to_string()),
            OpenError::Version(found) => newer(path, found),
        })?;
    schema::decode(name, plain).map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: DecodeError) -> StoreError {
    match error {
        DecodeError::Malformed => damaged(path, &error.to_string()),
        DecodeError::Version(found) => newer(path, found),
    }
}

fn newer(path: &Path, found: u8) -> StoreError {
    StoreError::Newer {
        path: path.to_path_buf(),
        found: u16::from(found),
        known: u16::from(schema::VERSION),
    }
}

fn damaged(path: &Path, detail: &str) -> StoreError {
    StoreError::Corrupted {
        path: path.to_path_buf(),
        detail: detail.to_owned(),
    }
}

/// Runs what may panic on damaged files.
fn guarded<T>(path: &Path, run: impl FnOnce() -> T) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| damaged(path, "the database gave up on it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::store::seal::Keys;

    /// A database, its sealer, and what it says after this change to it.
    fn opened_after(change: impl FnOnce(&Database)) -> Result<Loaded, StoreError> {
        let directory = tempfile::tempdir().unwrap();
        let key_file = directory.path().join("key");
        let path = directory.path().join("db");
        let sealer = Keys::load(&key_file, true).unwrap().sealer;
        Database::create(&path, 1 << 20, &sealer).unwrap();
        let database = Database::open(&path, &key_file, &sealer).unwrap();
        change(&database);
        database.fjall.persist(PersistMode::SyncAll).unwrap();
        drop(database);
        Database::open(&path, &key_file, &sealer)?.load(&path, &sealer, 0, &mut [drop])
    }

    fn put(keyspace: &Keyspace, key: &[u8], value: &[u8]) {
        keyspace.insert(key, value).unwrap();
    }

    #[test]
    fn a_later_schema_is_refused_and_names_both_versions() {
        let error = opened_after(|db| put(&db.meta, SCHEMA, &[schema::VERSION + 1])).unwrap_err();
        assert!(error.to_string().contains("has schema 2"), "{error}");
        assert!(error.to_string().contains("reads up to 1"), "{error}");
    }

    #[test]
    fn a_record_of_a_later_version_is_refused() {
        for change in [
            |db: &Database| put(&db.bindings, &[0; 16], &[2; 40]),
            |db: &Database| put(&db.extensions, &[0; 16], &[2; 3]),
        ] {
            let error = opened_after(change).unwrap_err();
            assert!(
                matches!(error, StoreError::Newer { found: 2, .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn a_record_that_was_not_sealed_here_is_damage() {
        let error = opened_after(|db| put(&db.bindings, &[0; 16], &[1; 40])).unwrap_err();
        assert!(matches!(error, StoreError::Corrupted { .. }), "{error}");
    }

    #[test]
    fn an_extension_without_binding_is_swept() {
        let extension = schema::encode_extension(Extension {
            expires_unix: 1,
            registered_ms: 1,
        });
        let loaded = opened_after(|db| put(&db.extensions, &[0; 16], &extension)).unwrap();
        assert_eq!(loaded, Loaded::default());
    }
}
