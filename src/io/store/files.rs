//! The store's directory: its lock, its key, the database, and how it is opened again after a
//! failure.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::io::store::database::{Changes, Database, Loaded, WriteError};
use crate::io::store::error::StoreError;
use crate::io::store::journal;
use crate::io::store::seal::{Keys, Sealer};
use crate::proto::StoredCall;
use crate::proto::registration::binding::StoredBinding;

/// How often the lock is tried, and the pause between.
const LOCK_ATTEMPTS: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The open directory.
pub(super) struct Files {
    path: PathBuf,
    /// `None` after a failure, until it is opened again.
    database: Option<Database>,
    /// What the kernel shows of the journal may not be on disk: see [`journal::rewrite`].
    is_in_doubt: bool,
    sealer: Sealer,
    gateway_key: [u8; 32],
    /// Held as long as this lives, also while the database is closed.
    _lock: File,
}

impl Files {
    /// Opens the directory; makes what is missing at the first start.
    pub(super) fn open(path: &Path, memory: u64) -> Result<Self, StoreError> {
        make_directory(path)?;
        let lock = lock(path)?;
        let data = path.join("db");
        let is_new = !data
            .try_exists()
            .map_err(StoreError::io("look at", &data))?;
        let keys = Keys::load(&path.join("key"), is_new)?;
        if is_new {
            create(path, &data, memory, &keys.sealer)?;
        }
        let mut files = Self {
            path: path.to_path_buf(),
            database: None,
            is_in_doubt: false,
            sealer: keys.sealer,
            gateway_key: keys.gateway,
            _lock: lock,
        };
        files.reopen()?;
        Ok(files)
    }

    pub(super) fn gateway_key(&self) -> [u8; 32] {
        self.gateway_key
    }

    /// See [`Database::load`].
    pub(super) fn load<E: FnMut(StoredBinding) + Send>(
        &self,
        now_unix: u64,
        takers: &mut [E],
    ) -> Result<Loaded, StoreError> {
        self.database.as_ref().map_or_else(
            || Ok(Loaded::default()),
            |database| database.load(&self.path, &self.sealer, now_unix, takers),
        )
    }

    /// See [`Database::calls`].
    pub(super) fn calls(&self, each: impl FnMut(StoredCall)) -> Result<(), StoreError> {
        self.database.as_ref().map_or(Ok(()), |database| {
            database.calls(&self.path, &self.sealer, each)
        })
    }

    /// Whether the database is open.
    pub(super) fn is_open(&self) -> bool {
        self.database.is_some()
    }

    /// Opens the database, at first or again after a failure.
    pub(super) fn reopen(&mut self) -> Result<(), StoreError> {
        let data = self.path.join("db");
        if self.is_in_doubt {
            journal::rewrite(&data).map_err(StoreError::io("write the journal anew in", &data))?;
            self.is_in_doubt = false;
        }
        journal::repair(&data)?;
        self.database = Some(Database::open(&data, &self.path.join("key"), &self.sealer)?);
        Ok(())
    }

    /// Writes a group durably. After a failure that the database does not survive it is closed.
    pub(super) fn write(&mut self, changes: &Changes) -> Result<(), WriteError> {
        let Some(database) = &self.database else {
            return Err(WriteError::Closed);
        };
        let result = database.write(&self.sealer, changes);
        if let Err(error) = &result {
            self.is_in_doubt |= error.leaves_doubt();
            if !error.is_harmless() {
                self.database = None;
            }
        }
        result
    }
}

/// A first start that is killed half-way leaves a draft, which the next one throws away.
fn create(path: &Path, data: &Path, memory: u64, sealer: &Sealer) -> Result<(), StoreError> {
    let draft = path.join("db.new");
    match fs::remove_dir_all(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::io("remove", &draft)(error));
        }
        Ok(()) | Err(_) => {}
    }
    DirBuilder::new()
        .mode(0o700)
        .create(&draft)
        .map_err(StoreError::io("make", &draft))?;
    Database::create(&draft, memory, sealer)?;
    fs::rename(&draft, data).map_err(StoreError::io("rename", &draft))?;
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(StoreError::io("sync", path))
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(StoreError::io("make the store's directory", path))
}

/// Takes the lock; a process that is just ending, or a child that it is just starting, may hold it
/// for a moment.
fn lock(path: &Path) -> Result<File, StoreError> {
    let name = path.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(StoreError::io("write in the store's directory:", &name))?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &name)(error)),
        }
    }
    Err(StoreError::Locked(path.to_path_buf()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::store::database::Change;
    use crate::io::store::schema::{Extension, RawKey, encode_key};
    use crate::proto::registration::binding::StoredBinding;
    use crate::proto::{
        AorId, BindingId, BindingKey, ConnectionId, Flow, FlowId, ListenerId, Transport,
    };

    fn binding(number: u64) -> StoredBinding {
        StoredBinding {
            key: BindingKey {
                aor: AorId(number),
                binding: BindingId(number),
            },
            user: "agent".into(),
            domain: "".into(),
            upstream: "pbx".into(),
            contact: bytes::Bytes::from_static(b"<sip:agent@192.0.2.1>"),
            instance: None,
            reg_id: None,
            push: None,
            flow: Flow {
                id: FlowId::Stream(ConnectionId(1)),
                listener: ListenerId(0),
                remote: ([192, 0, 2, 1], 1).into(),
                transport: Transport::Tcp,
            },
            expires_unix: 100,
            registered_ms: 1,
        }
    }

    fn put(number: u64) -> Changes {
        let binding = binding(number);
        Changes::from([(encode_key(binding.key), Change::Put(Box::new(binding)))])
    }

    fn held(files: &Files) -> Vec<u64> {
        let mut numbers = Vec::new();
        files
            .load(
                0,
                &mut [|found: StoredBinding| numbers.push(found.key.aor.0)],
            )
            .unwrap();
        numbers
    }

    fn journal_length(path: &Path) -> u64 {
        fs::metadata(path.join("db/0.jnl")).unwrap().len()
    }

    #[test]
    fn after_a_sync_that_failed_the_journal_is_written_anew_before_it_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::open(directory.path(), 1 << 20).unwrap();
        files.write(&put(1)).unwrap();
        files.write(&put(2)).unwrap();
        let inode = || {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(directory.path().join("db/0.jnl"))
                .unwrap()
                .ino()
        };
        let before = inode();

        files.database = None;
        files.is_in_doubt = true;
        assert!(matches!(files.write(&put(3)), Err(WriteError::Closed)));
        files.reopen().unwrap();
        assert_ne!(inode(), before);
        assert_eq!(held(&files), [1, 2]);
        files.write(&put(3)).unwrap();

        files.database = None;
        files.reopen().unwrap();
        assert_eq!(held(&files), [1, 2, 3]);
    }

    #[test]
    fn what_is_in_doubt_stays_so_until_the_journal_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::open(directory.path(), 1 << 20).unwrap();
        files.write(&put(1)).unwrap();
        files.database = None;
        files.is_in_doubt = true;
        let draft = directory.path().join("db/0.draft");
        fs::create_dir(&draft).unwrap();
        files.reopen().unwrap_err();
        assert!(files.is_in_doubt && !files.is_open());
        fs::remove_dir(&draft).unwrap();
        files.reopen().unwrap();
        assert_eq!(held(&files), [1]);
    }

    #[test]
    fn an_extension_is_a_small_record() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::open(directory.path(), 1 << 20).unwrap();
        // Opened again, the journal is as long as what is in it.
        files.database = None;
        files.reopen().unwrap();
        let before = journal_length(directory.path());
        let key: RawKey = [1; 16];
        let extension = Extension {
            expires_unix: 1_700_000_000,
            registered_ms: 1_700_000_000_000,
        };
        let changes = Changes::from([(key, Change::Extend(extension))]);
        files.write(&changes).unwrap();
        let grown = journal_length(directory.path()) - before;
        assert!(grown < 100, "{grown} bytes");
    }
}
