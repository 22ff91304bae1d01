//! The network: datagrams are lost, doubled, overtaken and late; a stream keeps its order, stalls
//! while its party is cut off, and may end without anybody being told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rouse::proto::push::{PushAccepted, PushError, PushId};
use rouse::proto::transaction::ClientId;
use rouse::proto::{Flow, FlowId, StoreTicket, StoreWrite};

use super::asterisk::PBX;
use super::cast::Errand;
use super::chance::Chance;
use crate::world::udp;

/// What is on its way.
#[derive(Clone, Debug)]
pub enum Event {
    /// To the gateway.
    Up {
        flow: Flow,
        bytes: Bytes,
    },
    /// From it.
    Down {
        flow: FlowId,
        bytes: Bytes,
    },
    /// The gateway hears that a flow ended.
    Closed {
        flow: Flow,
    },
    /// It hears that a request could not be sent.
    SendFailed {
        client: ClientId,
    },
    /// A push service answers.
    Verdict {
        id: PushId,
        token: String,
        /// When the push was sent.
        at: Instant,
        verdict: Result<PushAccepted, PushError>,
    },
    /// A push arrives at a phone.
    Pushed {
        phone: usize,
        notice: &'static str,
    },
    /// The store writes, and answers.
    Stored {
        ticket: Option<StoreTicket>,
        write: Option<StoreWrite>,
    },
    Errand(Errand),
}

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Of a hundred datagrams.
    pub lost: u64,
    pub doubled: u64,
    /// Milliseconds.
    pub delay: (u64, u64),
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Goes,
    Lost,
    /// The gateway knows that nobody is there.
    Refused,
}

#[derive(Debug)]
pub struct Network {
    queue: BTreeMap<(Instant, u64), Event>,
    number: u64,
    pub weather: Weather,
    /// Until when a party is cut off.
    cut: BTreeMap<usize, Instant>,
    streams: BTreeMap<FlowId, Stream>,
}

#[derive(Debug)]
struct Stream {
    /// When the last bytes arrive, each way.
    up: Instant,
    down: Instant,
    /// Whether the gateway knows that it is over.
    is_closed: bool,
}

impl Network {
    pub const fn new(weather: Weather) -> Self {
        Self {
            queue: BTreeMap::new(),
            number: 0,
            weather,
            cut: BTreeMap::new(),
            streams: BTreeMap::new(),
        }
    }

    /// Puts something on its way.
    pub fn at(&mut self, at: Instant, event: Event) {
        self.number += 1;
        self.queue.insert((at, self.number), event);
    }

    /// When the next thing arrives.
    pub fn due(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn pop(&mut self) -> Option<Event> {
        self.queue.pop_first().map(|(_, event)| event)
    }

    /// A party hears nobody and is heard by nobody for so long.
    pub fn cut(&mut self, now: Instant, party: usize, lasts: Duration) {
        self.cut.insert(party, now + lasts);
    }

    /// Everything arrives from now on.
    pub fn clear_up(&mut self) {
        self.cut.clear();
        self.weather = Weather {
            lost: 0,
            doubled: 0,
            delay: (1, 20),
        };
    }

    /// A message to the gateway.
    pub fn up(&mut self, now: Instant, chance: &mut Chance, flow: Flow, bytes: Bytes) -> Fate {
        let event = Event::Up { flow, bytes };
        self.send(now, chance, flow.id, event, true)
    }

    /// A message from the gateway.
    pub fn down(&mut self, now: Instant, chance: &mut Chance, flow: FlowId, bytes: Bytes) -> Fate {
        self.send(now, chance, flow, Event::Down { flow, bytes }, false)
    }

    fn send(
        &mut self,
        now: Instant,
        chance: &mut Chance,
        flow: FlowId,
        event: Event,
        is_up: bool,
    ) -> Fate {
        let party = party(flow);
        let cut = self.cut.get(&party).copied().filter(|until| *until > now);
        let (from, to) = self.weather.delay;
        let delay = chance.millis(from, to);
        if let FlowId::Stream(_) = flow {
            let stream = self.streams.entry(flow).or_insert(Stream {
                up: now,
                down: now,
                is_closed: false,
            });
            if stream.is_closed {
                return Fate::Refused;
            }
            let last = if is_up {
                &mut stream.up
            } else {
                &mut stream.down
            };
            *last = (*last).max(cut.unwrap_or(now) + delay);
            let at = *last;
            self.at(at, event);
            return Fate::Goes;
        }
        if cut.is_some() || chance.percent(self.weather.lost) {
            return Fate::Lost;
        }
        if chance.percent(self.weather.doubled) {
            let late = chance.millis(from, to * 2);
            self.at(now + late, event.clone());
        }
        self.at(now + delay, event);
        Fate::Goes
    }

    /// A stream ends behind what was sent on it.
    pub fn close(&mut self, now: Instant, flow: Flow) {
        let last = self.streams.get(&flow.id).map_or(now, |stream| stream.up);
        self.at(last.max(now), Event::Closed { flow });
    }

    /// The gateway knows that a stream is over; returns whether that is new.
    pub fn is_closed(&mut self, now: Instant, flow: FlowId) -> bool {
        let stream = self.streams.entry(flow).or_insert(Stream {
            up: now,
            down: now,
            is_closed: false,
        });
        !std::mem::replace(&mut stream.is_closed, true)
    }

    /// The gateway's process is gone, and with it what it waited for and its connections; returns
    /// those.
    pub fn restart(&mut self) -> Vec<FlowId> {
        self.queue.retain(|_, event| match event {
            Event::Up { flow, .. } => !matches!(flow.id, FlowId::Stream(_)),
            Event::Down { .. } | Event::Pushed { .. } | Event::Errand(_) => true,
            Event::Closed { .. }
            | Event::SendFailed { .. }
            | Event::Verdict { .. }
            | Event::Stored { .. } => false,
        });
        let open = self
            .streams
            .iter_mut()
            .filter(|(_, stream)| !stream.is_closed);
        open.map(|(flow, stream)| {
            stream.is_closed = true;
            *flow
        })
        .collect()
    }
}

/// Somebody who has no business here, among the parties.
pub const STRANGER: usize = 50;

/// Where the stranger is.
pub fn stranger() -> Flow {
    udp(60_000)
}

/// Whose a flow is.
pub fn party(flow: FlowId) -> usize {
    match flow {
        FlowId::Stream(connection) => usize::try_from(connection.0 / 1000).unwrap(),
        FlowId::Datagram { remote, .. } => match remote.ip() {
            IpAddr::V4(address) if address.octets()[0] == 192 => {
                PBX + usize::from(address.octets()[3]) - 80
            }
            IpAddr::V4(_) | IpAddr::V6(_) => {
                let port = usize::from(remote.port());
                port.checked_sub(10_000)
                    .map_or(STRANGER, |port| port / 1000)
            }
        },
    }
}
