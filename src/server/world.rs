//! What all shards act on: the network, the store, the push services, DNS, the metrics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc, watch};

use crate::io::admin::view::{CallStory, Live};
use crate::io::pns::{PushService, Withdrawal};
use crate::io::resolver::Resolver;
use crate::io::store::Store;
use crate::io::transport::{Closed, Counts, Dropped, Inlet, MAX_SHARDS, Network, Refused};
use crate::proto::push::{PushId, PushRequest};
use crate::proto::settings::Node;
use crate::proto::shard::bit;
use crate::proto::{Claim, Event, Hop, Input};
use crate::server::collector::Collector;
use crate::server::health::Health;
use crate::server::lookout::Lookout;
use crate::server::shard::Ask;
use crate::server::traffic::Traffic;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::timeline::Recorder;

/// When to ask again after DNS has failed.
const DNS_RETRY: Duration = Duration::from_secs(5);

/// The outside, as the shards share it.
pub(super) struct World {
    pub(super) lookout: Arc<Lookout>,
    pub(super) network: Arc<Network>,
    pub(super) inlet: Arc<Inlet>,
    pub(super) store: Store,
    pub(super) push: ArcSwap<PushService>,
    /// The pushes without a verdict, to withdraw them.
    pub(super) pushes: Mutex<HashMap<PushId, watch::Sender<bool>>>,
    pub(super) resolver: Resolver,
    /// Every node that there has been, by index over all upstreams.
    pub(super) nodes: ArcSwap<Vec<Node>>,
    /// Who waits for a node's answer, and the last one that was good.
    pub(super) questions: Mutex<HashMap<u16, Question>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) traffic: Traffic,
    /// Requests without an answer, by shard, as each says while it drains.
    pub(super) unanswered: watch::Sender<Vec<Option<usize>>>,
    /// What each shard has left after it was told to hand over.
    pub(super) left: watch::Sender<Vec<Option<Vec<u64>>>>,
    /// Whether this process's branches are odd.
    pub(super) is_odd: bool,
    /// When each shard last showed itself.
    pub(super) beats: Mutex<Vec<Instant>>,
    /// What each shard remembers.
    pub(super) recorders: Vec<Mutex<Recorder>>,
    /// To those who follow what happens.
    pub(super) live: broadcast::Sender<Arc<Live>>,
    /// To each shard: what an operator asks.
    pub(super) asks: Vec<mpsc::Sender<Ask>>,
    pub(super) health: Health,
    /// Those who take the calls that are over.
    pub(super) collectors: Vec<Collector>,
}

/// What is known and asked of a node.
#[derive(Debug, Default)]
pub(super) struct Question {
    /// Shards that wait, as a mask; zero if nobody asks.
    waiting: u64,
    last: Vec<Hop>,
}

impl World {
    /// Sends a push; its verdict comes as an answer to the shard.
    pub(super) fn push(self: &Arc<Self>, request: PushRequest) {
        let (world, push) = (Arc::clone(self), self.push.load_full());
        let (sender, withdrawal) = Withdrawal::new();
        self.pushes.lock().insert(request.id, sender);
        tokio::spawn(async move {
            let id = request.id;
            let verdict = push.send_unless(request, &withdrawal).await;
            world.pushes.lock().remove(&id);
            let answer = Input::Pushed { id, verdict };
            world.inlet.answer(id.shard, answer).await;
        });
    }

    /// Counts, logs and remembers what happened in a shard.
    pub(super) fn on_event(&self, now: Instant, shard: u16, event: &Event) {
        self.metrics.record(event);
        self.health.on_event(event);
        let Some(recorder) = self.recorders.get(usize::from(shard)) else {
            return;
        };
        let mut recorder = recorder.lock();
        let is_watching = self.lookout.is_watching();
        recorder.follow(is_watching || self.live.receiver_count() > 0);
        recorder.record(now, event);
        for live in recorder.take_live() {
            if is_watching {
                self.lookout.tell(&live);
            }
            // dropped: whoever followed has just gone.
            self.live.send(Arc::new(live)).ok();
        }
        for story in recorder.take_ended() {
            self.tell_ended(&story);
        }
    }

    fn tell_ended(&self, story: &CallStory) {
        for collector in &self.collectors {
            collector.add(story.clone());
        }
    }

    /// Hands on the calls that are under way as they are: the process ends.
    pub(super) async fn finish(&self) {
        let mut calls = Vec::new();
        for recorder in &self.recorders {
            calls.extend(recorder.lock().take_talking());
        }
        for collector in &self.collectors {
            collector.finish(calls.clone()).await;
        }
    }

    /// A push is of no use any more.
    pub(super) fn withdraw(&self, push: PushId) {
        if let Some(sender) = self.pushes.lock().get(&push) {
            sender.send_replace(true);
        }
    }

    /// Tells all shards but one of a claim.
    pub(super) fn claim(self: &Arc<Self>, claim: Claim, from: u16) {
        if !self.inlet.has(1) {
            return;
        }
        let world = Arc::clone(self);
        tokio::spawn(async move {
            let others = (0..MAX_SHARDS).filter(|shard| *shard != from);
            for shard in others.take_while(|shard| world.inlet.has(*shard)) {
                world.inlet.answer(shard, Input::Claimed(claim)).await;
            }
        });
    }

    /// Resolves a node once for all shards that ask meanwhile.
    pub(super) fn resolve(self: &Arc<Self>, node: u16, shard: u16) {
        let is_asked = {
            let mut questions = self.questions.lock();
            let question = questions.entry(node).or_default();
            let is_asked = question.waiting != 0;
            question.waiting |= bit(shard);
            is_asked
        };
        if !is_asked {
            let world = Arc::clone(self);
            tokio::spawn(async move { world.ask(node).await });
        }
    }

    async fn ask(&self, index: u16) {
        let nodes = self.nodes.load_full();
        let found = match nodes.iter().find(|node| node.index == index) {
            Some(node) => match self.resolver.resolve(node).await {
                Ok(found) => Some(found),
                Err(error) => {
                    tracing::warn!(node = index, %error, "upstream node not resolved");
                    None
                }
            },
            None => None,
        };
        let (waiting, hops, ttl) = {
            let mut questions = self.questions.lock();
            let question = questions.entry(index).or_default();
            let ttl = match found {
                Some((hops, ttl)) => {
                    question.last = hops;
                    ttl
                }
                // DNS that fails must not end the calls: the last answer may still be right.
                None => DNS_RETRY,
            };
            let waiting = std::mem::take(&mut question.waiting);
            (waiting, question.last.clone(), ttl)
        };
        for shard in (0..MAX_SHARDS).filter(|shard| waiting & bit(*shard) != 0) {
            let (node, hops) = (index, hops.clone());
            let answer = Input::Resolved { node, hops, ttl };
            self.inlet.answer(shard, answer).await;
        }
    }
}

/// The transports' counters, as registered metrics.
pub(super) fn counts(metrics: &Metrics) -> Counts {
    Counts {
        keepalives: metrics.keepalives.clone(),
        certificate_loads: metrics.certificates.of(["loaded"]),
        certificate_errors: metrics.certificates.of(["unusable"]),
        open_tcp: metrics.flows_of("tcp"),
        open_tls: metrics.flows_of("tls"),
        open_ws: metrics.flows_of("ws"),
        open_wss: metrics.flows_of("wss"),
        closed: closed(metrics),
        dropped: dropped(metrics),
        refused: refused(metrics),
    }
}

fn closed(metrics: &Metrics) -> Closed {
    let of = |reason| metrics.flows_closed.of([reason]);
    Closed {
        peer: of("peer"),
        framing: of("framing"),
        idle: of("idle"),
        slow_reader: of("slow-reader"),
        transport: of("transport"),
        local: of("local"),
    }
}

fn dropped(metrics: &Metrics) -> Dropped {
    let of = |place| metrics.dropped.of([place]);
    Dropped {
        oversize: of("oversize"),
        garbage: of("garbage"),
        input_queue: of("input-queue"),
        flow_gone: of("send-flow-gone"),
        write_queue: of("write-queue"),
        datagram_send: of("datagram-send"),
        unsent: of("unsent"),
        pong_withheld: of("pong-withheld"),
        no_ping: of("no-ping"),
    }
}

fn refused(metrics: &Metrics) -> Refused {
    let of = |reason| metrics.flows_refused.of([reason]);
    Refused {
        accept: of("accept"),
        total: of("total"),
        address: of("address"),
        handshake: of("handshake"),
        upgrade: of("upgrade"),
        connect: of("connect"),
    }
}
