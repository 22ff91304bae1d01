//! Whether an upstream node that failed is back: it is asked by OPTIONS (RFC 3261 §11.2) while
//! others of its group serve, and serves again as soon as it answers.

use std::time::Duration;

use bytes::Bytes;

use crate::proto::effects::Effects;
use crate::proto::proxy::Proxy;
use crate::proto::proxy::response_context::Leg;
use crate::proto::sip::{Message, Text};
use crate::proto::timer::Timer;
use crate::proto::transaction::{ClientEvent, ClientId};

/// How long after a failure, or after an OPTIONS without answer, a node is asked.
const EVERY: Duration = Duration::from_secs(5);

impl Proxy {
    /// A node gave no answer: others of its group serve until it answers OPTIONS.
    pub(super) fn on_node_silent(&mut self, fx: &mut Effects<'_>, node: u16) {
        if self.upstreams.penalise(fx.now, node) {
            fx.arm(EVERY, Timer::Health(node));
        }
    }

    /// Asks a node that failed.
    pub(super) fn on_health_due(&mut self, fx: &mut Effects<'_>, node: u16) {
        if !self.upstreams.is_down(node) {
            return;
        }
        let Some(hop) = self.upstreams.node_hop(node) else {
            self.upstreams.absolve(node);
            return;
        };
        let leg = Leg::upstream(&hop);
        let client = self.transactions.reserve(fx);
        match self.write_check(&leg, &client.branch_bytes(self.shard), fx.random()) {
            Some(options) => {
                let is_reliable = leg.transport.is_reliable();
                self.transactions
                    .start(fx, client, &options, leg.to, is_reliable);
                self.checks.insert(client, node);
            }
            None => {
                self.transactions.abandon(fx, client);
                self.upstreams.absolve(node);
            }
        }
    }

    /// How many nodes are being asked.
    pub(in crate::proto) fn nodes_asked(&self) -> usize {
        self.checks.len()
    }

    /// What became of an OPTIONS to a node; false if it was none.
    pub(super) fn on_checked(
        &mut self,
        fx: &mut Effects<'_>,
        client: ClientId,
        event: ClientEvent,
        response: Option<&Message>,
    ) -> bool {
        let Some(node) = self.checks.get(&client).copied() else {
            return false;
        };
        let is_well = match event {
            ClientEvent::Provisional => return true,
            ClientEvent::Final => response.is_some_and(|r| r.status() != Some(503)),
            ClientEvent::Timeout | ClientEvent::TransportError => false,
        };
        self.checks.remove(&client);
        if is_well {
            self.upstreams.absolve(node);
        } else if self.upstreams.is_down(node) {
            fx.arm(EVERY, Timer::Health(node));
        }
        true
    }

    fn write_check(&self, leg: &Leg, branch: &[u8], random: u64) -> Option<Message> {
        let via = Text::of(self.via(leg, branch, 0)?);
        let listener = self.upstreams.listener_settings(leg.listener)?;
        let host = &listener.advertise_host;
        let uri = format!("sip:{}", leg.address()?);
        let text = format!(
            "OPTIONS {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 1\r\n\
             From: <sip:{host}>;tag={random:016x}\r\nTo: <{uri}>\r\n\
             Call-ID: {random:016x}@{host}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text)).ok()
    }
}
