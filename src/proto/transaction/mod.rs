//! Transactions (RFC 3261 §17, RFC 6026). SKELETON: the signatures that the proxy is written against.

use bytes::Bytes;

use crate::proto::effects::Effects;
use crate::proto::settings::Timing;
use crate::proto::sip::Message;
use crate::proto::timer::Letter;
use crate::proto::{Destination, Flow};

/// A server transaction of this shard: a slot and the slot's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId {
    pub slot: u32,
    pub generation: u32,
}
/// A client transaction of this shard: a slot, and the random bits of its branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId {
    pub slot: u32,
    pub nonce: u64,
}

impl ClientId {
    /// The Via branch that names it: `z9hG4bK`, the shard, the slot, 64 random bits, all in
    /// characters that no peer rewrites.
    pub fn branch(self, _shard: u16) -> String {
        todo!()
    }
    /// Reads a branch of ours: the shard and the id.
    pub fn from_branch(_branch: &[u8]) -> Option<(u16, Self)> {
        todo!()
    }
}

/// What a request is to the transaction layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A new server transaction: the core decides.
    New(ServerId),
    /// A retransmission: answered again if there is an answer.
    Retransmission,
    /// An ACK that its INVITE transaction took.
    Acked,
    /// A CANCEL: its own new transaction, and the INVITE's that it matches (RFC 3261 §9.2).
    Cancel {
        cancel: ServerId,
        invite: Option<ServerId>,
    },
    /// An ACK that matches no transaction: of a 2xx, end to end (or stray).
    Ack,
    /// The table is full: refuse without state.
    Full,
}

/// What a client transaction tells its user.
#[derive(Clone, Debug)]
pub enum ClientEvent {
    /// 1xx.
    Provisional,
    /// A final response; for INVITE also each further 2xx (RFC 6026 §8.4).
    Final,
    /// Nothing came in time (Timer B or F).
    Timeout,
    /// It could not be sent.
    TransportError,
}

/// All transactions of a shard.
#[derive(Debug)]
pub struct Transactions {
    _timing: Timing,
}

impl Transactions {
    pub fn new(timing: Timing, _shard: u16, _limit: usize, _key: [u64; 2]) -> Self {
        Self { _timing: timing }
    }

    // --- server side ---
    /// Matches a request (RFC 3261 §17.2.3). The key covers the top Via's branch and sent-by, the
    /// method (ACK and CANCEL apart) and the CSeq number: chan_sip reuses a branch for NOTIFYs of
    /// one subscription. Retransmissions are answered here.
    pub fn handle_request(
        &mut self,
        _fx: &mut Effects<'_>,
        _flow: &Flow,
        _request: &Message,
    ) -> Received {
        todo!()
    }
    /// Sends a response; the machine keeps what it must retransmit. `response` is written already.
    pub fn respond(
        &mut self,
        _fx: &mut Effects<'_>,
        _id: ServerId,
        _status: u16,
        _response: Bytes,
    ) {
        todo!()
    }
    /// Whether it still waits for a final response.
    pub fn awaits_final(&self, _id: ServerId) -> bool {
        todo!()
    }

    // --- client side ---
    /// Takes a slot, so that the branch can be written into the request.
    pub fn reserve(&mut self, _fx: &mut Effects<'_>) -> ClientId {
        todo!()
    }
    /// Sends a request written with the branch of `id` as a new client transaction. `to` must be
    /// reliable or not as `reliable` says.
    pub fn start(
        &mut self,
        _fx: &mut Effects<'_>,
        _id: ClientId,
        _request: &Message,
        _to: Destination,
        _reliable: bool,
    ) {
        todo!()
    }
    /// Gives a slot back that was reserved and not started, or ends a transaction without a word.
    pub fn abandon(&mut self, _fx: &mut Effects<'_>, _id: ClientId) {
        todo!()
    }
    /// Sends the CANCEL of an INVITE transaction (RFC 3261 §9.1) as a transaction of its own, with
    /// these Reason header values. At once if a 1xx has come; else when the first one comes.
    pub fn cancel(&mut self, _fx: &mut Effects<'_>, _id: ClientId, _reasons: &[&[u8]]) {
        todo!()
    }
    /// Matches a response by branch, CSeq method and source. `None`: dropped, and an event said why;
    /// or absorbed (a retransmission, the answer to a CANCEL). ACKs for non-2xx are sent here.
    pub fn handle_response(
        &mut self,
        _fx: &mut Effects<'_>,
        _flow: &Flow,
        _response: &Message,
    ) -> Option<(ClientId, ClientEvent)> {
        todo!()
    }
    pub fn handle_send_failed(
        &mut self,
        _fx: &mut Effects<'_>,
        _id: ClientId,
    ) -> Option<ClientEvent> {
        todo!()
    }

    // --- timers ---
    /// `Some` if the user must hear of it: server transactions end silently but for Timer H.
    pub fn handle_server_timer(&mut self, _fx: &mut Effects<'_>, _id: ServerId, _letter: Letter) {
        todo!()
    }
    pub fn handle_client_timer(
        &mut self,
        _fx: &mut Effects<'_>,
        _id: ClientId,
        _letter: Letter,
    ) -> Option<ClientEvent> {
        todo!()
    }

    /// Live transactions: server, client.
    pub fn count(&self) -> (usize, usize) {
        todo!()
    }
}
