//! Why the store cannot be opened, in words that an operator can act on.

use std::io;
use std::path::{Path, PathBuf};

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Data that cannot be trusted: starting with a part of it would forget acknowledged phones.
    #[error("the store {} is damaged ({detail}): restore it from a backup, or move it away to start empty", .path.display())]
    Corrupted {
        /// The store's directory.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The file system refuses.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The data is there and its key is not.
    #[error("the key file {} is missing: the store beside it cannot be read without it", .0.display())]
    KeyMissing(PathBuf),
    /// The key file is not one.
    #[error("the key file {} has {found} bytes, not 32", .path.display())]
    KeyMalformed {
        /// The key file.
        path: PathBuf,
        /// Its length.
        found: u64,
    },
    /// The key does not open the data.
    #[error("the key file {} does not belong to the store beside it", .0.display())]
    KeyWrong(PathBuf),
    /// Another gateway runs on this directory.
    #[error("the store {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// Data of a version that this gateway cannot read.
    #[error("the store {} has schema {found}, and this version reads up to {known}: start the newer version again", .path.display())]
    Newer {
        /// The store's directory.
        path: PathBuf,
        /// The data's version.
        found: u16,
        /// The newest version that is understood here.
        known: u16,
    },
}

impl StoreError {
    /// Wraps an error of the file system with what was tried.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.to_path_buf(),
            source,
        }
    }

    /// Sorts an error of the database: what the operator can cure, and what is damage.
    pub(super) fn database(path: &Path, error: fjall::Error) -> Self {
        match io_error(error) {
            Ok(source) if is_decoding(&source) => Self::Corrupted {
                path: path.to_path_buf(),
                detail: source.to_string(),
            },
            Ok(source) => Self::Io {
                doing: "open the store",
                path: path.to_path_buf(),
                source,
            },
            Err(fjall::Error::Locked) => Self::Locked(path.to_path_buf()),
            Err(other) => Self::Corrupted {
                path: path.to_path_buf(),
                detail: other.to_string(),
            },
        }
    }
}

/// Finds the operating system's error in the database's.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the database's enum is non-exhaustive, and only two variants carry one"
)]
pub(super) fn io_error(error: fjall::Error) -> Result<io::Error, fjall::Error> {
    match error {
        fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) => Ok(source),
        other => Err(other),
    }
}

/// Whether an I/O error says that bytes are wrong, and not that the system refuses: it did not come
/// from the system, or it came because a file or an offset is not what another file says.
fn is_decoding(error: &io::Error) -> bool {
    error.raw_os_error().is_none()
        || matches!(
            error.kind(),
            io::ErrorKind::InvalidInput | io::ErrorKind::NotFound
        )
}
