//! Who looks at single messages beside the log: a HEP collector, captures of one agent's traffic, and
//! operators who have one agent's messages and steps logged for a while.
//!
//! While nobody does, a message costs one relaxed load. Everything here is bounded: captures, watched
//! agents, and what waits for each; what does not fit is dropped and counted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use crate::config::HepConfig;
use crate::io::admin::view::{Live, Watched};
use crate::io::clock::Clock;
use crate::io::export::hep::{self, Exporter};
use crate::io::export::{Packet, pcapng};
use crate::io::transport::{Sight, Tap, Watch, redacted};
use crate::proto::registration::relay::user_of;
use crate::proto::settings::Listener;
use crate::proto::sip::{Message, Uri, unescape};
use crate::telemetry::metrics::Metrics;

/// Captures at a time.
const CAPTURES: usize = 4;
/// Agents whose messages are logged, at a time.
const WATCHED: usize = 16;
/// Messages of a capture that may wait for whoever reads it.
const QUEUE: usize = 1024;

/// Looks at messages.
#[derive(Debug)]
pub(super) struct Lookout {
    hep: Option<(Exporter, bool)>,
    /// The listeners' addresses as others see them.
    listeners: Vec<SocketAddr>,
    captures: Mutex<Vec<Capture>>,
    watched: Mutex<Vec<Watched>>,
    /// Whether there is anybody in `watched`.
    is_watching: AtomicBool,
    dropped: Counter,
    tap: Arc<Tap>,
}

#[derive(Debug)]
struct Capture {
    agent: String,
    packets: mpsc::Sender<Bytes>,
}

impl Lookout {
    /// Begins to look as far as the configuration asks for it.
    pub(super) fn start(
        hep: Option<&HepConfig>,
        listeners: &[Listener],
        metrics: &Metrics,
        tap: &Arc<Tap>,
    ) -> Arc<Self> {
        let exporter = hep.map(|hep| {
            let settings = hep::Settings {
                collector: hep.collector.clone(),
                node: hep.node,
                password: hep.password.as_ref().map(|secret| secret.expose().clone()),
            };
            let dropped = metrics.dropped.of(["hep"]);
            (Exporter::start(settings, dropped), hep.secrets)
        });
        let is_on = exporter.is_some();
        let lookout = Arc::new(Self {
            hep: exporter,
            listeners: listeners.iter().map(seen).collect(),
            captures: Mutex::default(),
            watched: Mutex::default(),
            is_watching: AtomicBool::new(false),
            dropped: metrics.dropped.of(["capture"]),
            tap: Arc::clone(tap),
        });
        tap.watch(Arc::clone(&lookout) as Arc<dyn Watch>);
        tap.turn(is_on);
        lookout
    }

    /// Begins a capture of an agent's messages; `None` if there are enough of them.
    pub(super) fn capture(&self, agent: &str) -> Option<mpsc::Receiver<Bytes>> {
        let mut captures = self.captures.lock();
        captures.retain(|capture| !capture.packets.is_closed());
        if captures.len() >= CAPTURES {
            return None;
        }
        let (packets, receiver) = mpsc::channel(QUEUE);
        // dropped: it has room.
        packets.try_send(pcapng::head().into()).ok();
        captures.push(Capture {
            agent: user(agent).to_owned(),
            packets,
        });
        drop(captures);
        self.tap.turn(true);
        Some(receiver)
    }

    /// Logs an agent's messages and steps until then; `false` if enough others are watched.
    pub(super) fn watch(&self, agent: &str, until_ms: u64) -> bool {
        let mut watched = self.watched.lock();
        let now = Clock::unix_ms();
        watched.retain(|known| known.until_ms > now && known.agent != agent);
        if watched.len() >= WATCHED {
            return false;
        }
        watched.push(Watched {
            agent: agent.to_owned(),
            until_ms,
        });
        drop(watched);
        self.is_watching.store(true, Ordering::Relaxed);
        self.tap.turn(true);
        true
    }

    /// Logs an agent no more; whether it was watched.
    pub(super) fn unwatch(&self, agent: &str) -> bool {
        let mut watched = self.watched.lock();
        let before = watched.len();
        watched.retain(|known| known.agent != agent);
        watched.len() < before
    }

    /// The agents that are watched.
    pub(super) fn watched(&self) -> Vec<Watched> {
        let now = Clock::unix_ms();
        let mut watched = self.watched.lock();
        watched.retain(|known| known.until_ms > now);
        watched.clone()
    }

    /// Whether anybody's steps are logged.
    pub(super) fn is_watching(&self) -> bool {
        self.is_watching.load(Ordering::Relaxed)
    }

    /// Logs a step of somebody who is watched. An operator has asked for it by name: nothing of it is
    /// redacted.
    pub(super) fn tell(&self, live: &Live) {
        let agent = match live {
            Live::Call { call, .. } => Some(&*call.agent),
            Live::Device { agent, .. } => agent.as_deref(),
        };
        let Some(agent) = agent.filter(|agent| self.wants(user(agent))) else {
            return;
        };
        match live {
            Live::Call { call, step } => {
                let (call_id, kind) = (&call.call_id, &step.kind);
                tracing::info!(target: "rouse::watch", agent, call_id, kind, "{}", step.text);
            }
            Live::Device { note, .. } => {
                let kind = &note.kind;
                tracing::info!(target: "rouse::watch", agent, kind, "{}", note.text);
            }
        }
    }

    fn wants(&self, agent: &str) -> bool {
        let now = Clock::unix_ms();
        let mut watched = self.watched.lock();
        watched.retain(|known| known.until_ms > now);
        if watched.is_empty() {
            self.is_watching.store(false, Ordering::Relaxed);
        }
        watched.iter().any(|known| user(&known.agent) == agent)
    }

    /// Looks no more if there is nobody to look for.
    fn rest(&self) {
        let captures = self.captures.lock();
        if self.hep.is_none() && captures.is_empty() && !self.is_watching() {
            self.tap.turn(false);
        }
    }

    fn local(&self, sight: &Sight<'_>) -> SocketAddr {
        let known = sight
            .listener
            .and_then(|listener| self.listeners.get(usize::from(listener.0)));
        // What goes to a hop goes from a port that the operating system chooses.
        known.copied().unwrap_or_else(|| {
            let first = self.listeners.first().map(SocketAddr::ip);
            let same = self
                .listeners
                .iter()
                .map(SocketAddr::ip)
                .find(|ip| ip.is_ipv4() == sight.remote.is_ipv4());
            let ip = same.or(first).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            SocketAddr::new(ip, 0)
        })
    }

    fn capture_packet(&self, users: &[Box<str>], packet: &Packet<'_>) {
        let mut captures = self.captures.lock();
        captures.retain(|capture| !capture.packets.is_closed());
        let wanted = captures
            .iter()
            .filter(|capture| users.iter().any(|user| **user == *capture.agent));
        let mut block: Option<Bytes> = None;
        for capture in wanted {
            if block.is_none() {
                block = pcapng::packet(packet).map(Bytes::from);
            }
            let is_taken = block
                .clone()
                .is_some_and(|block| capture.packets.try_send(block).is_ok());
            if !is_taken {
                self.dropped.inc();
            }
        }
    }

    fn log(&self, users: &[Box<str>], sight: &Sight<'_>, clean: &[u8]) {
        if self.is_watching() && users.iter().any(|user| self.wants(user)) {
            let direction = if sight.is_in { "in" } else { "out" };
            let (remote, transport) = (sight.remote, sight.transport.label());
            let text = String::from_utf8_lossy(clean);
            tracing::info!(target: "sip::wire", direction, %remote, transport, "{text}");
        }
    }
}

impl Watch for Lookout {
    fn see(&self, sight: &Sight<'_>) {
        let local = self.local(sight);
        let (source, destination) = if sight.is_in {
            (sight.remote, local)
        } else {
            (local, sight.remote)
        };
        let packet = |bytes| Packet {
            source,
            destination,
            transport: sight.transport,
            unix_us: Clock::unix_us(),
            bytes,
        };
        if let Some((exporter, true)) = &self.hep {
            exporter.export(&packet(sight.bytes));
        }
        let has_captures = !self.captures.lock().is_empty();
        let is_watching = self.is_watching();
        let is_clean = matches!(&self.hep, Some((_, false)));
        if !is_clean && !has_captures && !is_watching {
            return self.rest();
        }
        let clean = redacted(sight.bytes);
        if let Some((exporter, false)) = &self.hep {
            exporter.export(&packet(&clean));
        }
        if has_captures || is_watching {
            let users = users(sight.bytes);
            self.capture_packet(&users, &packet(&clean));
            self.log(&users, sight, &clean);
        }
    }
}

/// Whose message it may be.
fn users(bytes: &[u8]) -> Vec<Box<str>> {
    let Ok(message) = Message::parse(Bytes::copy_from_slice(bytes)) else {
        return Vec::new();
    };
    let mut users: Vec<Box<str>> = Vec::new();
    users.extend(message.from().ok().and_then(|from| user_of(&from).ok()));
    users.extend(message.to().ok().and_then(|to| user_of(&to).ok()));
    let uri = message.request_uri().and_then(|uri| Uri::parse(uri).ok());
    users.extend(uri.and_then(|uri| {
        let user = unescape(uri.user?).into_owned();
        String::from_utf8(user).ok().map(String::into_boxed_str)
    }));
    users
}

/// The user of USER or USER@DOMAIN: a message names an agent by it on both sides of us.
fn user(agent: &str) -> &str {
    agent.split_once('@').map_or(agent, |(user, _)| user)
}

/// A listener's address as others see it.
fn seen(listener: &Listener) -> SocketAddr {
    let address = listener.address;
    if !address.ip().is_unspecified() {
        return address;
    }
    let host = listener.advertise_host.trim_matches(['[', ']']);
    match host.parse() {
        Ok(ip) => SocketAddr::new(ip, listener.advertise_port),
        Err(_) => address,
    }
}
