//! One shard: takes inputs, feeds the gateway, acts on its outputs.
//!
//! Whoever has put something into a shard's queues runs it on the spot, if nobody else does: see
//! [`Attend`]. The shard's own task runs it when a timeout is due and when there is too much to do
//! for those who only came by. What can be answered on the spot (a flow that is gone, a store that
//! is full) is fed back before the next input from outside.
//!
//! Invariant: who leaves something in a queue sets `again` before he looks whether the shard is
//! free; who runs it clears `again` before he looks into the queues and reads it after he let go.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, mpsc, watch};

use crate::io::clock::Clock;
use crate::io::transport::{Attend, Report};
use crate::proto::line::{Line, Urgency};
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
/// Batches that one visit may take.
const VISIT: usize = 4;

/// The ends of a shard's queues that are read.
pub(super) struct Queues {
    pub(super) network: mpsc::Receiver<Input>,
    pub(super) answers: mpsc::Receiver<Input>,
}

/// One shard, as those see it who bring it something.
pub(super) struct Shard {
    core: Mutex<Core>,
    /// Something was left in a queue while somebody ran the shard.
    again: AtomicBool,
    /// Wakes the shard's own task.
    bell: Notify,
}

/// What one at a time may touch.
struct Core {
    number: u16,
    gateway: Gateway,
    queues: Queues,
    /// What came from the network and was more than could be handled at once.
    line: Line,
    world: Arc<World>,
    /// Inputs that our own acting caused.
    echoes: VecDeque<Input>,
    waiting: Gauge,
    census: Census,
    census_due: Instant,
    is_draining: bool,
    /// When the shard's task will look by itself.
    looks_at: Instant,
    /// It stopped in the middle of an input, or was told to: nothing is taken any more.
    has_ended: bool,
}

impl Shard {
    pub(super) fn new(number: u16, gateway: Gateway, queues: Queues, world: Arc<World>) -> Self {
        let waiting = world.metrics.input_queue_of(number);
        let census = Census::new(&world.metrics);
        let now = Clock::now();
        Self {
            core: Mutex::new(Core {
                number,
                gateway,
                queues,
                line: Line::default(),
                world,
                echoes: VecDeque::new(),
                waiting,
                census,
                census_due: now,
                is_draining: false,
                looks_at: now,
                has_ended: false,
            }),
            again: AtomicBool::new(false),
            bell: Notify::new(),
        }
    }

    /// Runs until `stop` is set, then takes what has arrived before and ends.
    pub(super) async fn run(
        self: Arc<Self>,
        mut asks: mpsc::Receiver<Ask>,
        mut stop: watch::Receiver<bool>,
    ) {
        let sleep = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(sleep);
        loop {
            // First of all for what the restored bindings asked for.
            self.attend();
            let Some(next) = self.core.lock().rest() else {
                tracing::error!("a shard has stopped in the middle of an input");
                return;
            };
            // Somebody may have come by while this task held the lock.
            if self.is_wanted() {
                self.bell.notify_one();
            }
            // Moving the timer costs more than a wake-up for nothing.
            let next = next.into();
            if sleep.is_elapsed() || next < sleep.deadline() {
                sleep.as_mut().reset(next);
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                () = self.bell.notified() => {}
                () = sleep.as_mut() => {}
                Some(ask) = asks.recv() => ask(&self.core.lock().gateway, Clock::now()),
            }
            tokio::task::consume_budget().await;
        }
        self.core.lock().finish();
    }

    /// Whether somebody has left something for whoever held the lock until now.
    fn is_wanted(&self) -> bool {
        fence(Ordering::SeqCst);
        self.again.load(Ordering::SeqCst)
    }
}

impl Attend for Shard {
    fn attend(&self) {
        for _ in 0..VISIT {
            self.again.store(true, Ordering::SeqCst);
            // Pairs with the one in `is_wanted`: either we get the lock or its holder sees the flag.
            fence(Ordering::SeqCst);
            let Some(mut core) = self.core.try_lock() else {
                return;
            };
            self.again.swap(false, Ordering::SeqCst);
            // Whoever came by has his own work to go on with: the shard's task tells of the end.
            let visit = catch_unwind(AssertUnwindSafe(|| core.visit()));
            let is_early = core.is_due_before_its_task_looks();
            drop(core);
            if is_early {
                self.bell.notify_one();
            }
            if !visit.unwrap_or(false) && !self.is_wanted() {
                return;
            }
        }
        self.bell.notify_one();
    }

    fn ring(&self) {
        self.bell.notify_one();
    }
}

impl Core {
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

    /// Takes a batch of what waits; true if there is more to do at once.
    fn visit(&mut self) -> bool {
        if self.has_ended {
            return false;
        }
        let start = Clock::now();
        // Set for as long as it works: who comes after a panic finds it.
        self.has_ended = true;
        self.step(start);
        self.has_ended = false;
        let end = Clock::now();
        let worked = end.saturating_duration_since(start);
        self.world
            .metrics
            .loop_seconds
            .observe(worked.as_secs_f64());
        let waiting = self.queues.network.len() + self.queues.answers.len() + self.line.len();
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        if start >= self.census_due {
            self.show(start);
        }
        let due = self.gateway.poll_timeout();
        waiting > 0 || !self.echoes.is_empty() || due.is_some_and(|due| due <= end)
    }

    /// Says when the shard's task must look by itself; `None` if the shard has ended.
    fn rest(&mut self) -> Option<Instant> {
        self.looks_at = self.due();
        (!self.has_ended).then_some(self.looks_at)
    }

    fn due(&self) -> Instant {
        let due = self.gateway.poll_timeout();
        due.map_or(self.census_due, |due| due.min(self.census_due))
    }

    fn is_due_before_its_task_looks(&self) -> bool {
        self.has_ended || self.due() < self.looks_at
    }

    /// Fires what is due, then takes the batch.
    fn step(&mut self, now: Instant) {
        if self.gateway.poll_timeout().is_some_and(|due| due <= now) {
            self.gateway.handle_timeout(now);
        }
        self.drain(now);
        for _ in 0..BATCH {
            let Ok(input) = self.queues.answers.try_recv() else {
                break;
            };
            self.handle(now, input);
        }
        self.line_up(now);
        for _ in 0..BATCH {
            let Some(input) = self.next(now) else {
                break;
            };
            self.handle(now, input);
        }
        // Bounded: an echo that echoes must not hold up the others for ever.
        for _ in 0..BATCH {
            let Some(input) = self.echoes.pop_front() else {
                break;
            };
            self.handle(now, input);
        }
    }

    /// Has what arrived stand in line, if it is more than the next batch.
    fn line_up(&mut self, now: Instant) {
        if self.line.is_empty() && self.queues.network.len() <= BATCH {
            return;
        }
        while !self.line.is_full()
            && let Ok(input) = self.queues.network.try_recv()
        {
            let urgency = if let Input::Message { flow, message } = &input {
                self.gateway.urgency(flow, message)
            } else {
                Urgency::Begun
            };
            self.line.push(now, urgency, input);
        }
    }

    /// What is to be handled next of what arrived.
    fn next(&mut self, now: Instant) -> Option<Input> {
        match self.line.next(now) {
            Some(input) => Some(input),
            None => self.queues.network.try_recv().ok(),
        }
    }

    fn handle(&mut self, now: Instant, input: Input) {
        match &input {
            Input::Message { flow, message } | Input::Shed { flow, message } => {
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
                // What has arrived before is ours.
                while let Some(input) = self.line.next(now) {
                    self.handle(now, input);
                }
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
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        let now = Clock::now();
        self.queues.answers.close();
        self.queues.network.close();
        while let Ok(input) = self.queues.answers.try_recv() {
            self.handle(now, input);
        }
        while let Some(input) = self.next(now) {
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
