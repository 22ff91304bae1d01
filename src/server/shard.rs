//! One shard's task: takes inputs, feeds the gateway, acts on its outputs.
//!
//! What can be answered on the spot (a flow that is gone, a store that is full) is fed back before
//! the next input from outside. The task waits for nothing but its queues and the next timeout.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;

use crate::io::clock::Clock;
use crate::io::transport::Report;
use crate::proto::transaction::ClientId;
use crate::proto::{
    CloseReason, Command, Destination, FlowId, Gateway, Input, Output, StoreTicket, StoreWrite,
};
use crate::server::census::Census;
use crate::server::traffic::Direction;
use crate::server::world::World;

/// Inputs between two looks at the clock.
const BATCH: usize = 64;
/// How often a shard counts what it holds; it wakes up for that even when nothing happens.
const CENSUS: Duration = Duration::from_secs(5);
/// The same while it drains: somebody waits for the last call.
const DRAINING: Duration = Duration::from_millis(50);

/// What an operator asks of a shard; it answers by itself.
pub(super) type Ask = Box<dyn FnOnce(&Gateway, Instant) + Send>;

/// The ends of a shard's queues that are read.
pub(super) struct Queues {
    pub(super) network: mpsc::Receiver<Input>,
    pub(super) answers: mpsc::Receiver<Input>,
    pub(super) asks: mpsc::Receiver<Ask>,
}

/// One shard.
pub(super) struct Shard {
    number: u16,
    gateway: Gateway,
    queues: Queues,
    world: Arc<World>,
    /// Inputs that our own acting caused.
    echoes: VecDeque<Input>,
    answers: Vec<Input>,
    messages: Vec<Input>,
    waiting: Gauge,
    census: Census,
    census_due: Instant,
    is_draining: bool,
}

impl Shard {
    pub(super) fn new(number: u16, gateway: Gateway, queues: Queues, world: Arc<World>) -> Self {
        let waiting = world.metrics.input_queue_of(number);
        let census = Census::new(&world.metrics);
        Self {
            number,
            gateway,
            queues,
            world,
            echoes: VecDeque::new(),
            answers: Vec::with_capacity(BATCH),
            messages: Vec::with_capacity(BATCH),
            waiting,
            census,
            census_due: Clock::now(),
            is_draining: false,
        }
    }

    /// Runs until `stop` is set, then takes what has arrived before and ends.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let sleep = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(sleep);
        // What the restored bindings asked for.
        self.step(Clock::now());
        loop {
            self.rearm(sleep.as_mut());
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                _ = self.queues.answers.recv_many(&mut self.answers, BATCH) => {}
                _ = self.queues.network.recv_many(&mut self.messages, BATCH) => {}
                () = sleep.as_mut() => {}
                Some(ask) = self.queues.asks.recv() => ask(&self.gateway, Clock::now()),
            }
            let start = Clock::now();
            self.step(start);
            let worked = Clock::now().saturating_duration_since(start);
            self.world
                .metrics
                .loop_seconds
                .observe(worked.as_secs_f64());
            let waiting = self.queues.network.len() + self.queues.answers.len();
            self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
            if start >= self.census_due {
                self.show(start);
            }
        }
        self.finish();
    }

    /// Says what it holds, and that it is there.
    fn show(&mut self, now: Instant) {
        let every = if self.is_draining { DRAINING } else { CENSUS };
        self.census_due = now + every;
        self.census.take(&self.gateway);
        let at = usize::from(self.number);
        if let Some(beat) = self.world.beats.lock().get_mut(at) {
            *beat = now;
        }
        if self.is_draining {
            let unanswered = self.gateway.unanswered();
            self.world.unanswered.send_modify(|shards| {
                if let Some(shard) = shards.get_mut(at) {
                    *shard = Some(unanswered);
                }
            });
        }
    }

    /// Sets the timer. One that fires early costs a wake-up; moving it for every input costs more.
    fn rearm(&self, sleep: Pin<&mut Sleep>) {
        let next = if self.echoes.is_empty() {
            let due = self.gateway.poll_timeout();
            due.map_or(self.census_due, |due| due.min(self.census_due))
        } else {
            Clock::now()
        };
        let next = next.into();
        if sleep.is_elapsed() || next < sleep.deadline() {
            sleep.reset(next);
        }
    }

    /// Fires what is due, then takes the batch.
    fn step(&mut self, now: Instant) {
        if self.gateway.poll_timeout().is_some_and(|due| due <= now) {
            self.gateway.handle_timeout(now);
        }
        self.drain(now);
        let mut answers = std::mem::take(&mut self.answers);
        let mut messages = std::mem::take(&mut self.messages);
        for input in answers.drain(..).chain(messages.drain(..)) {
            self.handle(now, input);
        }
        self.answers = answers;
        self.messages = messages;
        // Bounded: an echo that echoes must not hold up the others for ever.
        for _ in 0..BATCH {
            let Some(input) = self.echoes.pop_front() else {
                break;
            };
            self.handle(now, input);
        }
    }

    fn handle(&mut self, now: Instant, input: Input) {
        match &input {
            Input::Message { flow, message } => {
                let (metrics, raw) = (&self.world.metrics, message.raw());
                let transport = flow.transport;
                self.world
                    .traffic
                    .count(metrics, Direction::In, transport, raw);
            }
            Input::Stored { durable, .. } => {
                let outcome = if *durable { "durable" } else { "failed" };
                self.world.metrics.store_writes.of([outcome]).inc();
                self.world.health.on_stored(*durable);
            }
            Input::Malformed { .. }
            | Input::Heard { .. }
            | Input::FlowClosed { .. }
            | Input::SendFailed { .. }
            | Input::Resolved { .. }
            | Input::Pushed { .. }
            | Input::Claimed(_)
            | Input::Command(
                Command::Restore(_) | Command::Resume(_) | Command::Reload(_) | Command::Forget(_),
            ) => {}
            Input::Command(Command::Drain | Command::HandOver) => {
                self.is_draining = true;
                self.census_due = now;
            }
        }
        self.gateway.handle_input(now, input);
        self.drain(now);
    }

    fn drain(&mut self, now: Instant) {
        while let Some(output) = self.gateway.poll_output() {
            self.act(now, output);
        }
    }

    fn act(&mut self, now: Instant, output: Output) {
        let network = &self.world.network;
        match output {
            Output::Send {
                to,
                message,
                report,
            } => self.send(&to, message, report),
            Output::Ping { flow } => network.ping(flow),
            Output::Close { flow } => network.close(flow),
            Output::FlowBound { flow } => self.bind(flow),
            Output::FlowUnbound { flow } => network.unbind_flow(flow, self.number),
            Output::Resolve { node } => self.world.resolve(node, self.number),
            Output::Push(request) => self.world.push(*request),
            Output::Withdraw(push) => self.world.withdraw(push),
            Output::Store { ticket, write } => self.store(ticket, write),
            Output::Claim(claim) => self.world.claim(claim, self.number),
            Output::HandedOver(left) => self.world.left.send_modify(|shards| {
                if let Some(shard) = shards.get_mut(usize::from(self.number)) {
                    *shard = Some(left);
                }
            }),
            Output::Event(event) => self.world.on_event(now, self.number, &event),
        }
    }

    fn send(&mut self, to: &Destination, message: Bytes, transaction: Option<ClientId>) {
        let report = transaction.map(|transaction| Report {
            shard: self.number,
            transaction,
        });
        let world = &self.world;
        match world.network.send(to, message.clone(), report) {
            Ok(transport) => {
                world
                    .traffic
                    .count(&world.metrics, Direction::Out, transport, &message);
            }
            Err(error) => {
                tracing::debug!(%error, "message not sent");
                if let Some(transaction) = transaction {
                    self.echoes.push_back(Input::SendFailed { transaction });
                }
            }
        }
    }

    fn bind(&mut self, flow: FlowId) {
        if !self.world.network.bind_flow(flow, self.number) {
            // It ended before we knew that we wanted to hear of it.
            let reason = CloseReason::Transport;
            self.echoes.push_back(Input::FlowClosed { flow, reason });
        }
    }

    fn store(&mut self, ticket: Option<StoreTicket>, write: StoreWrite) {
        if let Err(error) = self.world.store.submit(ticket, write) {
            tracing::warn!(%error, "binding not stored");
            match ticket {
                Some(ticket) => self.echoes.push_back(Input::Stored {
                    ticket,
                    durable: false,
                }),
                None => {
                    self.world.metrics.store_writes.of(["refused"]).inc();
                }
            }
        }
    }

    /// Takes what is in the queues and ends.
    fn finish(&mut self) {
        let now = Clock::now();
        while let Ok(input) = self.queues.answers.try_recv() {
            self.handle(now, input);
        }
        while let Ok(input) = self.queues.network.try_recv() {
            self.handle(now, input);
        }
        for _ in 0..BATCH * BATCH {
            let Some(input) = self.echoes.pop_front() else {
                return;
            };
            self.handle(now, input);
        }
    }
}
