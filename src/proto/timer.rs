//! The timers of one shard: one ordered queue, O(log n) to arm, cancel and fire.
//!
//! Time is an input: nothing here reads a clock. Names are RFC 3261's letters.
//! Invariant: when nothing is in flight the queue holds only `Binding`, `Resolve` and `Health` timers.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::proto::transaction::{ClientId, ServerId};
use crate::proto::{BindingKey, FlowId};

/// A timer of a transaction (RFC 3261 §17 and table 4, RFC 6026 §8.4 and §8.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Letter {
    /// INVITE request retransmission, UDP only.
    A,
    /// INVITE transaction timeout.
    B,
    /// Wait for response retransmissions, INVITE client.
    D,
    /// Non-INVITE request retransmission, UDP only.
    E,
    /// Non-INVITE transaction timeout.
    F,
    /// INVITE response retransmission.
    G,
    /// Wait for the ACK.
    H,
    /// Wait for ACK retransmissions.
    I,
    /// Wait for non-INVITE request retransmissions.
    J,
    /// Wait for response retransmissions, non-INVITE client.
    K,
    /// Wait for accepted INVITE retransmissions (RFC 6026 §8.7).
    L,
    /// Wait for retransmissions of 2xx (RFC 6026 §8.4).
    M,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// A binding's expiry or refresh push is due.
    Binding(BindingKey),
    /// A client transaction's timer.
    Client(ClientId, Letter),
    /// A context's own deadline (proxy: wake, probe, grace, Timer C), by the context's number.
    Context(u64, ContextTimer),
    /// An upstream node that failed is to be asked whether it is back.
    Health(u16),
    /// No further 2xx of an answered INVITE is awaited.
    LateAnswer(ClientId),
    /// An upstream node's DNS answer is stale.
    Resolve(u16),
    /// A server transaction's timer.
    Server(ServerId, Letter),
    /// A flow that its agent has left under a request carries no copy of it any more.
    Unbind(FlowId),
}

/// A deadline of a response context or of one of its branches (the branch's index).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContextTimer {
    /// Timer C of a branch (RFC 3261 §16.6 step 11).
    C(u16),
    /// Its caller has given up and waits no longer for the branch's end.
    Cancel(u16),
    /// A live flow gave no 1xx: push as well.
    Grace(u16),
    /// A woken phone whose call is over need not come any more.
    Late(u16),
    /// A pinged flow gave no answer: push.
    Probe(u16),
    /// Another push may be tried.
    Retry(u16),
    /// A phone was not woken in time.
    Wake(u16),
}

/// Names one armed timer, to cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerKey {
    at: Instant,
    sequence: u64,
}

impl TimerKey {
    /// When the timer is due.
    #[must_use]
    pub const fn due(self) -> Instant {
        self.at
    }
}

/// The queue.
#[derive(Debug, Default)]
pub struct TimerQueue {
    armed: BTreeMap<TimerKey, Timer>,
    sequence: u64,
}

impl TimerQueue {
    /// Arms a timer and returns its name.
    pub fn arm(&mut self, at: Instant, timer: Timer) -> TimerKey {
        self.sequence += 1;
        let key = TimerKey {
            at,
            sequence: self.sequence,
        };
        self.armed.insert(key, timer);
        key
    }

    /// Cancels a timer; one that has fired already is ignored.
    pub fn cancel(&mut self, key: TimerKey) {
        self.armed.remove(&key);
    }

    /// Takes the earliest timer that is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let (key, _) = self.armed.first_key_value()?;
        if key.at > now {
            return None;
        }
        self.armed.pop_first().map(|(_, timer)| timer)
    }

    /// Returns when the earliest timer is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.armed.first_key_value().map(|(key, _)| key.at)
    }

    /// Returns every armed timer, earliest first: for invariant checks.
    pub fn iter(&self) -> impl Iterator<Item = (Instant, Timer)> + '_ {
        self.armed.iter().map(|(key, timer)| (key.at, *timer))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn queue(after: &[u64]) -> (Instant, TimerQueue, Vec<TimerKey>) {
        #[expect(
            clippy::disallowed_methods,
            reason = "virtual time has to start somewhere"
        )]
        let start = Instant::now();
        let mut queue = TimerQueue::default();
        let keys = after
            .iter()
            .zip(0..)
            .map(|(millis, node)| {
                queue.arm(start + Duration::from_millis(*millis), Timer::Resolve(node))
            })
            .collect();
        (start, queue, keys)
    }

    #[test]
    fn timers_fire_in_the_order_of_time_and_then_of_arming() {
        let (start, mut queue, _) = queue(&[20, 10, 20, 5]);
        let late = start + Duration::from_millis(20);
        let fired: Vec<_> = std::iter::from_fn(|| queue.pop_due(late)).collect();
        assert_eq!(fired, [3, 1, 0, 2].map(Timer::Resolve));
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_timer_fires_at_its_instant_and_not_before() {
        let (start, mut queue, _) = queue(&[10]);
        let due = start + Duration::from_millis(10);
        assert_eq!(queue.next(), Some(due));
        assert_eq!(queue.pop_due(due - Duration::from_nanos(1)), None);
        assert_eq!(queue.pop_due(due), Some(Timer::Resolve(0)));
        assert_eq!(queue.pop_due(due), None);
    }

    #[test]
    fn a_cancelled_timer_is_gone_and_cancelling_again_harms_no_other() {
        let (start, mut queue, keys) = queue(&[10, 10]);
        queue.cancel(keys[0]);
        queue.cancel(keys[0]);
        let due = start + Duration::from_millis(10);
        assert_eq!(queue.iter().collect::<Vec<_>>(), [(due, Timer::Resolve(1))]);
        assert_eq!(queue.pop_due(due), Some(Timer::Resolve(1)));
        queue.cancel(keys[1]);
        assert_eq!(queue.next(), None);
    }
}
