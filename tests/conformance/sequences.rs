//! RFC 3261 §17: whatever happens in whatever order, nothing panics, every client transaction is
//! reported as over at most once, and in the end no transaction and no timer is left.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rouse::proto::transaction::{ClientEvent, ClientId, Received, ServerId};
use rouse::proto::{Destination, Flow};

use crate::rig::{ASTERISK, PHONE, Rig, answer, incoming_via, outgoing, reply, tcp, udp};

const METHODS: [&str; 5] = ["INVITE", "ACK", "CANCEL", "NOTIFY", "OPTIONS"];

/// One thing that happens.
#[derive(Clone, Debug)]
enum Happening {
    Abandon(usize),
    Answer {
        client: usize,
        status: u16,
        method: &'static str,
        tcp: bool,
    },
    Cancel(usize),
    Request {
        branch: u8,
        method: &'static str,
        tcp: bool,
    },
    Respond {
        server: usize,
        status: u16,
    },
    SendFailed(usize),
    Start {
        invite: bool,
        tcp: bool,
    },
    Wait(u16),
}

fn happening() -> impl Strategy<Value = Happening> {
    let index = 0_usize..6;
    let status = 100_u16..700;
    prop_oneof![
        1 => index.clone().prop_map(Happening::Abandon),
        6 => (index.clone(), status.clone(), method(), any::<bool>()).prop_map(
            |(client, status, method, tcp)| Happening::Answer { client, status, method, tcp }
        ),
        2 => index.clone().prop_map(Happening::Cancel),
        5 => (0_u8..4, method(), any::<bool>())
            .prop_map(|(branch, method, tcp)| Happening::Request { branch, method, tcp }),
        4 => (index.clone(), status)
            .prop_map(|(server, status)| Happening::Respond { server, status }),
        1 => index.prop_map(Happening::SendFailed),
        3 => any::<(bool, bool)>().prop_map(|(invite, tcp)| Happening::Start { invite, tcp }),
        3 => (0_u16..20_000).prop_map(Happening::Wait),
    ]
}

fn method() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&METHODS[..])
}

fn flow(is_tcp: bool, remote: &str) -> Flow {
    if is_tcp { tcp(remote) } else { udp(remote) }
}

/// A rig, and the names of all that was begun in it.
struct World {
    rig: Rig,
    clients: Vec<ClientId>,
    servers: Vec<ServerId>,
    /// What each client transaction told its user, in order.
    told: BTreeMap<ClientId, Vec<ClientEvent>>,
}

impl World {
    fn happen(&mut self, happening: &Happening) {
        match *happening {
            Happening::Abandon(index) => {
                if let Some(id) = self.client(index) {
                    self.rig.with(|table, fx| table.abandon(fx, id));
                }
            }
            Happening::Answer {
                client,
                status,
                method,
                tcp,
            } => {
                if let Some(id) = self.client(client) {
                    let text = answer(id, status, method);
                    let event = self.rig.answer(&flow(tcp, PHONE), &text);
                    self.tell(id, event);
                }
            }
            Happening::Cancel(index) => {
                if let Some(id) = self.client(index) {
                    self.rig.cancel(id, &[b"SIP;cause=200"]);
                }
            }
            Happening::Request {
                branch,
                method,
                tcp,
            } => {
                // The last one is of RFC 2543.
                let branch = match branch {
                    3 => String::new(),
                    number => format!(";branch=z9hG4bK{number}"),
                };
                let via = format!("SIP/2.0/UDP 198.51.100.7:5080;rport{branch}");
                let text = incoming_via(method, &via);
                match self.rig.request(&flow(tcp, ASTERISK), &text) {
                    Received::New(id) | Received::Cancel { cancel: id, .. } => {
                        self.servers.push(id);
                    }
                    Received::Ack | Received::Acked | Received::Retransmission => {}
                    Received::Full => panic!("the table is large"),
                }
            }
            Happening::Respond { server, status } => {
                if let Some(id) = pick(&self.servers, server) {
                    let text = reply(status, "INVITE", ";tag=ours");
                    self.rig.respond_text(id, status, &text);
                }
            }
            Happening::SendFailed(index) => {
                if let Some(id) = self.client(index) {
                    let event = self.rig.send_failed(id);
                    self.tell(id, event);
                }
            }
            Happening::Start { invite, tcp } => {
                let method = if invite { "INVITE" } else { "REGISTER" };
                let to = Destination::Flow(flow(tcp, PHONE).id);
                let id = self.rig.start(to, tcp, |branch| outgoing(method, branch));
                self.clients.push(id);
            }
            Happening::Wait(millis) => self.wait(u64::from(millis)),
        }
    }

    /// Answers what is unanswered, gives up what is still going on, and lets all timers fire.
    fn end(&mut self) {
        for id in self.servers.clone() {
            if self.rig.table.awaits_final(id) {
                self.rig.respond(id, 500);
            }
        }
        for id in self.clients.clone() {
            self.rig.cancel(id, &[]);
        }
        self.wait(64_000);
        for id in self.clients.clone() {
            self.rig.with(|table, fx| table.abandon(fx, id));
        }
    }

    fn wait(&mut self, millis: u64) {
        let until = self.rig.millis() + millis;
        self.rig.run_until(until);
        for (_, id, event) in std::mem::take(&mut self.rig.told) {
            self.tell(id, Some(event));
        }
    }

    fn tell(&mut self, id: ClientId, event: Option<ClientEvent>) {
        self.told.entry(id).or_default().extend(event);
    }

    fn client(&self, index: usize) -> Option<ClientId> {
        pick(&self.clients, index)
    }
}

/// Counts from the latest.
fn pick<T: Copy>(all: &[T], index: usize) -> Option<T> {
    all.iter().rev().nth(index).copied()
}

/// Whether this is a way in which a client transaction may tell its end.
fn is_sound(told: &[ClientEvent]) -> bool {
    let mut ended = None;
    told.iter().all(|event| match (ended, event) {
        (None, ClientEvent::Provisional) => true,
        (None, _) => {
            ended = Some(*event);
            true
        }
        // Further 2xx of an INVITE.
        (Some(ClientEvent::Final), ClientEvent::Final) => true,
        (Some(_), _) => false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_nothing_is_left(
        happenings in proptest::collection::vec(happening(), 1..60)
    ) {
        let mut world = World {
            rig: Rig::new(),
            clients: Vec::new(),
            servers: Vec::new(),
            told: BTreeMap::new(),
        };
        for happening in &happenings {
            world.happen(happening);
        }
        world.end();
        world.rig.assert_quiet();
        for (id, told) in &world.told {
            prop_assert!(is_sound(told), "{id:?}: {told:?}");
        }
    }
}
