//! The gateway of one shard: dispatch only.
//!
//! Feed one input, take the outputs until there are none, ask for the next timeout.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::proto::effects::Effects;
use crate::proto::line::Urgency;
use crate::proto::proxy::Proxy;
use crate::proto::registration::location::LocationService;
use crate::proto::settings::Settings;
use crate::proto::sip::Message;
use crate::proto::timer::{Timer, TimerQueue};
use crate::proto::{ClockAnchor, Command, Flow, Input, Output};

/// One shard's gateway.
#[derive(Debug)]
pub struct Gateway {
    proxy: Proxy,
    timers: TimerQueue,
    rng: StdRng,
    outputs: VecDeque<Output>,
    anchor: ClockAnchor,
}

/// What a gateway is made from.
#[derive(Clone, Debug)]
pub struct Genesis {
    /// The settings of all shards.
    pub settings: Arc<Settings>,
    /// This shard's number.
    pub shard: u16,
    /// How many shards there are.
    pub shards: u16,
    /// Both clocks at the start.
    pub anchor: ClockAnchor,
    /// The seed of all randomness. The lowest bit of its first byte says whether the branches of
    /// this process are odd.
    pub seed: [u8; 32],
    /// The key of flow tokens and agent numbers: the same after a restart, in every shard.
    pub key: [u8; 32],
}

impl Gateway {
    /// Makes a gateway; its first outputs ask for the addresses of the upstreams' nodes.
    #[must_use]
    pub fn new(genesis: Genesis) -> Self {
        let Genesis {
            settings,
            shard,
            shards,
            anchor,
            seed,
            key,
        } = genesis;
        let mut rng = StdRng::from_seed(seed);
        let parity = u64::from(seed[0] & 1);
        let transaction_key = [rng.next_u64() & !1 | parity, rng.next_u64()];
        let mut gateway = Self {
            proxy: Proxy::new(settings, (shard, shards), anchor, &key, transaction_key),
            timers: TimerQueue::default(),
            rng,
            outputs: VecDeque::new(),
            anchor,
        };
        gateway.with(anchor.instant, |proxy, fx| proxy.start(fx));
        gateway
    }

    /// Takes one input.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        self.with(now, |proxy, fx| match input {
            Input::Message { flow, message } => proxy.on_message(fx, flow, message),
            Input::Shed { flow, message } => proxy.shed(fx, flow, message),
            Input::Malformed { flow, bytes, error } => proxy.on_malformed(fx, flow, bytes, error),
            Input::Heard { flow } => proxy.heard(fx, flow),
            Input::FlowClosed { flow, reason } => proxy.on_flow_closed(fx, flow, reason),
            Input::SendFailed { transaction } => proxy.on_send_failed(fx, transaction),
            Input::Resolved { node, hops, ttl } => proxy.on_resolved(fx, node, hops, ttl),
            Input::Pushed { id, verdict } => proxy.on_pushed(fx, id, verdict),
            Input::Stored { ticket, durable } => proxy.on_stored(fx, ticket, durable),
            Input::Claimed(claim) => proxy.on_claimed(fx, claim),
            Input::Command(Command::Restore(binding)) => proxy.restore(fx, *binding),
            Input::Command(Command::Resume(call)) => proxy.resume(fx, *call),
            Input::Command(Command::Drain) => proxy.drain(),
            Input::Command(Command::HandOver) => proxy.hand_over(fx),
            Input::Command(Command::Reload(settings)) => proxy.reload(fx, settings),
            Input::Command(Command::Forget(key)) => proxy.forget(fx, key),
        });
    }

    /// How soon a message is to be handled if not all can be.
    #[must_use]
    pub fn urgency(&self, flow: &Flow, message: &Message) -> Urgency {
        self.proxy.urgency(flow, message)
    }

    /// Fires what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        loop {
            let (timer, binding) = (self.timers.next(), self.proxy.location().next_due());
            if binding.is_some_and(|due| due <= now && timer.is_none_or(|timer| due < timer)) {
                self.with(now, |proxy, fx| proxy.on_bindings_due(fx));
                continue;
            }
            let Some(timer) = self.timers.pop_due(now) else {
                return;
            };
            self.with(now, |proxy, fx| proxy.on_timer(fx, timer));
        }
    }

    /// Takes the next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let binding = self.proxy.location().next_due();
        self.timers.next().into_iter().chain(binding).min()
    }

    /// Who is registered, for whoever asks.
    #[must_use]
    pub const fn location(&self) -> &LocationService {
        self.proxy.location()
    }

    /// What is in flight, for invariant checks: each number is of entries in one table, all zero
    /// when every request was answered and its time is over.
    #[must_use]
    pub fn in_flight(&self) -> [usize; 6] {
        self.proxy.in_flight()
    }

    /// Requests whose sender still waits for an answer: a process that ends may wait for them.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.proxy.unanswered()
    }

    /// How many nodes are being asked whether they are back, for invariant checks: each is a client
    /// transaction.
    #[must_use]
    pub fn nodes_asked(&self) -> usize {
        self.proxy.nodes_asked()
    }

    /// The armed timers, for invariant checks.
    pub fn timers(&self) -> impl Iterator<Item = (Instant, Timer)> + '_ {
        let bindings = self.proxy.location().dues();
        let bindings = bindings.map(|(due, key)| (due, Timer::Binding(key)));
        self.timers.iter().chain(bindings)
    }

    fn with<T>(&mut self, now: Instant, act: impl FnOnce(&mut Proxy, &mut Effects<'_>) -> T) -> T {
        let after = now.saturating_duration_since(self.anchor.instant);
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let mut fx = Effects {
            now,
            unix_ms: self.anchor.unix_ms.saturating_add(after_ms),
            timers: &mut self.timers,
            rng: &mut self.rng,
            outputs: &mut self.outputs,
        };
        act(&mut self.proxy, &mut fx)
    }
}
