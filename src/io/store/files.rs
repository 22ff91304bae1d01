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
    pub(super) fn load(
        &self,
        now_unix: u64,
        each: impl FnMut(StoredBinding),
    ) -> Result<Loaded, StoreError> {
        self.database.as_ref().map_or_else(
            || Ok(Loaded::default()),
            |database| database.load(&self.path, &self.sealer, now_unix, each),
        )
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
