//! The way in: from sockets to the shards' queues.
//!
//! Each shard has two bounded queues. `network` takes what peers send: streams wait for room
//! (back-pressure to the peer), datagrams are dropped and counted. `answers` takes what somebody
//! of ours waits for and is therefore never dropped. The end of a flow goes through `network`, so
//! that it comes after the flow's last message.

use std::net::SocketAddr;
use std::sync::Arc;

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

/// The ends of one shard's queues that are written to.
#[derive(Clone, Debug)]
pub struct ShardQueues {
    /// What peers send.
    pub network: mpsc::Sender<Input>,
    /// What the shard asked for.
    pub answers: mpsc::Sender<Input>,
}

/// Hands inputs to the shards.
#[derive(Debug)]
pub struct Inlet {
    shards: Vec<ShardQueues>,
    purrs: Purrs,
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

    /// Hands an answer to the shard that waits for it.
    pub async fn answer(&self, shard: u16, input: Input) {
        if let Some(queues) = self.shards.get(usize::from(shard))
            && queues.answers.send(input).await.is_err()
        {
            tracing::debug!(shard, "answer for a shard that has ended");
        }
    }

    /// The queue for answers to a shard, for those who cannot wait in a task.
    #[must_use]
    pub fn answers(&self, shard: u16) -> Option<&mpsc::Sender<Input>> {
        self.shards
            .get(usize::from(shard))
            .map(|queues| &queues.answers)
    }

    pub(super) async fn report(&self, report: Report) {
        let transaction = report.transaction;
        self.answer(report.shard, Input::SendFailed { transaction })
            .await;
    }

    pub(super) async fn stream_message(&self, flow: Flow, bound: u64, message: Message) {
        for shard in self.shards_of(&message, bound) {
            let message = message.clone();
            self.wait(shard, Input::Message { flow, message }).await;
        }
    }

    pub(super) fn datagram_message(&self, flow: Flow, message: Message) {
        if let Some(predecessor) = &self.predecessor
            && predecessor.owns(&message)
        {
            self.pass(predecessor, flow, &message);
            return;
        }
        let bound = self.bound(flow);
        for shard in self.shards_of(&message, bound) {
            let message = message.clone();
            self.offer(shard, Input::Message { flow, message });
        }
    }

    pub(super) async fn stream_malformed(&self, flow: Flow, bytes: Bytes, error: ParseError) {
        let shard = self.any_shard(flow.remote);
        self.wait(shard, Input::Malformed { flow, bytes, error })
            .await;
    }

    pub(super) fn datagram_malformed(&self, flow: Flow, bytes: Bytes, error: ParseError) {
        let shard = self.any_shard(flow.remote);
        self.offer(shard, Input::Malformed { flow, bytes, error });
    }

    pub(super) async fn stream_heard(&self, flow: FlowId, bound: u64) {
        for shard in bits(bound) {
            self.wait(shard, Input::Heard { flow }).await;
        }
    }

    pub(super) fn datagram_heard(&self, flow: Flow) {
        for shard in bits(self.bound(flow)) {
            self.offer(shard, Input::Heard { flow: flow.id });
        }
    }

    pub(super) async fn closed(&self, flow: FlowId, bound: u64, reason: CloseReason) {
        for shard in bits(bound) {
            self.wait(shard, Input::FlowClosed { flow, reason }).await;
        }
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

    fn shards_of(&self, message: &Message, bound: u64) -> impl Iterator<Item = u16> + use<> {
        let shards = self.count();
        match route(message, bound, shards, &self.purrs) {
            Shards::One(shard) => shard..shard.saturating_add(1),
            Shards::All => 0..shards,
        }
    }

    /// A shard for what names none: any, but the same for the same address.
    fn any_shard(&self, remote: SocketAddr) -> u16 {
        remote.port() % self.count().max(1)
    }

    fn count(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap_or(MAX_SHARDS)
    }

    async fn wait(&self, shard: u16, input: Input) {
        if let Some(queues) = self.shards.get(usize::from(shard))
            && queues.network.send(input).await.is_err()
        {
            tracing::debug!(shard, "input for a shard that has ended");
        }
    }

    fn offer(&self, shard: u16, input: Input) {
        let Some(queues) = self.shards.get(usize::from(shard)) else {
            return;
        };
        match queues.network.try_send(input) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.counts.dropped.input_queue.inc();
            }
        }
    }
}

/// The shards in a mask.
fn bits(mask: u64) -> impl Iterator<Item = u16> {
    (0..MAX_SHARDS).filter(move |shard| mask & bit(*shard) != 0)
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
