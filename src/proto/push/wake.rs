//! Wakes: one push per sleeping device, and those who wait for the device (RFC 8599 §5.3, §5.6.2).
//!
//! A wake begins with its first waiter and ends when the device has registered or nobody waits any
//! more. A second call joins the wake that runs: no second push. The waiters' deadlines are their
//! own (`ContextTimer::Wake`).
//! Invariant: a wake has at least one waiter; a push in `pushes` belongs to a wake that may be over.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use ahash::RandomState;
use smallvec::SmallVec;

use crate::proto::effects::Effects;
use crate::proto::push::params::PushParams;
use crate::proto::push::rate::Budget;
use crate::proto::push::{CallNotice, Notice, Pns, Prid, PushId, PushRequest, PushTarget};
use crate::proto::{AorId, AppId, BindingKey, Output};

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
    /// Who is woken, by the agent and the app.
    woken: HashMap<(AorId, AppId), BindingKey, RandomState>,
    pushes: HashMap<u64, Sent, RandomState>,
    last: u64,
    budget: Budget,
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was handed out.
    Sent,
    /// The device has no token for it.
    NoToken,
    /// One is under way, or will be when its service may be asked again.
    UnderWay,
    /// The device was pushed too often lately.
    Limited {
        /// When it may be pushed again.
        after: Duration,
    },
}

/// A push whose verdict is outstanding.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The device.
    pub key: BindingKey,
    /// The service.
    pub pns: Pns,
    /// The token that it went to.
    pub token: Prid,
    /// What it was for.
    pub notice: &'static str,
    /// When it was handed out.
    pub at: Instant,
    /// The same, milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// What the device is told once this was taken, and how long that is worth delivering: of the
    /// calls that shared it and are over, bounded as those are.
    pub then: Vec<(Notice, Duration)>,
}

#[derive(Debug)]
struct Wake {
    started: Instant,
    is_pushed: bool,
    /// The number of its last push.
    push: Option<u64>,
    /// Its last push failed: when the next may go.
    retry_at: Option<Instant>,
    failures: u32,
    /// What its pushes wake.
    app: Option<AppId>,
    waiters: SmallVec<[Waiter; 1]>,
}

impl Wakes {
    /// No wakes; a device is pushed so often in a minute.
    #[must_use]
    pub fn new(shard: u16, per_minute: u32) -> Self {
        Self {
            budget: Budget::new(per_minute),
            shard,
            running: HashMap::default(),
            woken: HashMap::default(),
            pushes: HashMap::default(),
            last: 0,
        }
    }

    /// Changes how many pushes a device gets in a minute.
    pub fn set_pushes_per_device(&mut self, per_minute: u32) {
        self.budget.set_per_minute(per_minute);
    }

    /// Waits for a device without waking it.
    pub fn wait(&mut self, fx: &Effects<'_>, key: BindingKey, waiter: Waiter) {
        let wake = self.running.entry(key).or_insert_with(|| Wake {
            started: fx.now,
            is_pushed: false,
            push: None,
            retry_at: None,
            failures: 0,
            app: None,
            waiters: SmallVec::new(),
        });
        if !wake.waiters.contains(&waiter) {
            wake.waiters.push(waiter);
        }
    }

    /// Waits for a device and wakes it, unless a push for it is under way.
    pub fn join(
        &mut self,
        fx: &mut Effects<'_>,
        key: BindingKey,
        waiter: Waiter,
        params: &PushParams,
        notice: CallNotice,
        lifetime: Duration,
    ) -> Pushed {
        self.wait(fx, key, waiter);
        match self.running.get_mut(&key) {
            Some(wake) if !wake.is_pushed => {
                wake.is_pushed = true;
                let app = params.wakes();
                if let Some(old) = wake.app.replace(app) {
                    self.woken.remove(&(key.aor, old));
                }
                self.woken.insert((key.aor, app), key);
            }
            Some(_) | None => return Pushed::UnderWay,
        }
        let pushed = self.push(fx, key, params, Notice::Call(notice), lifetime);
        if let (Pushed::Sent, Some(wake)) = (pushed, self.running.get_mut(&key)) {
            wake.push = Some(self.last);
        }
        pushed
    }

    /// Has a device told something once the push for the call that it waits for was taken; hands
    /// the notice back if there is no such push without a verdict.
    ///
    /// # Errors
    /// The notice.
    pub fn after_call(
        &mut self,
        key: BindingKey,
        notice: Notice,
        lifetime: Duration,
    ) -> Result<(), Notice> {
        let push = self.running.get(&key).and_then(|wake| wake.push);
        match push.and_then(|push| self.pushes.get_mut(&push)) {
            Some(sent) => {
                sent.then.push((notice, lifetime));
                Ok(())
            }
            None => Err(notice),
        }
    }

    /// Sends one push to a device, if it has a token for it.
    pub fn push(
        &mut self,
        fx: &mut Effects<'_>,
        key: BindingKey,
        params: &PushParams,
        notice: Notice,
        lifetime: Duration,
    ) -> Pushed {
        let token = match &notice {
            Notice::Call(_) => &params.call_token,
            // A VoIP push that brings no call ends the app: never the call's token for these.
            Notice::Cancel(_)
            | Notice::Missed(_)
            | Notice::Message(_)
            | Notice::Refresh
            | Notice::Wake => {
                let Some(token) = &params.alert_token else {
                    return Pushed::NoToken;
                };
                token
            }
        };
        let is_call = matches!(notice, Notice::Call(_));
        if let Err(after) = self.budget.take(fx.now, params.wakes(), is_call) {
            return Pushed::Limited { after };
        }
        self.last += 1;
        let sent = Sent {
            key,
            pns: params.pns,
            token: token.clone(),
            notice: notice.label(),
            at: fx.now,
            unix_ms: fx.unix_ms,
            then: Vec::new(),
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
        Pushed::Sent
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

    /// A push failed for now: returns when the next may go, which is what the service asked for or,
    /// if that is less, ever longer within `waits`.
    pub fn back_off(
        &mut self,
        now: Instant,
        key: BindingKey,
        asked: Duration,
        waits: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(wake) = self.running.get_mut(&key) else {
            return asked;
        };
        let wait = *waits.start() * (1 << wake.failures.min(16));
        wake.failures += 1;
        let after = asked.max(wait.min(*waits.end()));
        self.retry(now, key, after);
        after
    }

    /// The next push for a device may go after a time.
    pub fn retry(&mut self, now: Instant, key: BindingKey, after: Duration) {
        if let Some(wake) = self.running.get_mut(&key) {
            wake.retry_at = Some(now + after);
        }
    }

    /// Allows the push for which the time has come; returns whether there is one.
    pub fn rearm(&mut self, now: Instant, key: BindingKey) -> bool {
        let Some(wake) = self.running.get_mut(&key) else {
            return false;
        };
        if wake.retry_at.is_none_or(|at| at > now) {
            return false;
        }
        wake.retry_at = None;
        wake.is_pushed = false;
        true
    }

    /// The device has registered: hands back those who waited, and for how long the wake ran.
    pub fn answered(
        &mut self,
        fx: &mut Effects<'_>,
        key: BindingKey,
    ) -> Option<(SmallVec<[Waiter; 1]>, Duration)> {
        let wake = self.end(fx, key)?;
        Some((wake.waiters, fx.now.saturating_duration_since(wake.started)))
    }

    /// One who waited does so no more.
    pub fn leave(&mut self, fx: &mut Effects<'_>, key: BindingKey, waiter: Waiter) {
        let Some(wake) = self.running.get_mut(&key) else {
            return;
        };
        wake.waiters.retain(|other| *other != waiter);
        if wake.waiters.is_empty() {
            self.end(fx, key);
        }
    }

    /// The device of an agent that is being woken by that app's token.
    #[must_use]
    pub fn device_of(&self, aor: AorId, app: AppId) -> Option<BindingKey> {
        self.woken.get(&(aor, app)).copied()
    }

    /// A wake is over: its push is of no use if it has not left.
    fn end(&mut self, fx: &mut Effects<'_>, key: BindingKey) -> Option<Wake> {
        let wake = self.running.remove(&key)?;
        if let Some(app) = wake.app {
            self.woken.remove(&(key.aor, app));
        }
        if let Some(number) = wake.push.filter(|push| self.pushes.contains_key(push)) {
            fx.output(Output::Withdraw(PushId {
                shard: self.shard,
                number,
            }));
        }
        Some(wake)
    }

    /// How many devices are being woken or waited for.
    #[must_use]
    pub fn count(&self) -> usize {
        self.running.len()
    }
}
