//! The thread that writes: gathers a group, makes it durable, reports it.
//!
//! A group that fails is reported as not durable and forgotten: who waits for it says so to the
//! phone, which registers again. Removals are remembered and written with the next group that
//! succeeds, for nobody would ask for them again.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use crate::io::clock::Clock;
use crate::io::store::StoreStats;
use crate::io::store::database::{Change, Changes, WriteError};
use crate::io::store::files::Files;
use crate::io::store::schema::{self, Extension, RawKey};
use crate::proto::{StoreTicket, StoreWrite};

/// A group is written when it has so many writes, window or not.
const GROUP: usize = 4096;
/// The pause between attempts to open the database again.
const RETRY: Duration = Duration::from_millis(500);
/// Removals that are remembered after a failure; more are forgotten and end by expiry.
const OWED: usize = 65_536;

/// What the queue carries.
pub(super) enum Job {
    /// A write.
    Write {
        /// Who waits.
        ticket: Option<StoreTicket>,
        /// What to write.
        write: StoreWrite,
    },
    /// Write what came before and end.
    Close,
}

/// The thread's state.
pub(super) struct Writer {
    files: Files,
    jobs: Receiver<Job>,
    window: Duration,
    report: Box<dyn FnMut(StoreTicket, bool) + Send>,
    stats: Arc<StoreStats>,
    changes: Changes,
    tickets: Vec<StoreTicket>,
    writes: u64,
    /// Removals that failed.
    owed: BTreeSet<RawKey>,
    /// Not before this is the database opened again.
    retry_at: Option<Instant>,
    hurry: Arc<AtomicBool>,
    closing: bool,
}

impl Writer {
    pub(super) fn new(
        files: Files,
        jobs: Receiver<Job>,
        window: Duration,
        report: Box<dyn FnMut(StoreTicket, bool) + Send>,
        (stats, hurry): (Arc<StoreStats>, Arc<AtomicBool>),
    ) -> Self {
        Self {
            files,
            jobs,
            window,
            report,
            stats,
            changes: Changes::new(),
            tickets: Vec::new(),
            writes: 0,
            owed: BTreeSet::new(),
            retry_at: None,
            hurry,
            closing: false,
        }
    }

    /// Works until the store is closed or its last handle is dropped.
    pub(super) fn run(mut self) {
        while !self.closing {
            self.gather();
            self.commit();
        }
    }

    /// Waits for a first write, then lets others join it until one comes that a call waits for: a
    /// woken phone need not wait. One sleep, not a wake-up for each write.
    fn gather(&mut self) {
        let first = if self.owed.is_empty() {
            self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            self.jobs.recv_timeout(RETRY)
        };
        match first {
            Ok(job) => self.take(job),
            Err(RecvTimeoutError::Disconnected) => self.closing = true,
            Err(RecvTimeoutError::Timeout) => return,
        }
        self.linger();
        while self.writes < GROUP as u64 && !self.closing {
            match self.jobs.try_recv() {
                Ok(job) => self.take(job),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.closing = true,
            }
        }
    }

    /// Sleeps for the window, or until somebody is in a hurry.
    fn linger(&mut self) {
        let end = Clock::now() + self.window;
        // What hurries is in the queue by then, and is written with the group.
        while !self.closing && !self.hurry.swap(false, Ordering::Acquire) {
            let left = end.saturating_duration_since(Clock::now());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Close => self.closing = true,
            Job::Write { ticket, write } => {
                self.writes += 1;
                self.tickets.extend(ticket);
                join(&mut self.changes, write);
            }
        }
    }

    /// Writes the group and says how it went.
    fn commit(&mut self) {
        for key in &self.owed {
            self.changes.entry(*key).or_insert(Change::Remove);
        }
        if self.changes.is_empty() && self.tickets.is_empty() {
            return;
        }
        let durable = match self.attempt() {
            Ok(()) => {
                self.owed.clear();
                true
            }
            Err(()) => {
                self.remember_removals();
                false
            }
        };
        let counter = if durable {
            &self.stats.durable
        } else {
            &self.stats.failed
        };
        counter.fetch_add(self.writes, Ordering::Relaxed);
        self.stats.groups.fetch_add(1, Ordering::Relaxed);
        self.stats
            .failing
            .store(u64::from(!durable), Ordering::Relaxed);
        for ticket in self.tickets.drain(..) {
            (self.report)(ticket, durable);
        }
        self.changes.clear();
        self.writes = 0;
    }

    fn attempt(&mut self) -> Result<(), ()> {
        if !self.files.is_open() {
            if self.retry_at.is_some_and(|at| Clock::now() < at) {
                return Err(());
            }
            if let Err(error) = self.files.reopen() {
                self.retry_at = Some(Clock::now() + RETRY);
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the store stays closed"
                );
                return Err(());
            }
        }
        match self.files.write(&self.changes) {
            Ok(()) => {
                if self.stats.failing.load(Ordering::Relaxed) != 0 {
                    tracing::info!("the store writes again");
                }
                Ok(())
            }
            Err(error) => {
                self.retry_at = Some(Clock::now() + RETRY);
                self.complain(&error);
                Err(())
            }
        }
    }

    /// One line when it begins; it may go on for hours.
    fn complain(&self, error: &WriteError) {
        if self.stats.failing.load(Ordering::Relaxed) == 0 {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                writes = self.writes,
                "the store cannot write: registrations are refused"
            );
        }
    }

    fn remember_removals(&mut self) {
        for (key, change) in &self.changes {
            match change {
                Change::Remove if self.owed.len() < OWED => {
                    self.owed.insert(*key);
                }
                // A call that stays is taken up again and found over.
                Change::Extend(_)
                | Change::Put(_)
                | Change::Remove
                | Change::Hold(_)
                | Change::Release => {}
            }
        }
    }
}

/// Joins a write to the group: the last word on a binding counts.
fn join(changes: &mut Changes, write: StoreWrite) {
    match write {
        StoreWrite::Put(binding) => {
            changes.insert(schema::encode_key(binding.key), Change::Put(binding));
        }
        StoreWrite::Remove(key) => {
            changes.insert(schema::encode_key(key), Change::Remove);
        }
        StoreWrite::Hold(call) => {
            changes.insert(call.id.0.to_be_bytes(), Change::Hold(call));
        }
        StoreWrite::Release(id) => {
            changes.insert(id.0.to_be_bytes(), Change::Release);
        }
        StoreWrite::Extend {
            key,
            expires_unix,
            registered_ms,
        } => extend(
            changes.entry(schema::encode_key(key)),
            Extension {
                expires_unix,
                registered_ms,
            },
        ),
    }
}

fn extend(entry: Entry<'_, RawKey, Change>, extension: Extension) {
    match entry {
        Entry::Vacant(vacant) => {
            vacant.insert(Change::Extend(extension));
        }
        Entry::Occupied(mut occupied) => match occupied.get_mut() {
            Change::Extend(earlier) => *earlier = extension,
            Change::Put(binding) => {
                binding.expires_unix = extension.expires_unix;
                binding.registered_ms = extension.registered_ms;
            }
            Change::Remove | Change::Hold(_) | Change::Release => {}
        },
    }
}
