//! The file of the devices that operators have entered: `entered` in the store's directory.
//!
//! They are few and change seldom: the file is written whole, beside the old one, synced, and then
//! takes its place. It is sealed with the store's key, for it holds push tokens.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::io::store::error::StoreError;
use crate::io::store::schema::{self, DecodeError};
use crate::io::store::seal::{Keys, OpenError, Sealer};
use crate::proto::settings::ConfiguredDevice;

/// Its name, and the name that it is sealed under.
const NAME: &str = "entered";

/// The file.
pub struct EnteredFile {
    directory: PathBuf,
    sealer: Sealer,
}

impl std::fmt::Debug for EnteredFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnteredFile")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl EnteredFile {
    /// The file of a store that has been opened.
    ///
    /// # Errors
    /// If the store's key cannot be read.
    pub(super) fn of(directory: &Path) -> Result<Self, StoreError> {
        let keys = Keys::load(&directory.join("key"), false)?;
        Ok(Self {
            directory: directory.to_path_buf(),
            sealer: keys.sealer,
        })
    }

    /// Reads it; nobody has entered anything if it is not there.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    pub fn read(&self) -> Result<Vec<ConfiguredDevice>, StoreError> {
        let path = self.directory.join(NAME);
        let sealed = match fs::read(&path) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        let damaged = |detail: String| StoreError::Corrupted {
            path: path.clone(),
            detail,
        };
        let newer = |found: u8| StoreError::Newer {
            path: path.clone(),
            found: u16::from(found),
            known: u16::from(schema::VERSION),
        };
        let mut buffer = Vec::new();
        let plain = self
            .sealer
            .open(NAME.as_bytes(), &sealed, &mut buffer)
            .map_err(|error| match error {
                OpenError::Forged => damaged(error.to_string()),
                OpenError::Version(found) => newer(found),
            })?;
        schema::decode_entered(plain).map_err(|error| match error {
            DecodeError::Malformed => damaged(error.to_string()),
            DecodeError::Version(found) => newer(found),
        })
    }

    /// Writes it; it is durable when this returns, and as it was if this fails.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, devices: &[ConfiguredDevice]) -> Result<(), StoreError> {
        let path = self.directory.join(NAME);
        let mut plain = Vec::new();
        schema::encode_entered(devices, &mut plain);
        let sealed = self.sealer.seal(NAME.as_bytes(), &mut plain);
        let sealed = sealed.ok_or_else(|| {
            let error = io::Error::other("cannot be sealed");
            StoreError::io("write", &path)(error)
        })?;
        let draft = self.directory.join("entered.new");
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| {
                file.write_all(&sealed)?;
                file.sync_all()
            });
        written.map_err(StoreError::io("write", &draft))?;
        fs::rename(&draft, &path).map_err(StoreError::io("rename", &draft))?;
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(StoreError::io("sync", &self.directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::push::params::PushParams;

    fn device(user: &str) -> ConfiguredDevice {
        let prid = "https://push.example.com/secret";
        let keys = format!("{}.{}", "B".repeat(87), "A".repeat(22));
        ConfiguredDevice {
            user: user.into(),
            domain: Some("pbx.example.com".into()),
            instance: None,
            user_agent: Some("Linphone".into()),
            params: PushParams::of("webpush", Some(&keys), prid).unwrap(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_no_token_is_readable() {
        let directory = tempfile::tempdir().unwrap();
        Keys::load(&directory.path().join("key"), true).unwrap();
        let file = EnteredFile::of(directory.path()).unwrap();
        assert_eq!(file.read().unwrap(), []);
        let devices = [device("1001"), device("1002")];
        file.write(&devices[..1]).unwrap();
        file.write(&devices).unwrap();
        let again = EnteredFile::of(directory.path()).unwrap();
        assert_eq!(again.read().unwrap(), devices);
        let bytes = fs::read(directory.path().join(NAME)).unwrap();
        assert!(!bytes.windows(6).any(|part| part == b"secret"));
    }

    #[test]
    fn a_file_that_somebody_has_changed_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        Keys::load(&directory.path().join("key"), true).unwrap();
        let file = EnteredFile::of(directory.path()).unwrap();
        file.write(&[device("1001")]).unwrap();
        let path = directory.path().join(NAME);
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = file.read().unwrap_err();
        assert!(matches!(error, StoreError::Corrupted { .. }), "{error}");
    }
}
