//! All transactions of a shard: who a message belongs to (RFC 3261 §17.1.3, §17.2.3).
//!
//! Invariants: every key leads to a live server transaction; an entry that is over is gone before
//! the call returns.

use std::collections::HashMap;

use bytes::Bytes;
use slab::Slab;

use crate::proto::effects::Effects;
use crate::proto::event::Drop;
use crate::proto::settings::Timing;
use crate::proto::sip::{Message, Method};
use crate::proto::timer::Letter;
use crate::proto::transaction::client::{Answer, Client};
use crate::proto::transaction::key::{BuildKeyHasher, Key, Matching};
use crate::proto::transaction::server::Server;
use crate::proto::transaction::{ClientEvent, ClientId, Received, ServerId};
use crate::proto::{Destination, Event, Flow};

/// All transactions of a shard.
#[derive(Debug)]
pub struct Transactions {
    timing: Timing,
    shard: u16,
    /// How many server transactions there may be.
    limit: usize,
    /// Of the keyed hash.
    secret: [u64; 2],
    clients: Slab<Client>,
    servers: Slab<Server>,
    /// The slot of each server transaction.
    keys: HashMap<Key, u32, BuildKeyHasher>,
    /// Of the latest server transaction.
    generation: u32,
}

impl Transactions {
    /// Makes an empty table. `limit` bounds the server transactions; the client ones are bounded by
    /// those and by the targets of each. `key` is secret and random.
    #[must_use]
    pub fn new(timing: Timing, shard: u16, limit: usize, key: [u64; 2]) -> Self {
        Self {
            timing,
            shard,
            limit,
            secret: key,
            clients: Slab::new(),
            servers: Slab::new(),
            keys: HashMap::default(),
            generation: 0,
        }
    }

    /// Bounds the server transactions from now on.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Matches a request. Retransmissions are answered here, ACKs of non-2xx end here.
    ///
    /// A request without a readable Via or CSeq (and of RFC 2543: From, To, Call-ID) is dropped:
    /// whoever wants to answer it with 400 does so before.
    pub fn handle_request(
        &mut self,
        fx: &mut Effects<'_>,
        flow: &Flow,
        request: &Message,
    ) -> Received {
        let (Some(method), Ok(via)) = (request.method(), request.top_via()) else {
            return dropped(fx, Drop::NoVia, flow);
        };
        let Ok(matching) = Matching::new(self.secret, request, &via, method) else {
            return dropped(fx, Drop::Malformed, flow);
        };
        if let Some(server) = self.server_by_key(matching.key) {
            let id = server.id;
            let timing = self.timing;
            let received = self
                .server_mut(id)
                .map(|server| server.handle_request(fx, &timing, method));
            self.sweep_server(id);
            return received.unwrap_or(Received::Ack);
        }
        if method == Method::Ack {
            return Received::Ack;
        }
        let invite = if method == Method::Cancel {
            self.cancelled_by(flow, request)
        } else {
            None
        };
        // A CANCEL that ends an INVITE lightens the load: there is at most one for each.
        if self.servers.len() >= self.limit && invite.is_none() {
            return Received::Full;
        }
        let entry = self.servers.vacant_entry();
        let Ok(slot) = u32::try_from(entry.key()) else {
            return Received::Full;
        };
        self.generation = self.generation.wrapping_add(1);
        let id = ServerId {
            slot,
            generation: self.generation,
        };
        self.keys.insert(matching.key, slot);
        entry.insert(Server::new(id, flow, &via, method, matching));
        if method == Method::Cancel {
            Received::Cancel { cancel: id, invite }
        } else {
            Received::New(id)
        }
    }

    /// Sends a response that is written already; the machine keeps what it may have to send again.
    /// A transaction that is over sends nothing.
    pub fn respond(&mut self, fx: &mut Effects<'_>, id: ServerId, status: u16, response: Bytes) {
        let timing = self.timing;
        let Some(server) = self.server_mut(id) else {
            return;
        };
        if let Some(ack) = server.respond(fx, &timing, status, response) {
            self.keys.entry(ack).or_insert(id.slot);
        }
        self.sweep_server(id);
    }

    /// Whether a request is a copy of one that is being worked on, its ACK or its CANCEL, and from
    /// the same address.
    #[must_use]
    pub fn knows(&self, flow: &Flow, request: &Message) -> bool {
        let (Some(method), Ok(via)) = (request.method(), request.top_via()) else {
            return false;
        };
        let own = || Matching::new(self.secret, request, &via, method).ok();
        let is_own = own()
            .and_then(|matching| self.server_by_key(matching.key))
            .is_some_and(|server| server.source == flow.remote.ip());
        is_own || (method == Method::Cancel && self.cancelled_by(flow, request).is_some())
    }

    /// Forgets a server transaction that is not to be answered.
    pub fn discard(&mut self, id: ServerId) {
        if self.server(id).is_some_and(Server::awaits_final) {
            self.remove_server(id);
        }
    }

    /// Whether it still waits for a final response.
    #[must_use]
    pub fn awaits_final(&self, id: ServerId) -> bool {
        self.server(id).is_some_and(Server::awaits_final)
    }

    /// Takes a slot, so that the branch can be written into the request.
    pub fn reserve(&mut self, fx: &mut Effects<'_>) -> ClientId {
        let entry = self.clients.vacant_entry();
        let id = ClientId {
            // A slab of 2^32 entries would not fit into memory.
            slot: u32::try_from(entry.key()).unwrap_or(u32::MAX),
            // The lowest bit tells this process from the one that it took over from.
            nonce: fx.random() & !1 | self.secret[0] & 1,
        };
        entry.insert(Client::reserved(id));
        id
    }

    /// Sends a request written with the branch of `id` as a new client transaction. `reliable` says
    /// whether `to` is a stream.
    pub fn start(
        &mut self,
        fx: &mut Effects<'_>,
        id: ClientId,
        request: &Message,
        to: Destination,
        reliable: bool,
    ) {
        let method = request.method().unwrap_or(Method::Other(b""));
        self.start_written(fx, id, (method, request.raw()), to, reliable);
    }

    /// The same with the request's method and bytes: only an INVITE is read again.
    pub fn start_written(
        &mut self,
        fx: &mut Effects<'_>,
        id: ClientId,
        request: (Method<'_>, &Bytes),
        to: Destination,
        reliable: bool,
    ) {
        let timing = self.timing;
        if let Some(client) = self.client_mut(id) {
            client.start(fx, &timing, request, to, reliable);
        }
    }

    /// Gives a slot back that was reserved and not started, or ends a transaction (and its CANCEL)
    /// without a word.
    pub fn abandon(&mut self, fx: &mut Effects<'_>, id: ClientId) {
        if self.client_mut(id).is_some() {
            self.clients.remove(id.slot as usize).end(fx);
        }
    }

    /// Sends an INVITE that drew no answer no more: its answer, or Timer B, ends it.
    pub fn hush(&mut self, fx: &mut Effects<'_>, id: ClientId) {
        if let Some(client) = self.client_mut(id) {
            client.hush(fx);
        }
    }

    /// Sends an INVITE that drew no answer again at once, if Timer A has slowed down: its peer has
    /// just been heard, and need not wait for seconds.
    pub fn send_again(&mut self, fx: &mut Effects<'_>, id: ClientId) {
        let timing = self.timing;
        if let Some(client) = self.client_mut(id) {
            client.send_again(fx, &timing);
        }
    }

    /// Sends the CANCEL of an INVITE transaction (RFC 3261 §9.1) as a transaction of its own, with
    /// these Reason header values. At once if a 1xx has come; else when the first one comes; never
    /// after a final response. The second CANCEL of an INVITE is ignored.
    ///
    /// The INVITE's final response is still reported; [`ClientEvent::Timeout`] if none comes within
    /// 64*T1.
    pub fn cancel(&mut self, fx: &mut Effects<'_>, id: ClientId, reasons: &[&[u8]]) {
        let timing = self.timing;
        if let Some(client) = self.client_mut(id) {
            client.cancel(fx, &timing, reasons);
        }
    }

    /// Matches a response by branch, CSeq method and source. `None`: dropped, and an event said why;
    /// or absorbed (a retransmission, the answer to a CANCEL). ACKs for non-2xx are sent here.
    pub fn handle_response(
        &mut self,
        fx: &mut Effects<'_>,
        flow: &Flow,
        response: &Message,
    ) -> Option<(ClientId, ClientEvent)> {
        let id = response
            .top_via()
            .ok()
            .and_then(|via| ClientId::from_branch(via.branch()?))
            .and_then(|(shard, id)| (shard == self.shard).then_some(id));
        let timing = self.timing;
        let answer = match id.and_then(|id| self.client_mut(id)) {
            Some(client) => client.handle_response(fx, &timing, flow, response),
            None => Answer::Stray,
        };
        if let Some(id) = id {
            self.sweep_client(id);
        }
        let place = match answer {
            Answer::Absorbed => return None,
            Answer::Report(event) => return id.map(|id| (id, event)),
            Answer::Forged => Drop::ForgedResponse,
            Answer::Stray => Drop::StrayResponse,
        };
        fx.event(Event::Dropped {
            place,
            flow: Some(flow.id),
        });
        None
    }

    /// Takes notice that a request could not be sent (RFC 3261 §17.1.4). Ignored once a response to
    /// an INVITE, or a final one to another request, has come.
    pub fn handle_send_failed(
        &mut self,
        fx: &mut Effects<'_>,
        id: ClientId,
    ) -> Option<ClientEvent> {
        let event = self.client_mut(id)?.handle_send_failed(fx);
        self.sweep_client(id);
        event
    }

    /// Fires a timer of a server transaction. They end silently: after a final response nobody
    /// waits for them, and a proxy does nothing about an ACK that never came.
    pub fn handle_server_timer(&mut self, fx: &mut Effects<'_>, id: ServerId, letter: Letter) {
        let timing = self.timing;
        if let Some(server) = self.server_mut(id) {
            server.handle_timer(fx, &timing, letter);
            self.sweep_server(id);
        }
    }

    /// Fires a timer of a client transaction; `Some` if the user must hear of it.
    pub fn handle_client_timer(
        &mut self,
        fx: &mut Effects<'_>,
        id: ClientId,
        letter: Letter,
    ) -> Option<ClientEvent> {
        let timing = self.timing;
        let event = self.client_mut(id)?.handle_timer(fx, &timing, letter);
        self.sweep_client(id);
        event
    }

    /// Live transactions: server, client (with those that are only reserved).
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        (self.servers.len(), self.clients.len())
    }

    /// The INVITE transaction that a CANCEL matches, if both came from the same address: whoever
    /// guesses a branch cannot end other people's calls.
    fn cancelled_by(&self, flow: &Flow, cancel: &Message) -> Option<ServerId> {
        let via = cancel.top_via().ok()?;
        let invite = Matching::new(self.secret, cancel, &via, Method::Invite).ok()?;
        self.server_by_key(invite.key)
            .filter(|server| server.source == flow.remote.ip())
            .map(|server| server.id)
    }

    fn server_by_key(&self, key: Key) -> Option<&Server> {
        let slot = self.keys.get(&key)?;
        self.servers.get(*slot as usize)
    }

    fn server(&self, id: ServerId) -> Option<&Server> {
        self.servers
            .get(id.slot as usize)
            .filter(|server| server.id == id)
    }

    fn server_mut(&mut self, id: ServerId) -> Option<&mut Server> {
        self.servers
            .get_mut(id.slot as usize)
            .filter(|server| server.id == id)
    }

    fn client_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients
            .get_mut(id.slot as usize)
            .filter(|client| client.id == id)
    }

    fn sweep_server(&mut self, id: ServerId) {
        if self.server(id).is_some_and(Server::is_over) {
            self.remove_server(id);
        }
    }

    fn remove_server(&mut self, id: ServerId) {
        let server = self.servers.remove(id.slot as usize);
        for key in server.keys() {
            if self.keys.get(&key) == Some(&id.slot) {
                self.keys.remove(&key);
            }
        }
    }

    fn sweep_client(&mut self, id: ClientId) {
        if self.client_mut(id).is_some_and(|client| client.is_over()) {
            self.clients.remove(id.slot as usize);
        }
    }
}

fn dropped(fx: &mut Effects<'_>, place: Drop, flow: &Flow) -> Received {
    fx.event(Event::Dropped {
        place,
        flow: Some(flow.id),
    });
    Received::Retransmission
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Several hundred thousand are live at 2,000 calls a second, for Timer L and M.
    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Client>() <= 184, "{}", size_of::<Client>());
        assert!(size_of::<Server>() <= 160, "{}", size_of::<Server>());
    }
}
