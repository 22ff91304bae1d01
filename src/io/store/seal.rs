//! Secrets at rest: what is derived from the key file, and how a record is sealed.
//!
//! `key` beside the database holds 32 random bytes, made at the first start, mode 0600. From it
//! come the key that seals records and the gateway's own key (flow tokens, address hashes). A copy
//! of the database without the file tells nothing of users, addresses and tokens.
//! AES-256-GCM-SIV (RFC 8452): a nonce is a start that each run draws at random, plus a count; if
//! two runs ever meet, this mode tells no more than that two records are equal.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use rand::rngs::SysRng;
use rand::{RngExt, TryRng};

use crate::io::store::error::StoreError;
use crate::io::store::schema::VERSION;

/// The length of the key file.
const KEY_BYTES: usize = 32;

/// Seals and opens records.
pub(super) struct Sealer {
    key: LessSafeKey,
    /// The first nonce of this run.
    nonce: u128,
    sealed: AtomicU64,
}

/// What the key file gives.
pub(super) struct Keys {
    /// For the records.
    pub(super) sealer: Sealer,
    /// For the gateway: stable across restarts.
    pub(super) gateway: [u8; KEY_BYTES],
}

/// Why a record did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OpenError {
    /// Not sealed by this key, or changed since.
    #[error("a record does not open with the key")]
    Forged,
    /// Another gateway's version.
    #[error("a record has version {0}")]
    Version(u8),
}

impl Keys {
    /// Reads the key file; makes it where `may_create` says that nothing was ever sealed.
    pub(super) fn load(path: &Path, may_create: bool) -> Result<Self, StoreError> {
        let seed = match fs::File::open(path) {
            Ok(file) => read_seed(path, file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => {
                make_seed(path).map_err(StoreError::io("write the key file", path))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::KeyMissing(path.to_path_buf()));
            }
            Err(error) => return Err(StoreError::io("read the key file", path)(error)),
        };
        Self::derive(&seed).ok_or_else(|| {
            StoreError::io("derive keys from", path)(io::Error::other("no key derivation"))
        })
    }

    fn derive(seed: &[u8; KEY_BYTES]) -> Option<Self> {
        let sealing = expand(seed, b"rouse store records v1")?;
        let gateway = expand(seed, b"rouse gateway key v1")?;
        let key = UnboundKey::new(&AES_256_GCM_SIV, &sealing).ok()?;
        Some(Self {
            sealer: Sealer {
                key: LessSafeKey::new(key),
                nonce: rand::rng().random(),
                sealed: AtomicU64::new(0),
            },
            gateway,
        })
    }
}

impl Sealer {
    /// Seals a record under its name: version, nonce, ciphertext, tag. `None` if it is too long.
    pub(super) fn seal(&self, name: &[u8], plain: &mut Vec<u8>) -> Option<Vec<u8>> {
        let count = self.sealed.fetch_add(1, Ordering::Relaxed);
        let nonce = self.nonce.wrapping_add(count.into()).to_le_bytes();
        let nonce = *nonce.first_chunk::<NONCE_LEN>()?;
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(bound(name).as_slice()),
                plain,
            )
            .ok()?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + plain.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        plain.clear();
        Some(sealed)
    }

    /// Opens a record that was sealed under this name.
    pub(super) fn open<'b>(
        &self,
        name: &[u8],
        sealed: &[u8],
        buffer: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], OpenError> {
        let (&version, rest) = sealed.split_first().ok_or(OpenError::Forged)?;
        if version != VERSION {
            return Err(OpenError::Version(version));
        }
        let (nonce, rest) = rest
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(OpenError::Forged)?;
        buffer.clear();
        buffer.extend_from_slice(rest);
        self.key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(bound(name).as_slice()),
                buffer,
            )
            .map(|plain| &*plain)
            .map_err(|_| OpenError::Forged)
    }
}

/// What a record is bound to: it opens neither under another name nor as another version.
fn bound(name: &[u8]) -> Vec<u8> {
    let mut aad = Vec::with_capacity(1 + name.len());
    aad.push(VERSION);
    aad.extend_from_slice(name);
    aad
}

fn expand(seed: &[u8; KEY_BYTES], label: &[u8]) -> Option<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    Salt::new(HKDF_SHA256, b"rouse")
        .extract(seed)
        .expand(&[label], KeyLength)
        .and_then(|okm| okm.fill(&mut key))
        .ok()?;
    Some(key)
}

/// The length that HKDF is asked for.
struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

fn read_seed(path: &Path, file: fs::File) -> Result<[u8; KEY_BYTES], StoreError> {
    let mut raw = Vec::new();
    file.take(KEY_BYTES as u64 + 1)
        .read_to_end(&mut raw)
        .map_err(StoreError::io("read the key file", path))?;
    raw.as_slice()
        .try_into()
        .map_err(|_| StoreError::KeyMalformed {
            path: path.to_path_buf(),
            found: fs::metadata(path).map_or(raw.len() as u64, |meta| meta.len()),
        })
}

/// Writes the file whole or not at all: a start that is killed here starts again from nothing.
fn make_seed(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let mut seed = [0; KEY_BYTES];
    SysRng
        .try_fill_bytes(&mut seed)
        .map_err(|_| io::Error::other("the system has no randomness"))?;
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(&seed)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    if let Some(directory) = path.parent() {
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u8) -> Keys {
        Keys::derive(&[seed; KEY_BYTES]).unwrap()
    }

    #[test]
    fn a_record_opens_under_its_own_name_only() {
        let sealer = keys(1).sealer;
        let sealed = sealer.seal(b"name", &mut b"token".to_vec()).unwrap();
        let mut buffer = Vec::new();
        assert_eq!(
            sealer.open(b"name", &sealed, &mut buffer),
            Ok(&b"token"[..])
        );
        assert_eq!(
            sealer.open(b"other", &sealed, &mut buffer),
            Err(OpenError::Forged)
        );
    }

    #[test]
    fn a_record_with_any_byte_changed_does_not_open() {
        let sealer = keys(1).sealer;
        let sealed = sealer.seal(b"name", &mut b"token".to_vec()).unwrap();
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert!(sealer.open(b"name", &forged, &mut Vec::new()).is_err());
            assert!(
                sealer
                    .open(b"name", &sealed[..at], &mut Vec::new())
                    .is_err()
            );
        }
    }

    #[test]
    fn another_key_opens_nothing_and_is_another_gateway() {
        let (ours, theirs) = (keys(1), keys(2));
        let sealed = ours.sealer.seal(b"name", &mut b"token".to_vec()).unwrap();
        assert_eq!(
            theirs.sealer.open(b"name", &sealed, &mut Vec::new()),
            Err(OpenError::Forged)
        );
        assert_ne!(ours.gateway, theirs.gateway);
        assert_eq!(ours.gateway, keys(1).gateway);
    }
}
