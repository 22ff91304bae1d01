//! Torn writes and bytes that went bad: the store opens with every earlier group, or says that it
//! is damaged. It never panics and never makes something up.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use rouse::io::store::{Store, StoreConfig, StoreError};
use rouse::proto::{BindingKey, StoreWrite};

use crate::support::{Running, binding, directory, key};

/// Positions that are tried in each way; `ROUSE_TORN_WRITES=10000` tries more.
const POSITIONS: usize = 60;
/// Groups in the journal.
const GROUPS: u64 = 12;

/// A store's directory, its journal's bytes, and where each group ends.
struct Specimen {
    directory: tempfile::TempDir,
    journal: Vec<u8>,
    ends: Vec<usize>,
}

impl Specimen {
    fn make() -> Self {
        let directory = directory();
        let (mut running, _) = Running::open(directory.path());
        let mut ends = Vec::new();
        for number in 0..GROUPS {
            assert!(running.put(binding(number)));
            ends.push(written(&fs::read(journal(directory.path())).unwrap()));
        }
        running.store.close();
        let mut journal = fs::read(journal(directory.path())).unwrap();
        journal.truncate(written(&journal));
        Self {
            directory,
            journal,
            ends,
        }
    }

    /// Opens the store with this journal and returns which of the bindings it has.
    fn open(&self, journal_bytes: &[u8]) -> Result<Vec<BindingKey>, StoreError> {
        let path = self.directory.path();
        fs::write(journal(path), journal_bytes).unwrap();
        let mut held = Vec::new();
        Store::open(StoreConfig::new(path))?.load(0, |found| {
            let number = found.key.binding.0;
            assert_eq!(found, binding(number), "a record is not as it was written");
            held.push(found.key);
        })?;
        Ok(held)
    }

    /// Every group that ends before `position` must be there.
    fn assert_has_groups_before(&self, position: usize, held: &[BindingKey]) {
        for (number, end) in (0..).zip(&self.ends) {
            if *end <= position {
                assert!(
                    held.contains(&key(number)),
                    "group {number} is lost by damage at {position}"
                );
            }
        }
    }

    /// Where the last group begins.
    fn last(&self) -> usize {
        *self.ends.iter().rev().nth(1).unwrap()
    }
}

fn journal(path: &Path) -> PathBuf {
    path.join("db/0.jnl")
}

/// The end of what is not zero.
fn written(journal: &[u8]) -> usize {
    // In steps first: a test's build looks at single bytes slowly.
    let zeros = [0; 4096];
    let end = journal
        .chunks(4096)
        .rposition(|part| !zeros.starts_with(part));
    let end = journal.len().min((end.unwrap() + 1) * 4096);
    journal[..end].iter().rposition(|byte| *byte != 0).unwrap() + 1
}

/// Spreads the wanted number of positions over a range.
fn positions(from: usize, to: usize) -> impl Iterator<Item = usize> {
    let wanted = std::env::var("ROUSE_TORN_WRITES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(POSITIONS);
    (from..to).step_by(((to - from) / wanted).max(1))
}

#[test]
fn a_journal_cut_off_anywhere_has_all_groups_before_the_cut() {
    let specimen = Specimen::make();
    for position in positions(*specimen.ends.first().unwrap(), specimen.journal.len()) {
        let held = specimen.open(&specimen.journal[..position]).unwrap();
        specimen.assert_has_groups_before(position, &held);
    }
}

#[test]
fn a_last_group_that_is_partly_zero_or_rubbish_is_cut_off() {
    let specimen = Specimen::make();
    let zeros = [0_u8; 4096];
    let rubbish = [0xa5_u8; 64];
    for position in positions(specimen.last(), specimen.journal.len()) {
        let whole = &specimen.journal;
        let (before, after) = whole.split_at(position);
        let middle = (position + whole.len()) / 2;
        let hole = vec![0; middle - position];
        for torn in [
            [before, &zeros].concat(),
            [before, &rubbish].concat(),
            [before, &hole, &whole[middle..]].concat(),
        ] {
            let held = specimen.open(&torn).unwrap();
            specimen.assert_has_groups_before(specimen.last(), &held);
        }
        // A single bit is no torn write; to refuse is as good.
        let flipped = [before, &[after[0] ^ 0x10], &after[1..]].concat();
        match specimen.open(&flipped) {
            Ok(held) => specimen.assert_has_groups_before(specimen.last(), &held),
            Err(error) => assert!(matches!(error, StoreError::Corrupted { .. }), "{error}"),
        }
    }
}

#[test]
fn damage_before_the_last_group_refuses_the_start_or_harms_nothing() {
    let specimen = Specimen::make();
    let mut refused = 0;
    for position in positions(0, specimen.last()) {
        for bit in [0x01, 0x80] {
            let mut damaged = specimen.journal.clone();
            damaged[position] ^= bit;
            match specimen.open(&damaged) {
                Ok(held) => assert_eq!(held.len(), specimen.ends.len(), "at {position}"),
                Err(error) => {
                    assert!(
                        matches!(error, StoreError::Corrupted { .. }),
                        "{position}: {error}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 0);
    assert_eq!(
        specimen.open(&specimen.journal).unwrap().len(),
        specimen.ends.len(),
        "a refused start changes nothing"
    );
}

#[test]
fn after_a_cut_the_store_writes_on() {
    let specimen = Specimen::make();
    let path = specimen.directory.path();
    let cut = specimen.journal.len() - 7;
    fs::write(journal(path), &specimen.journal[..cut]).unwrap();
    let (mut running, held) = Running::open(path);
    assert_eq!(held.len(), specimen.ends.len() - 1);
    assert!(running.put(binding(GROUPS)));
    running.store.close();
    let (_, held) = Running::open(path);
    assert!(held.contains_key(&key(GROUPS)));
    assert!(!held.contains_key(&key(GROUPS - 1)));
}

#[test]
fn damaged_tables_refuse_the_start_or_harm_nothing() {
    let directory = directory();
    let path = directory.path();
    let opened = Store::open_sized(StoreConfig::new(path), crate::support::SMALL).unwrap();
    let store = opened.start(|_, _| {}).unwrap();
    for number in 0..600 {
        store
            .submit(None, StoreWrite::Put(Box::new(binding(number))))
            .unwrap();
    }
    store.close();
    let tables: Vec<PathBuf> = files(&path.join("db/keyspaces"))
        .into_iter()
        .filter(|file| file.to_string_lossy().contains("/tables/"))
        .collect();
    assert!(!tables.is_empty(), "nothing was written as a table");
    let mut refused = 0;
    for table in tables {
        let whole = fs::read(&table).unwrap();
        for position in positions(0, whole.len()).step_by(5) {
            let mut damaged = whole.clone();
            damaged[position] ^= 0x20;
            fs::write(&table, &damaged).unwrap();
            let mut count = 0;
            let result = Store::open(StoreConfig::new(path)).and_then(|opened| {
                opened.load(0, |found| {
                    assert_eq!(found, binding(found.key.binding.0));
                    count += 1;
                })
            });
            match result {
                Ok(_) => assert_eq!(count, 600, "{} at {position}", table.display()),
                Err(error) => {
                    assert!(matches!(error, StoreError::Corrupted { .. }), "{error}");
                    refused += 1;
                }
            }
            fs::write(&table, &whole).unwrap();
        }
    }
    writeln!(std::io::stderr(), "{refused} damaged tables were refused").unwrap();
}

/// All files below a directory.
pub(crate) fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
