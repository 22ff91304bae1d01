//! Proxying (RFC 3261 §16), one file per step.
//!
//! A request is validated (`validate`, §16.3), its Routes read (`preprocess`, §16.4), its targets
//! found (`targets`, §16.5), each reached by a branch (`device` for phones, `forward` for how a
//! request is written, §16.6), its answers gathered (`response`, `best_response`, §16.7), and its
//! CANCEL followed (`cancel`, §16.10). `register` drives a REGISTER, `qualify` answers OPTIONS.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use ahash::RandomState;
use smallvec::SmallVec;

use crate::proto::effects::Effects;
use crate::proto::event::Drop;
use crate::proto::guard::Guard;
use crate::proto::push::refresh;
use crate::proto::push::wake::{Waiter, Wakes};
use crate::proto::registration::flow::TokenSigner;
use crate::proto::registration::location::LocationService;
use crate::proto::registration::purr::Purrs;
use crate::proto::reject::Reject;
use crate::proto::settings::Settings;
use crate::proto::sip::{HeaderName, Message, Method, Reply};
use crate::proto::timer::{ContextTimer, Timer};
use crate::proto::transaction::{ClientId, Received, ServerId, Transactions, response_flow};
use crate::proto::{
    AorId, BindingKey, ClockAnchor, Destination, Event, Flow, FlowId, Output, ParseError,
};

mod best_response;
mod bindings;
mod branch;
mod cancel;
mod contexts;
mod control;
mod device;
mod early;
mod forward;
mod gate;
mod health;
mod hold;
mod keep;
mod late_wake;
mod left;
mod missed;
mod oversize;
mod preprocess;
mod qualify;
mod recognise;
mod register;
mod response;
mod response_context;
mod resume;
mod sips;
mod surge;
mod targets;
mod upstream;
mod validate;
mod verdict;
mod waking;

use contexts::Contexts;
use preprocess::Routes;
use response_context::ResponseContext;
use upstream::Upstreams;

/// The proxy of one shard: all that it knows.
#[derive(Debug)]
pub struct Proxy {
    settings: Arc<Settings>,
    shard: u16,
    /// How many shards there are.
    shards: u16,
    anchor: ClockAnchor,
    signer: TokenSigner,
    purrs: Purrs,
    upstreams: Upstreams,
    transactions: Transactions,
    location: LocationService,
    wakes: Wakes,
    contexts: Contexts,
    /// The branch of each client transaction that has one.
    clients: HashMap<ClientId, Waiter, RandomState>,
    /// The context of each INVITE that may be cancelled.
    servers: HashMap<ServerId, u64, RandomState>,
    /// INVITEs that were answered with 2xx: where another 2xx goes (RFC 6026 §8.4).
    late_answers: HashMap<ClientId, ServerId, RandomState>,
    /// INVITEs that are out where perhaps nobody is.
    left: HashMap<ClientId, left::Left, RandomState>,
    /// The branches that are not final, by their device.
    by_device: HashMap<BindingKey, SmallVec<[Waiter; 2]>, RandomState>,
    /// The branches that go on when a flow of their device is heard.
    listening: HashMap<FlowId, SmallVec<[Waiter; 1]>, RandomState>,
    /// The branches whose request is live on a flow that their device has left for another.
    moved: HashMap<FlowId, SmallVec<[Waiter; 1]>, RandomState>,
    /// The node of each OPTIONS that asks whether one is back.
    checks: HashMap<ClientId, u16, RandomState>,
    /// Registrations that the gateway refreshes itself.
    keeping: keep::Keeping,
    /// The contexts of REGISTERs that are under way, by their agent: chan_sip qualifies before it
    /// answers.
    registering: HashMap<AorId, SmallVec<[u64; 1]>, RandomState>,
    /// Requests that are here before their agent's first device is.
    overtaking: early::Overtaking,
    /// The context that waits for a write, by the ticket's number.
    tickets: HashMap<u64, u64, RandomState>,
    last_ticket: u64,
    /// What is kept for devices that sleep.
    shelf: hold::Shelf,
    guard: Guard,
    tags: validate::Tags,
    is_draining: bool,
    /// When the call came that is just taken up from an earlier process.
    resumed: Option<Instant>,
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A device whose registration was accepted, over its flow.
    Device,
    /// Asterisk, of this group.
    Upstream(u16),
    /// Anybody else.
    Stranger,
}

impl Proxy {
    /// A proxy that knows nobody.
    pub(super) fn new(
        settings: Arc<Settings>,
        (shard, shards): (u16, u16),
        anchor: ClockAnchor,
        key: &[u8; 32],
        transaction_key: [u64; 2],
    ) -> Self {
        let timing = settings.timing;
        let limit = settings.limits.transactions;
        let wakes = Wakes::new(shard, settings.limits.pushes_per_device);
        let guard = Guard::new(settings.clone(), shards, transaction_key);
        Self {
            guard,
            upstreams: Upstreams::new(settings.clone()),
            transactions: Transactions::new(timing, shard, limit, transaction_key),
            signer: TokenSigner::new(key),
            tags: validate::Tags::new(key),
            purrs: Purrs::new(key),
            settings,
            shard,
            shards,
            anchor,
            location: LocationService::default(),
            wakes,
            contexts: Contexts::default(),
            clients: HashMap::default(),
            servers: HashMap::default(),
            late_answers: HashMap::default(),
            left: HashMap::default(),
            by_device: HashMap::default(),
            listening: HashMap::default(),
            moved: HashMap::default(),
            checks: HashMap::default(),
            keeping: keep::Keeping::default(),
            registering: HashMap::default(),
            overtaking: HashMap::default(),
            tickets: HashMap::default(),
            last_ticket: 0,
            shelf: hold::Shelf::default(),
            is_draining: false,
            resumed: None,
        }
    }

    /// Begins: finds the upstreams' addresses.
    pub(super) fn start(&mut self, fx: &mut Effects<'_>) {
        self.upstreams.start(fx);
    }

    /// DNS answered.
    pub(super) fn on_resolved(
        &mut self,
        fx: &mut Effects<'_>,
        node: u16,
        hops: Vec<crate::proto::Hop>,
        ttl: std::time::Duration,
    ) {
        self.upstreams.on_resolved(fx, node, hops, ttl);
    }

    /// Takes a message.
    pub(super) fn on_message(&mut self, fx: &mut Effects<'_>, flow: Flow, message: Message) {
        self.heard(fx, flow.id);
        if message.is_request() {
            self.on_request(fx, flow, message);
        } else {
            self.on_response(fx, &flow, &message);
        }
    }

    /// Answers bytes that are no message, if an answer can be built.
    pub(super) fn on_malformed(
        &mut self,
        fx: &mut Effects<'_>,
        flow: Flow,
        bytes: bytes::Bytes,
        _error: ParseError,
    ) {
        fx.event(Event::Dropped {
            place: Drop::Malformed,
            flow: Some(flow.id),
        });
        if !self.admit_malformed(fx, &flow) {
            return;
        }
        if let Some(message) = Message::salvage(bytes)
            && message.is_request()
        {
            let source = self.source(&flow);
            self.turn_away(fx, &flow, &message, source, Reject::Malformed);
        }
    }

    fn on_request(&mut self, fx: &mut Effects<'_>, flow: Flow, request: Message) {
        let source = self.source(&flow);
        if !self.admit(fx, &flow, &request, source) {
            return;
        }
        if let Err(reject) = self.validate(&request) {
            return self.turn_away(fx, &flow, &request, source, reject);
        }
        let routes = match self.preprocess(&request) {
            Ok(routes) => routes,
            Err(reject) => return self.turn_away(fx, &flow, &request, source, reject),
        };
        let method = request.method();
        let is_known = routes.token.is_some() || source != Source::Stranger;
        // Anybody may ask whether we are there: that must cost no memory.
        if self.is_ping(&request) {
            let reply = self.ping_reply(&flow, &request);
            self.send_stateless(fx, &flow, &request, reply);
            return;
        }
        let is_open_to_all = method == Some(Method::Register);
        // A phone that has registered from elsewhere may still speak of its call from here.
        if !is_known && !is_open_to_all && !self.transactions.knows(&flow, &request) {
            return self.turn_away(fx, &flow, &request, source, Reject::Forbidden);
        }
        match self.transactions.handle_request(fx, &flow, &request) {
            Received::New(server) => self.on_new(fx, flow, request, server, source, routes),
            Received::Retransmission | Received::Acked => {}
            Received::Cancel { cancel, invite } => {
                self.on_cancel(fx, &flow, &request, cancel, invite);
            }
            Received::Ack => self.on_ack(fx, flow, &request, source, &routes),
            Received::Full => self.refuse_stateless(fx, &flow, &request, Reject::Overloaded),
        }
    }

    fn on_new(
        &mut self,
        fx: &mut Effects<'_>,
        flow: Flow,
        request: Message,
        server: ServerId,
        source: Source,
        routes: Routes,
    ) {
        let outcome = match request.method() {
            Some(Method::Register) => self.register(fx, flow, &request, server),
            _ if source == Source::Device
                && let Err(reject) = self.admit_agent(fx, &flow, &request) =>
            {
                Err(reject)
            }
            _ => self.proxy_request(fx, flow, &request, server, source, routes),
        };
        if let Err(reject) = outcome {
            let is_unknown = matches!(reject, Reject::NoDevice | Reject::UnknownAgent);
            if is_unknown && self.wait_for_first(fx, &flow, &request, server, source) {
                return;
            }
            Self::report_refused(fx, &request, source, reject);
            self.refuse(fx, &flow, &request, server, reject);
        }
    }

    /// Who sent a request over a flow.
    fn source(&self, flow: &Flow) -> Source {
        if self.location.is_bound(flow.id) {
            return Source::Device;
        }
        self.upstreams
            .trusting_flow(flow)
            .map_or(Source::Stranger, Source::Upstream)
    }

    /// The binding of a flow whose agent From names; else the flow's first.
    pub(super) fn caller_on(&self, request: &Message, flow: FlowId) -> Option<BindingKey> {
        let keys = self.location.on_flow(flow);
        let user = request
            .from()
            .ok()
            .and_then(|from| crate::proto::registration::relay::user_of(&from).ok());
        let named = keys.iter().find(|key| {
            self.location
                .agent(key.aor)
                .is_some_and(|a| Some(a.aor.user()) == user.as_deref())
        });
        named.or_else(|| keys.first()).copied()
    }

    /// Something was heard on a flow: its devices are awake.
    pub(super) fn heard(&mut self, fx: &mut Effects<'_>, flow: FlowId) {
        self.location.hear(flow, fx.now);
        if self.listening.is_empty() {
            return;
        }
        for waiter in self.listening.get(&flow).cloned().unwrap_or_default() {
            self.with_context(fx, waiter.context, |proxy, fx, context| {
                proxy.on_pong(fx, context, waiter.branch, flow);
            });
        }
    }

    /// Works on a context, and then sees whether it is done.
    fn with_context(
        &mut self,
        fx: &mut Effects<'_>,
        id: u64,
        act: impl FnOnce(&mut Self, &mut Effects<'_>, &mut ResponseContext),
    ) {
        let Some(mut context) = self.contexts.take(id) else {
            return;
        };
        act(self, fx, &mut context);
        self.settle(fx, context);
    }

    /// Fires a timer of a context.
    pub(super) fn on_context_timer(&mut self, fx: &mut Effects<'_>, id: u64, timer: ContextTimer) {
        self.with_context(fx, id, |proxy, fx, context| match timer {
            ContextTimer::C(index) => proxy.on_timer_c(fx, context, index),
            ContextTimer::Cancel(index) => proxy.on_cancel_silent(fx, context, index),
            ContextTimer::Late(index) => proxy.finish_branch(fx, context, index),
            ContextTimer::Grace(index) => proxy.on_grace(fx, context, index),
            ContextTimer::Probe(index) => proxy.on_probe_silent(fx, context, index),
            ContextTimer::Retry(index) => proxy.on_retry(fx, context, index),
            ContextTimer::Wake(index) => proxy.on_wake_timeout(fx, context, index),
        });
    }

    /// Fires any timer.
    pub(super) fn on_timer(&mut self, fx: &mut Effects<'_>, timer: Timer) {
        match timer {
            Timer::Binding(key) => self.on_binding_due(fx, key),
            Timer::Client(id, letter) => {
                if let Some(event) = self.transactions.handle_client_timer(fx, id, letter) {
                    self.on_client_event(fx, id, event, None);
                }
            }
            Timer::Context(id, timer) => self.on_context_timer(fx, id, timer),
            Timer::Early(aor, server) => self.on_early_due(fx, aor, server),
            Timer::Health(node) => self.on_health_due(fx, node),
            Timer::LateAnswer(client) => {
                self.late_answers.remove(&client);
            }
            Timer::Resolve(node) => fx.output(Output::Resolve { node }),
            Timer::Unbind(flow) => self.on_unbind(fx, flow),
            Timer::Server(id, letter) => self.transactions.handle_server_timer(fx, id, letter),
        }
    }

    /// Answers a request with a refusal through its transaction.
    pub(super) fn refuse(
        &mut self,
        fx: &mut Effects<'_>,
        flow: &Flow,
        request: &Message,
        server: ServerId,
        reject: Reject,
    ) {
        fx.event(Event::Rejected {
            reject,
            flow: *flow,
        });
        let (status, _) = reject.status();
        let reply = self.refusal(flow, request, reject);
        let is_flood = reject.is_flood() && !flow.transport.is_reliable();
        if is_flood || self.amplifies(flow, request, reply.len()) {
            // An answer would only add to it, or serve who sends in another's name.
            return self.transactions.discard(server);
        }
        self.transactions.respond(fx, server, status, reply);
    }

    /// Answers a request without keeping anything; an ACK, or what every shard gets, is only
    /// dropped.
    pub(super) fn refuse_stateless(
        &self,
        fx: &mut Effects<'_>,
        flow: &Flow,
        request: &Message,
        reject: Reject,
    ) {
        fx.event(Event::Rejected {
            reject,
            flow: *flow,
        });
        if request.method() == Some(Method::Ack) || self.is_for_all(request) {
            return;
        }
        let message = self.refusal(flow, request, reject);
        self.send_stateless(fx, flow, request, message);
    }

    /// Sends an answer that no transaction repeats.
    fn send_stateless(
        &self,
        fx: &mut Effects<'_>,
        flow: &Flow,
        request: &Message,
        message: bytes::Bytes,
    ) {
        if self.amplifies(flow, request, message.len()) {
            fx.event(Event::Dropped {
                place: Drop::Reflection,
                flow: Some(flow.id),
            });
            return;
        }
        let to = match request.top_via() {
            Ok(via) => response_flow(flow, &via),
            // One that cannot be read goes back as it came, to where it came from.
            Err(_) if request.header(HeaderName::Via).is_some() => flow.id,
            Err(_) => {
                fx.event(Event::Dropped {
                    place: Drop::NoVia,
                    flow: Some(flow.id),
                });
                return;
            }
        };
        fx.output(Output::Send {
            to: Destination::Flow(to),
            message,
            report: None,
        });
    }

    /// Whether the other shards get this request too.
    fn is_for_all(&self, request: &Message) -> bool {
        self.shards > 1 && crate::proto::shard::is_for_all(request)
    }

    fn refusal(&self, flow: &Flow, request: &Message, reject: Reject) -> bytes::Bytes {
        let (mut status, phrase) = reject.status();
        if reject.is_unreachable() {
            status = self.settings.wake.unreachable_status;
        }
        let mut reply = Reply::new(request, status, phrase);
        stamp(&mut reply, flow, request);
        reply.to_tag(self.tags.of(request));
        if reject == Reject::BadExtension {
            for option in request.values(HeaderName::ProxyRequire) {
                reply.header(HeaderName::Unsupported, option);
            }
        }
        if reject == Reject::SipsNotAllowed
            && let Some(listener) = self.upstreams.listener_settings(flow.listener)
        {
            let ((code, text), host) = (sips::WARNING, &listener.advertise_host);
            reply.header(HeaderName::Warning, format!("{code} {host} \"{text}\""));
        }
        if reject == Reject::TooBrief {
            reply.header(HeaderName::MinExpires, refresh::SHORTEST.to_string());
        }
        if matches!(reject, Reject::Shed | Reject::Overloaded) {
            // Those who are refused together should not come back together.
            let seconds = 1 + self.tags.number(request) % 30;
            reply.header(HeaderName::RetryAfter, seconds.to_string());
        } else if reject.is_passing() {
            reply.header(HeaderName::RetryAfter, "5");
        }
        if reject.is_no_device() {
            let reason = format!("SIP;cause={status};text=\"{}\"", reject.label());
            reply.header(HeaderName::Reason, reason);
        }
        reply.finish()
    }

    /// Live state, for invariant checks: contexts, server and client transactions, wakes, tickets.
    #[must_use]
    pub(super) fn in_flight(&self) -> [usize; 6] {
        let (server, client) = self.transactions.count();
        [
            self.contexts.count(),
            server,
            client,
            self.wakes.count(),
            self.tickets.len() + self.registering.len() + self.overtaking.len(),
            self.clients.len()
                + self.by_device.len()
                + self.listening.len()
                + self.moved.len()
                + self.late_answers.len()
                + self.left.len()
                + self.servers.len()
                + self.keeping.count()
                + self.shelf.count(),
        ]
    }

    /// The location service, for whoever asks.
    pub(super) const fn location(&self) -> &LocationService {
        &self.location
    }
}

/// Fills in `received` and `rport` of a reply's top Via (RFC 3581 §4).
pub(super) fn stamp(reply: &mut Reply<'_>, flow: &Flow, request: &Message) {
    if let Some(via) = request
        .top_via()
        .ok()
        .and_then(|via| via.stamped(flow.remote))
    {
        reply.top_via(via);
    }
}
