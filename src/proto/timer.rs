//! The timers of one shard: they fire in the order of their time, and of their arming.
//!
//! Time is an input: nothing here reads a clock. Names are RFC 3261's letters.
//! Nearly all timers are of few lengths (T1, T4, 64*T1, Timer C), and of one length the first that
//! is armed is the first that is due: each length has a lane, a plain queue, so that arming,
//! cancelling and firing are O(1). What is due at any other time is in an ordered map.
//! Invariants: when nothing is in flight the queue holds only `Binding`, `Resolve` and `Health`
//! timers; the front of a lane is armed; a lane is in order.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::proto::transaction::{ClientId, ServerId};
use crate::proto::{AorId, BindingKey, FlowId};

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
    /// A request has waited long enough for its agent's first device.
    Early(AorId, ServerId),
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

/// How many lengths have a lane at once.
const LANES: usize = 16;
/// How many cancelled timers a lane keeps before it is swept.
const SWEEP: usize = 64;
/// The slot of a timer that is in the ordered map.
const NO_SLOT: u32 = u32::MAX;

/// Names one armed timer, to cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerKey {
    at: Instant,
    /// Its slot, and the lower half of its sequence number: in one, which leaves the enums that
    /// hold a key their place for a tag.
    id: u64,
}

impl TimerKey {
    /// When the timer is due.
    #[must_use]
    pub const fn due(self) -> Instant {
        self.at
    }

    const fn slot(self) -> u32 {
        (self.id >> 32) as u32
    }

    const fn mark(self) -> u32 {
        self.id as u32
    }
}

/// The queue.
#[derive(Debug, Default)]
pub struct TimerQueue {
    /// The timers of the lanes.
    armed: Slab<Armed>,
    lanes: Vec<Lane>,
    /// The others, by when they are due.
    others: BTreeMap<Order, Timer>,
    /// The first to fire, and where it is.
    earliest: Option<(Order, Place)>,
    sequence: u64,
}

/// What timers are sorted by: when they are due, and in which order they were armed.
type Order = (Instant, u64);

#[derive(Debug)]
struct Armed {
    order: Order,
    lane: usize,
    timer: Timer,
}

/// Timers of one length, in the order in which they were armed.
#[derive(Debug)]
struct Lane {
    after: Duration,
    queue: VecDeque<Entry>,
    /// How many of them were cancelled.
    cancelled: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    order: Order,
    slot: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Lane(usize),
    Others,
}

impl TimerQueue {
    /// Arms a timer that is due `after` from now and returns its name.
    pub fn arm_after(&mut self, now: Instant, after: Duration, timer: Timer) -> TimerKey {
        let at = now + after;
        let slot = self.armed.vacant_key();
        let (Some(lane), Ok(short)) = (self.lane(after, at), u32::try_from(slot)) else {
            return self.arm(at, timer);
        };
        let order = self.next_order(at);
        self.armed.insert(Armed { order, lane, timer });
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.queue.push_back(Entry { order, slot: short });
        }
        self.is_armed(order, Place::Lane(lane));
        key(order, short)
    }

    /// Arms a timer that is due at any time and returns its name.
    pub fn arm(&mut self, at: Instant, timer: Timer) -> TimerKey {
        let order = self.next_order(at);
        self.others.insert(order, timer);
        self.is_armed(order, Place::Others);
        key(order, NO_SLOT)
    }

    /// Cancels a timer; one that has fired already is ignored.
    pub fn cancel(&mut self, key: TimerKey) {
        if key.slot() == NO_SLOT {
            let same_time = (key.at, 0)..=(key.at, u64::MAX);
            let mut orders = self.others.range(same_time).map(|(order, _)| *order);
            if let Some(order) = orders.find(|(_, sequence)| *sequence as u32 == key.mark()) {
                self.others.remove(&order);
                self.is_gone(order);
            }
            return;
        }
        let slot = key.slot() as usize;
        let Some(armed) = self.armed.get(slot) else {
            return;
        };
        let (order, lane) = (armed.order, armed.lane);
        if order.0 == key.at && order.1 as u32 == key.mark() {
            self.armed.remove(slot);
            self.sweep(lane);
            self.is_gone(order);
        }
    }

    /// Takes the earliest timer that is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let (order, place) = self.earliest.filter(|((at, _), _)| *at <= now)?;
        let timer = match place {
            Place::Others => self.others.remove(&order),
            Place::Lane(lane) => self.pop_front(lane),
        };
        self.is_gone(order);
        timer
    }

    /// Returns when the earliest timer is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.earliest.map(|((at, _), _)| at)
    }

    /// Returns every armed timer, earliest first: for invariant checks.
    pub fn iter(&self) -> impl Iterator<Item = (Instant, Timer)> + '_ {
        let others = self.others.iter().map(|(order, timer)| (*order, *timer));
        let lanes = self
            .armed
            .iter()
            .map(|(_, armed)| (armed.order, armed.timer));
        let mut all: Vec<_> = others.chain(lanes).collect();
        all.sort_by_key(|(order, _)| *order);
        all.into_iter().map(|((at, _), timer)| (at, timer))
    }

    fn next_order(&mut self, at: Instant) -> Order {
        self.sequence += 1;
        (at, self.sequence)
    }

    /// The lane of a length, if its last timer is not due later than this one.
    fn lane(&mut self, after: Duration, at: Instant) -> Option<usize> {
        let found = self.lanes.iter().position(|lane| lane.after == after);
        let free = || self.lanes.iter().position(|lane| lane.queue.is_empty());
        let index = match found.or_else(free) {
            Some(index) => index,
            None if self.lanes.len() < LANES => {
                self.lanes.push(Lane {
                    after,
                    queue: VecDeque::new(),
                    cancelled: 0,
                });
                self.lanes.len() - 1
            }
            None => return None,
        };
        let lane = self.lanes.get_mut(index)?;
        let is_in_order = lane.queue.back().is_none_or(|last| last.order.0 <= at);
        if is_in_order {
            lane.after = after;
        }
        is_in_order.then_some(index)
    }

    fn pop_front(&mut self, lane: usize) -> Option<Timer> {
        let entry = self.lanes.get_mut(lane)?.queue.pop_front()?;
        let armed = self.armed.try_remove(entry.slot as usize)?;
        self.clear_front(lane);
        Some(armed.timer)
    }

    /// A timer of a lane was cancelled: its entry stays until it is in front, or many are there.
    fn sweep(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else {
            return;
        };
        lane.cancelled += 1;
        if lane.cancelled > SWEEP && lane.cancelled > lane.queue.len() / 2 {
            let armed = &self.armed;
            lane.queue.retain(|entry| is_live(armed, entry));
            lane.cancelled = 0;
        }
        self.clear_front(index);
    }

    fn clear_front(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else {
            return;
        };
        while let Some(entry) = lane.queue.front()
            && !is_live(&self.armed, entry)
        {
            lane.queue.pop_front();
            lane.cancelled = lane.cancelled.saturating_sub(1);
        }
    }

    fn is_armed(&mut self, order: Order, place: Place) {
        if self.earliest.is_none_or(|(first, _)| order < first) {
            self.earliest = Some((order, place));
        }
    }

    /// A timer fired or was cancelled: if it was the earliest, another one is.
    fn is_gone(&mut self, order: Order) {
        if self.earliest.is_none_or(|(first, _)| first != order) {
            return;
        }
        let fronts = self.lanes.iter().enumerate().filter_map(|(index, lane)| {
            let order = lane.queue.front()?.order;
            Some((order, Place::Lane(index)))
        });
        let other = self.others.first_key_value();
        let other = other.map(|(order, _)| (*order, Place::Others));
        self.earliest = fronts.chain(other).min_by_key(|(order, _)| *order);
    }
}

fn key((at, sequence): Order, slot: u32) -> TimerKey {
    let id = u64::from(slot) << 32 | (sequence & 0xffff_ffff);
    TimerKey { at, id }
}

fn is_live(armed: &Slab<Armed>, entry: &Entry) -> bool {
    let armed = armed.get(entry.slot as usize);
    armed.is_some_and(|armed| armed.order == entry.order)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    /// A plain ordered map: what the lanes must agree with.
    #[derive(Default)]
    struct Plain {
        armed: BTreeMap<(Instant, usize), Timer>,
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A length of the usual ones, or any.
        Arm {
            after: u64,
            is_lane: bool,
        },
        /// One of those armed so far, live or not.
        Cancel(prop::sample::Index),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let usual = prop::sample::select(vec![0, 5, 500, 5000, 32_000, 180_000]);
        prop_oneof![
            4 => usual.prop_map(|after| Step::Arm { after, is_lane: true }),
            2 => (0_u64..40_000).prop_map(|after| Step::Arm { after, is_lane: true }),
            1 => (0_u64..40_000).prop_map(|after| Step::Arm { after, is_lane: false }),
            5 => any::<prop::sample::Index>().prop_map(Step::Cancel),
            2 => (0_u64..20_000).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn lanes_fire_as_one_ordered_map_does(steps in prop::collection::vec(step(), 1..400)) {
            let (mut now, mut queue, _) = queue(&[]);
            let mut plain = Plain::default();
            let mut keys = Vec::new();
            for step in steps {
                match step {
                    Step::Arm { after, is_lane } => {
                        let after = Duration::from_millis(after);
                        let timer = Timer::Context(keys.len() as u64, ContextTimer::C(0));
                        let key = if is_lane {
                            queue.arm_after(now, after, timer)
                        } else {
                            queue.arm(now + after, timer)
                        };
                        prop_assert_eq!(key.due(), now + after);
                        plain.armed.insert((now + after, keys.len()), timer);
                        keys.push((key, (now + after, keys.len())));
                    }
                    Step::Cancel(which) if !keys.is_empty() => {
                        let (key, order) = keys[which.index(keys.len())];
                        queue.cancel(key);
                        plain.armed.remove(&order);
                    }
                    Step::Cancel(_) => {}
                    Step::Pass(millis) => now += Duration::from_millis(millis),
                }
                while let Some(timer) = queue.pop_due(now) {
                    let first = plain.armed.pop_first();
                    prop_assert_eq!(first.map(|(_, timer)| timer), Some(timer));
                }
                let next = plain.armed.first_key_value().map(|((at, _), _)| *at);
                prop_assert_eq!(queue.next(), next);
                prop_assert!(next.is_none_or(|at| at > now));
                let all: Vec<_> = plain.armed.iter().map(|((at, _), timer)| (*at, *timer)).collect();
                prop_assert_eq!(queue.iter().collect::<Vec<_>>(), all);
            }
        }
    }

    #[test]
    fn cancelled_timers_leave_no_more_behind_than_there_are_live_ones() {
        let (now, mut queue, _) = queue(&[]);
        let after = Duration::from_secs(180);
        queue.arm_after(now, after, Timer::Resolve(0));
        for _ in 0..10_000 {
            let key = queue.arm_after(now, after, Timer::Resolve(1));
            queue.cancel(key);
        }
        assert!(queue.lanes[0].queue.len() <= 2 * SWEEP + 2);
        assert_eq!(queue.iter().count(), 1);
    }

    #[test]
    fn the_name_of_a_timer_is_small() {
        assert_eq!(size_of::<TimerKey>(), 24);
    }
}
