//! What a crash leaves at the end of the journal, and how it is told from damage.
//!
//! fjall cuts a journal off at the first byte that it cannot read. For the group that was being
//! written when the power went that is right: nobody was told that it is durable. For a byte that
//! went bad in the middle it would silently forget every phone behind it. This reads the journals
//! before fjall does, by fjall's format 3: a broken end is cut off here, a broken middle refuses
//! the start. And after a failed sync, when the kernel may have dropped pages that it shows us no
//! more, it writes the journal anew before anything else is acknowledged.

use std::fs::{self, File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::io::store::error::StoreError;

/// What fjall ends a group with, and begins the `version` file of this format with.
const MAGIC: [u8; 4] = *b"FJL\x03";
/// The first group of a journal has any number; the next ones are near the one before.
const MAX_GAP: u64 = 1 << 24;
/// How much of a file's end is looked at at once.
const CHUNK: u64 = 1 << 16;

/// Checks all journals of a database, and cuts a torn group off the newest.
pub(super) fn repair(database: &Path) -> Result<(), StoreError> {
    check_format(database)?;
    let journals = list(database).map_err(StoreError::io("list the journals of", database))?;
    for (place, path) in journals.iter().enumerate() {
        let is_newest = place + 1 == journals.len();
        check(path, is_newest).map_err(|fault| match fault {
            Fault::Io(source) => StoreError::io("read the journal", path)(source),
            Fault::Damaged(at) => StoreError::Corrupted {
                path: path.clone(),
                detail: format!("unreadable at byte {at}, with more behind it"),
            },
        })?;
    }
    Ok(())
}

/// Writes the newest journal anew, synced, so that nothing in it depends on a sync that failed.
pub(super) fn rewrite(database: &Path) -> io::Result<()> {
    let Some(path) = list(database)?.pop() else {
        return Ok(());
    };
    let walk = Walk::over(&path)?;
    let draft = path.with_extension("draft");
    let mut copy = File::create(&draft)?;
    io::copy(&mut File::open(&path)?.take(walk.good), &mut copy)?;
    copy.sync_all()?;
    fs::rename(&draft, &path)?;
    File::open(database)?.sync_all()
}

/// What is wrong with a journal.
enum Fault {
    /// Not readable.
    Io(io::Error),
    /// Broken here, with groups behind it that are whole.
    Damaged(u64),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn check(path: &Path, is_newest: bool) -> Result<(), Fault> {
    let walk = Walk::over(path)?;
    let end = last_written(path, walk.good)?;
    if end <= walk.good {
        return Ok(());
    }
    // An older journal was synced whole before the next one was begun.
    if !is_newest || has_group(path, walk.good, end)? {
        return Err(Fault::Damaged(walk.good));
    }
    tracing::warn!(
        bytes = end - walk.good,
        "cut off a group that a crash left incomplete"
    );
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(walk.good)?;
    file.sync_all()?;
    Ok(())
}

/// The journals, oldest first.
fn list(database: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        journals.extend(number.map(|number| (number, path)));
    }
    journals.sort_unstable();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

fn check_format(database: &Path) -> Result<(), StoreError> {
    let path = database.join("version");
    let version = fs::read(&path).map_err(StoreError::io("read", &path))?;
    if version.starts_with(&MAGIC) {
        return Ok(());
    }
    Err(StoreError::Corrupted {
        path,
        detail: "not a database of format 3".to_owned(),
    })
}

/// The end of what is not zero; fjall gives a new journal its length beforehand.
fn last_written(path: &Path, from: u64) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut end = file.metadata()?.len();
    let zeros = [0; CHUNK as usize];
    let mut chunk = Vec::new();
    while end > from {
        let start = end.saturating_sub(CHUNK).max(from);
        file.seek(SeekFrom::Start(start))?;
        chunk.clear();
        Read::by_ref(&mut file)
            .take(end - start)
            .read_to_end(&mut chunk)?;
        // Comparing is many times faster than looking at each byte, and nearly all are zero.
        if zeros.starts_with(&chunk) {
            end = start;
            continue;
        }
        if let Some(place) = chunk.iter().rposition(|byte| *byte != 0) {
            return Ok(start + place as u64 + 1);
        }
    }
    Ok(from)
}

/// Whether a whole group begins anywhere between: then what is before it was acknowledged.
fn has_group(path: &Path, from: u64, to: u64) -> io::Result<bool> {
    let mut tail = Vec::new();
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    file.take(to - from).read_to_end(&mut tail)?;
    // From the first byte on: a whole group with a number that cannot be is damage, too.
    for start in 0..tail.len() {
        let Some(rest) = tail.get(start..) else {
            break;
        };
        if rest.first() == Some(&START) && Walk::read(rest, rest.len() as u64)?.good > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;

/// How far a journal is whole.
struct Walk {
    /// The end of its last whole group.
    good: u64,
}

impl Walk {
    fn over(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Self::read(BufReader::with_capacity(1 << 16, file), length)
    }

    fn read(source: impl Read, length: u64) -> io::Result<Self> {
        let mut groups = Groups {
            source,
            position: 0,
            length,
        };
        let mut good = 0;
        let mut last: Option<u64> = None;
        loop {
            match groups.next() {
                Ok(number) if last.is_none_or(|last| follows(last, number)) => {
                    last = Some(number);
                    good = groups.position;
                }
                Err(Broken::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                    return Err(error);
                }
                Ok(_) | Err(Broken::Io(_) | Broken::Format) => return Ok(Self { good }),
            }
        }
    }
}

/// Whether a group may have this number after that one: a group's number is not in its checksum.
fn follows(last: u64, number: u64) -> bool {
    number > last && number - last < MAX_GAP
}

/// Why a group is not whole.
enum Broken {
    /// It ends, or cannot be read.
    Io(io::Error),
    /// It is something else.
    Format,
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads group after group.
struct Groups<R> {
    source: R,
    position: u64,
    length: u64,
}

impl<R: Read> Groups<R> {
    /// Reads one whole group and returns its number.
    fn next(&mut self) -> Result<u64, Broken> {
        if self.array::<1>()? != [START] {
            return Err(Broken::Format);
        }
        let mut items = u32::from_le_bytes(self.array()?);
        let number = u64::from_le_bytes(self.array()?);
        let mut hash = Xxh3::new();
        loop {
            match self.array::<1>()? {
                [ITEM] if items > 0 => self.item(&mut hash)?,
                [CLEAR] if items > 0 => {
                    hash.update(&[CLEAR]);
                    hash.update(&self.array::<8>()?);
                }
                [END] if items == 0 => {
                    let sum = u64::from_le_bytes(self.array()?);
                    let magic: [u8; 4] = self.array()?;
                    return if sum == hash.finish() && magic == MAGIC {
                        Ok(number)
                    } else {
                        Err(Broken::Format)
                    };
                }
                _ => return Err(Broken::Format),
            }
            items -= 1;
        }
    }

    fn item(&mut self, hash: &mut Xxh3) -> Result<(), Broken> {
        // Kind and compression, keyspace, length of the key, of the value, of the value on disk.
        let head: [u8; 2] = self.array()?;
        let keyspace: [u8; 8] = self.array()?;
        let key: [u8; 2] = self.array()?;
        let plain: [u8; 4] = self.array()?;
        let stored: [u8; 4] = self.array()?;
        let [kind, compression] = head;
        // No journal of ours is compressed.
        if kind > 2 || compression != 0 || plain != stored {
            return Err(Broken::Format);
        }
        for part in [&[ITEM][..], &head, &keyspace, &key, &plain, &stored] {
            hash.update(part);
        }
        let body = u64::from(u16::from_le_bytes(key)) + u64::from(u32::from_le_bytes(stored));
        self.bytes(body, hash)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        self.position += N as u64;
        Ok(bytes)
    }

    fn bytes(&mut self, count: u64, hash: &mut Xxh3) -> Result<(), Broken> {
        // A length that went bad must not make us read, or allocate, what is not there.
        if count > self.length.saturating_sub(self.position) {
            return Err(Broken::Format);
        }
        self.position += count;
        let copied = io::copy(
            &mut Read::by_ref(&mut self.source).take(count),
            &mut Into(hash),
        )?;
        if copied == count {
            Ok(())
        } else {
            Err(Broken::Format)
        }
    }
}

/// Hashes what is written to it.
struct Into<'h>(&'h mut Xxh3);

impl Write for Into<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
