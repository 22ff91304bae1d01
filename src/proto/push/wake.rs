//! Wakes: one push per sleeping device, and those who wait for the device (RFC 8599 §5.3, §5.6.2).
//!
//! A wake begins with its first waiter and ends when the device has registered or nobody waits any
//! more. A second call joins the wake that runs: no second push. The waiters' deadlines are their
//! own (`ContextTimer::Wake`).
//! Invariant: a wake has at least one waiter; a push in `pushes` belongs to a wake that may be over.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ahash::RandomState;
use smallvec::SmallVec;

use crate::proto::effects::Effects;
use crate::proto::push::params::PushParams;
use crate::proto::push::{CallNotice, Notice, Pns, PushId, PushRequest, PushTarget};
use crate::proto::{BindingKey, Output};

/// Who waits: a branch of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// The context's number.
    pub context: u64,
    /// The branch's index.
    pub branch: u16,
}

/// All wakes of a shard.
#[derive(Debug)]
pub struct Wakes {
    shard: u16,
    running: HashMap<BindingKey, Wake, RandomState>,
    pushes: HashMap<u64, Sent, RandomState>,
    last: u64,
}

/// A push whose verdict is outstanding.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// The device.
    pub key: BindingKey,
    /// The service.
    pub pns: Pns,
    /// What it was for.
    pub notice: &'static str,
    /// When it was handed out.
    pub at: Instant,
}

#[derive(Debug)]
struct Wake {
    started: Instant,
    is_pushed: bool,
    waiters: SmallVec<[Waiter; 1]>,
}

impl Wakes {
    /// No wakes.
    #[must_use]
    pub fn new(shard: u16) -> Self {
        Self {
            shard,
            running: HashMap::default(),
            pushes: HashMap::default(),
            last: 0,
        }
    }

    /// Waits for a device without waking it.
    pub fn wait(&mut self, fx: &Effects<'_>, key: BindingKey, waiter: Waiter) {
        let wake = self.running.entry(key).or_insert_with(|| Wake {
            started: fx.now,
            is_pushed: false,
            waiters: SmallVec::new(),
        });
        if !wake.waiters.contains(&waiter) {
            wake.waiters.push(waiter);
        }
    }

    /// Waits for a device and wakes it, unless a push for it is under way; returns whether this
    /// call pushed.
    pub fn join(
        &mut self,
        fx: &mut Effects<'_>,
        key: BindingKey,
        waiter: Waiter,
        params: &PushParams,
        notice: CallNotice,
        lifetime: Duration,
    ) -> bool {
        self.wait(fx, key, waiter);
        match self.running.get_mut(&key) {
            Some(wake) if !wake.is_pushed => wake.is_pushed = true,
            Some(_) | None => return false,
        }
        self.push(fx, key, params, Notice::Call(notice), lifetime)
    }

    /// Sends one push to a device; returns whether the device has a token for it.
    pub fn push(
        &mut self,
        fx: &mut Effects<'_>,
        key: BindingKey,
        params: &PushParams,
        notice: Notice,
        lifetime: Duration,
    ) -> bool {
        let token = match &notice {
            Notice::Call(_) => &params.call_token,
            // A VoIP push that brings no call ends the app: never the call's token for these.
            Notice::Cancel(_)
            | Notice::Missed(_)
            | Notice::Message(_)
            | Notice::Refresh
            | Notice::Wake => {
                let Some(token) = &params.alert_token else {
                    return false;
                };
                token
            }
        };
        self.last += 1;
        let sent = Sent {
            key,
            pns: params.pns,
            notice: notice.label(),
            at: fx.now,
        };
        self.pushes.insert(self.last, sent);
        fx.output(Output::Push(Box::new(PushRequest {
            id: PushId {
                shard: self.shard,
                number: self.last,
            },
            target: PushTarget {
                pns: params.pns,
                app: params.app.clone(),
                detail: params.detail.clone(),
                token: token.clone(),
            },
            notice,
            lifetime,
        })));
        true
    }

    /// Takes a push off the list of those without a verdict.
    pub fn take_push(&mut self, id: PushId) -> Option<Sent> {
        self.pushes.remove(&id.number)
    }

    /// Those who wait for a device.
    #[must_use]
    pub fn waiters(&self, key: BindingKey) -> SmallVec<[Waiter; 1]> {
        self.running
            .get(&key)
            .map_or_else(SmallVec::new, |wake| wake.waiters.clone())
    }

    /// Allows another push for a device whose last one failed for now.
    pub fn rearm(&mut self, key: BindingKey) {
        if let Some(wake) = self.running.get_mut(&key) {
            wake.is_pushed = false;
        }
    }

    /// The device has registered: hands back those who waited, and for how long the wake ran.
    pub fn answered(
        &mut self,
        now: Instant,
        key: BindingKey,
    ) -> Option<(SmallVec<[Waiter; 1]>, Duration)> {
        let wake = self.running.remove(&key)?;
        Some((wake.waiters, now.saturating_duration_since(wake.started)))
    }

    /// One who waited does so no more.
    pub fn leave(&mut self, key: BindingKey, waiter: Waiter) {
        if let Some(wake) = self.running.get_mut(&key) {
            wake.waiters.retain(|other| *other != waiter);
            if wake.waiters.is_empty() {
                self.running.remove(&key);
            }
        }
    }

    /// How many devices are being woken or waited for.
    #[must_use]
    pub fn count(&self) -> usize {
        self.running.len()
    }
}
