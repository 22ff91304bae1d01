//! The way in: from sockets to the shards' queues.
//!
//! Each shard has two bounded queues. `network` takes what peers send: streams wait for room
//! (back-pressure to the peer), datagrams are dropped and counted. `answers` takes what somebody
//! of ours waits for and is therefore never dropped. The end of a flow goes through `network`, so
//! that it comes after the flow's last message.
//!
//! Who has put something into a shard's queues then attends to the shard: a shard that nobody runs
//! is run on the spot, which spares the hand-over to another task and its wake-ups. A shard with
//! many inputs waiting is left to its own task, so that reading and deciding go on side by side.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};

use ahash::RandomState;
use bytes::Bytes;
use dashmap::DashMap;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::io::transport::connection::Report;
use crate::io::transport::counts::Counts;
use crate::io::transport::inherit::{Predecessor, Stray};
use crate::io::transport::wire::Tap;
use crate::proto::registration::purr::Purrs;
use crate::proto::shard::{Shards, bit, route};
use crate::proto::sip::{Message, ParseError};
use crate::proto::{CloseReason, Flow, FlowId, Input, ListenerId};

/// How many shards there can be: a flow's shards are a bit mask.
pub const MAX_SHARDS: u16 = 64;

/// Inputs that may wait for a shard and still be taken by whoever brought them.
const ON_THE_SPOT: usize = 16;

/// A shard that can be run by whoever has brought it an input.
pub trait Attend: Send + Sync {
    /// Takes what waits, unless somebody is at it, who then takes it too.
    fn attend(&self);
    /// Has the shard's own task take what waits.
    fn ring(&self);
}

/// The ends of one shard's queues that are written to.
#[derive(Clone, Debug)]
pub struct ShardQueues {
    /// What peers send.
    pub network: mpsc::Sender<Input>,
    /// What the shard asked for.
    pub answers: mpsc::Sender<Input>,
}

/// Hands inputs to the shards.
pub struct Inlet {
    shards: Vec<ShardQueues>,
    purrs: Purrs,
    /// Who reads the queues; without any, somebody else does.
    attendants: OnceLock<Vec<Weak<dyn Attend>>>,
    /// Shards with an agent registered over a datagram flow; a connection keeps its own mask.
    datagrams: DashMap<(ListenerId, SocketAddr), u64, RandomState>,
    pub(super) counts: Counts,
    pub(super) tap: Arc<Tap>,
    /// The process that served before us, as long as it has calls.
    predecessor: Option<Arc<Predecessor>>,
    /// The bound addresses of the listeners, if there is a predecessor.
    addresses: Vec<SocketAddr>,
}

impl Inlet {
    /// Makes an inlet to these shards, in order; at most [`MAX_SHARDS`] are used. `key` is the
    /// gateway's, which its PURRs are made with.
    #[must_use]
    pub fn new(mut shards: Vec<ShardQueues>, key: &[u8; 32], counts: Counts) -> Self {
        shards.truncate(usize::from(MAX_SHARDS));
        Self {
            shards,
            purrs: Purrs::new(key),
            attendants: OnceLock::new(),
            datagrams: DashMap::default(),
            counts,
            tap: Arc::default(),
            predecessor: None,
            addresses: Vec::new(),
        }
    }

    /// Passes on what is for the process that served before us; `addresses` are the listeners'.
    #[must_use]
    pub fn succeeding(
        mut self,
        predecessor: Option<Arc<Predecessor>>,
        addresses: &[SocketAddr],
    ) -> Self {
        self.predecessor = predecessor;
        self.addresses = addresses.to_vec();
        self
    }

    /// What shows messages to whoever watches.
    #[must_use]
    pub const fn tap(&self) -> &Arc<Tap> {
        &self.tap
    }

    /// Whether no shard has input from the network waiting.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let mut queues = self.shards.iter().map(|queues| &queues.network);
        queues.all(|queue| queue.capacity() == queue.max_capacity())
    }

    /// Names those who read the queues, in the order of the shards; the first call counts.
    pub fn attended_by(&self, attendants: Vec<Weak<dyn Attend>>) {
        if self.attendants.set(attendants).is_err() {
            tracing::debug!("the shards are attended to already");
        }
    }

    /// Hands an answer to the shard that waits for it.
    pub async fn answer(&self, shard: u16, input: Input) {
        let Some(queues) = self.shards.get(usize::from(shard)) else {
            return;
        };
        match queues.answers.try_send(input) {
            Ok(()) => {}
            Err(TrySendError::Full(input)) => {
                self.ring(shard);
                if queues.answers.send(input).await.is_err() {
                    tracing::debug!(shard, "answer for a shard that has ended");
                }
            }
            Err(TrySendError::Closed(_)) => {
                tracing::debug!(shard, "answer for a shard that has ended");
            }
        }
        self.attend(shard);
    }

    /// As [`Inlet::answer`], for those who cannot wait in a task: blocks while the queue is full.
    pub fn answer_blocking(&self, shard: u16, input: Input) {
        let Some(queues) = self.shards.get(usize::from(shard)) else {
            return;
        };
        match queues.answers.try_send(input) {
            Ok(()) => {}
            Err(TrySendError::Full(input)) => {
                self.ring(shard);
                if queues.answers.blocking_send(input).is_err() {
                    tracing::debug!(shard, "answer for a shard that has ended");
                }
            }
            Err(TrySendError::Closed(_)) => {
                tracing::debug!(shard, "answer for a shard that has ended");
            }
        }
        self.attend(shard);
    }

    /// Whether there is such a shard.
    #[must_use]
    pub fn has(&self, shard: u16) -> bool {
        usize::from(shard) < self.shards.len()
    }

    /// Has the shards in a mask take what was put into their queues.
    pub(super) fn attend_all(&self, touched: u64) {
        for shard in bits(touched) {
            self.attend(shard);
        }
    }

    fn attend(&self, shard: u16) {
        let (Some(queues), Some(attendant)) =
            (self.shards.get(usize::from(shard)), self.attendant(shard))
        else {
            return;
        };
        let waiting = queues.network.max_capacity() - queues.network.capacity();
        if waiting > ON_THE_SPOT {
            attendant.ring();
        } else {
            attendant.attend();
        }
    }

    fn ring(&self, shard: u16) {
        if let Some(attendant) = self.attendant(shard) {
            attendant.ring();
        }
    }

    fn attendant(&self, shard: u16) -> Option<Arc<dyn Attend>> {
        self.attendants.get()?.get(usize::from(shard))?.upgrade()
    }

    pub(super) async fn report(&self, report: Report) {
        let transaction = report.transaction;
        self.answer(report.shard, Input::SendFailed { transaction })
            .await;
    }

    /// Queues a message; returns the shards to attend to, as do the others that queue.
    pub(super) async fn stream_message(&self, flow: Flow, bound: u64, message: Message) -> u64 {
        match self.shards_of(&message, bound) {
            Shards::One(shard) => self.wait(shard, Input::Message { flow, message }).await,
            Shards::All => {
                let mut touched = 0;
                for shard in 0..self.count() {
                    let message = message.clone();
                    touched |= self.wait(shard, Input::Message { flow, message }).await;
                }
                touched
            }
        }
    }

    pub(super) fn datagram_message(&self, flow: Flow, message: Message) -> u64 {
        if let Some(predecessor) = &self.predecessor
            && predecessor.owns(&message)
        {
            self.pass(predecessor, flow, &message);
            return 0;
        }
        let bound = self.bound(flow);
        match self.shards_of(&message, bound) {
            Shards::One(shard) => self.offer(shard, Input::Message { flow, message }),
            Shards::All => (0..self.count()).fold(0, |touched, shard| {
                let message = message.clone();
                touched | self.offer(shard, Input::Message { flow, message })
            }),
        }
    }

    pub(super) async fn stream_malformed(
        &self,
        flow: Flow,
        bytes: Bytes,
        error: ParseError,
    ) -> u64 {
        let shard = self.any_shard(flow.remote);
        self.wait(shard, Input::Malformed { flow, bytes, error })
            .await
    }

    pub(super) fn datagram_malformed(&self, flow: Flow, bytes: Bytes, error: ParseError) -> u64 {
        let shard = self.any_shard(flow.remote);
        self.offer(shard, Input::Malformed { flow, bytes, error })
    }

    pub(super) async fn stream_heard(&self, flow: FlowId, bound: u64) -> u64 {
        for shard in bits(bound) {
            self.wait(shard, Input::Heard { flow }).await;
        }
        bound
    }

    pub(super) fn datagram_heard(&self, flow: Flow) -> u64 {
        let bound = self.bound(flow);
        for shard in bits(bound) {
            self.offer(shard, Input::Heard { flow: flow.id });
        }
        bound
    }

    pub(super) async fn closed(&self, flow: FlowId, bound: u64, reason: CloseReason) {
        for shard in bits(bound) {
            self.wait(shard, Input::FlowClosed { flow, reason }).await;
        }
        self.attend_all(bound);
    }

    pub(super) fn bind_datagram(&self, listener: ListenerId, remote: SocketAddr, shard: u16) {
        *self.datagrams.entry((listener, remote)).or_default() |= bit(shard);
    }

    pub(super) fn unbind_datagram(&self, listener: ListenerId, remote: SocketAddr, shard: u16) {
        if let Some(mut mask) = self.datagrams.get_mut(&(listener, remote)) {
            *mask &= !bit(shard);
        }
        self.datagrams
            .remove_if(&(listener, remote), |_, mask| *mask == 0);
    }

    fn pass(&self, predecessor: &Predecessor, flow: Flow, message: &Message) {
        let local = self.addresses.get(usize::from(flow.listener.0));
        let is_passed = local.is_some_and(|local| {
            predecessor.pass(Stray {
                local: *local,
                remote: flow.remote,
                bytes: message.raw().clone(),
            })
        });
        if !is_passed {
            self.counts.dropped.input_queue.inc();
        }
    }

    fn bound(&self, flow: Flow) -> u64 {
        let bound = self.datagrams.get(&(flow.listener, flow.remote));
        bound.map_or(0, |mask| *mask)
    }

    fn shards_of(&self, message: &Message, bound: u64) -> Shards {
        route(message, bound, self.count(), &self.purrs)
    }

    /// A shard for what names none: any, but the same for the same address.
    fn any_shard(&self, remote: SocketAddr) -> u16 {
        remote.port() % self.count().max(1)
    }

    fn count(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap_or(MAX_SHARDS)
    }

    async fn wait(&self, shard: u16, input: Input) -> u64 {
        let Some(queues) = self.shards.get(usize::from(shard)) else {
            return 0;
        };
        match queues.network.try_send(input) {
            Ok(()) => {}
            Err(TrySendError::Full(input)) => {
                self.ring(shard);
                if queues.network.send(input).await.is_err() {
                    tracing::debug!(shard, "input for a shard that has ended");
                }
            }
            Err(TrySendError::Closed(_)) => {
                tracing::debug!(shard, "input for a shard that has ended");
            }
        }
        bit(shard)
    }

    fn offer(&self, shard: u16, input: Input) -> u64 {
        let Some(queues) = self.shards.get(usize::from(shard)) else {
            return 0;
        };
        match queues.network.try_send(input) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.counts.dropped.input_queue.inc();
            }
        }
        bit(shard)
    }
}

impl std::fmt::Debug for Inlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inlet")
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

/// The shards in a mask.
fn bits(mut mask: u64) -> impl Iterator<Item = u16> {
    std::iter::from_fn(move || {
        let shard = u16::try_from(mask.trailing_zeros()).unwrap_or(MAX_SHARDS);
        mask &= mask.wrapping_sub(1);
        (shard < MAX_SHARDS).then_some(shard)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_names_its_shards_in_order() {
        let mask = bit(0) | bit(5) | bit(63);
        assert_eq!(bits(mask).collect::<Vec<_>>(), [0, 5, 63]);
        assert_eq!(bits(0).count(), 0);
    }

    #[test]
    fn a_datagram_flow_is_forgotten_with_its_last_shard() {
        let inlet = Inlet::new(Vec::new(), &[0; 32], Counts::default());
        let remote = SocketAddr::from(([192, 0, 2, 1], 5060));
        inlet.bind_datagram(ListenerId(0), remote, 1);
        inlet.bind_datagram(ListenerId(0), remote, 2);
        inlet.unbind_datagram(ListenerId(0), remote, 1);
        assert_eq!(inlet.datagrams.len(), 1);
        inlet.unbind_datagram(ListenerId(0), remote, 2);
        assert_eq!(inlet.datagrams.len(), 0);
    }
}
