//! Everything that decides, and nothing that waits: SIP, registration, proxying and waking as
//! synchronous state machines. No socket, clock, file, task or randomness of its own.
//!
//! One [`Gateway`] per shard. Feed it one [`Input`], then take [`Output`]s until there are none,
//! then ask for the next timeout. A bad message is not an error of the gateway: it is an answer
//! ([`Output::Send`]) and an [`Event`].

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub mod aor;
pub mod digest;
pub mod effects;
pub mod event;
pub mod flow;
pub mod gateway;
pub mod guard;
pub mod line;
pub mod proxy;
pub mod push;
pub mod registration;
pub mod reject;
pub mod settings;
pub mod shard;
pub mod sip;
pub mod timer;
pub mod transaction;

pub use event::Event;
pub use flow::{CloseReason, ConnectionId, Destination, Flow, FlowId, Hop, ListenerId, Transport};
pub use gateway::Gateway;

use crate::proto::push::{PushAccepted, PushError, PushId, PushRequest};
use crate::proto::registration::binding::StoredBinding;
use crate::proto::settings::Settings;
use crate::proto::sip::{Message, ParseError};
use crate::proto::transaction::ClientId;

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// A well-framed message arrived.
    Message {
        /// On this flow.
        flow: Flow,
        /// The message.
        message: Message,
    },
    /// A well-framed message arrived that would begin something, and has waited for too long: see
    /// [`mod@line`].
    Shed {
        /// On this flow.
        flow: Flow,
        /// The message.
        message: Message,
    },
    /// Bytes arrived that are no message.
    Malformed {
        /// On this flow.
        flow: Flow,
        /// The bytes: the datagram, or what the framing cut out.
        bytes: Bytes,
        /// What is wrong with them.
        error: ParseError,
    },
    /// Something was heard on a flow that is no message: a keep-alive, an answer to a ping
    /// (RFC 5626 §4.4.1).
    Heard {
        /// On this flow.
        flow: FlowId,
    },
    /// A flow ended.
    FlowClosed {
        /// Which.
        flow: FlowId,
        /// Why.
        reason: CloseReason,
    },
    /// A request could not be sent (RFC 3261 §18.4).
    SendFailed {
        /// The client transaction that sent it.
        transaction: ClientId,
    },
    /// DNS answered for an upstream's node.
    Resolved {
        /// The node's index (see [`Output::Resolve`]).
        node: u16,
        /// Hops in order of preference; empty if the name has none. Datagram hops have
        /// [`Transport::Udp`].
        hops: Vec<Hop>,
        /// How long the answer holds.
        ttl: Duration,
    },
    /// A push service answered.
    Pushed {
        /// To this push.
        id: PushId,
        /// What it said.
        verdict: Result<PushAccepted, PushError>,
    },
    /// The store answered a write.
    Stored {
        /// To this write.
        ticket: StoreTicket,
        /// Whether it is durable.
        durable: bool,
    },
    /// Another shard's agent has an app: see [`Output::Claim`].
    Claimed(Claim),
    /// An operator or the process asks.
    Command(Command),
}

/// What an operator or the process asks of a gateway.
#[derive(Clone, Debug)]
pub enum Command {
    /// A binding that the store kept: known before any input from the network.
    Restore(Box<StoredBinding>),
    /// A call that waited for a phone when an earlier process ended: known before any input from
    /// the network, and after every binding.
    Resume(Box<StoredCall>),
    /// Take no new calls: 503 with Retry-After.
    Drain,
    /// Another process takes over: forget the calls that wait for phones, which it takes up from
    /// the store, and take no new ones; the answer is [`Output::HandedOver`].
    HandOver,
    /// Go on by other settings. Listeners and the groups' names and order are the same; a node that
    /// was there before has the index that it had.
    Reload(Arc<Settings>),
    /// A device is not to be called any more, until it registers again.
    Forget(BindingKey),
}

/// What shall happen outside.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a message.
    Send {
        /// Where to.
        to: Destination,
        /// The message.
        message: Bytes,
        /// Who wants to know that it failed.
        report: Option<ClientId>,
    },
    /// Ping a flow on a WebSocket. The answer is [`Input::Heard`].
    Ping {
        /// The flow.
        flow: FlowId,
    },
    /// Close a flow.
    Close {
        /// The flow.
        flow: FlowId,
    },
    /// An agent of this shard has registered over the flow: requests from it belong here.
    FlowBound {
        /// The flow.
        flow: FlowId,
    },
    /// No agent of this shard is registered over the flow any more.
    FlowUnbound {
        /// The flow.
        flow: FlowId,
    },
    /// Resolve an upstream's node (RFC 3263); the answer is [`Input::Resolved`].
    Resolve {
        /// The node's index, counted over all upstreams in file order.
        node: u16,
    },
    /// Send a push; the answer is [`Input::Pushed`].
    Push(Box<PushRequest>),
    /// A push is of no use any more: do not send it if it has not left. Its answer comes all the same.
    Withdraw(PushId),
    /// Write to the store; the answer is [`Input::Stored`] if there is a ticket.
    Store {
        /// Who waits.
        ticket: Option<StoreTicket>,
        /// What to write.
        write: StoreWrite,
    },
    /// Tell all other shards, by [`Input::Claimed`], that an agent of this one has an app.
    Claim(Claim),
    /// What is left after [`Command::HandOver`]: the requests that are not answered yet, by the
    /// number of their topmost branch.
    HandedOver(Vec<u64>),
    /// Something that an operator counts or reads.
    Event(Event),
}

/// Names a write that somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreTicket {
    /// The shard that waits.
    pub shard: u16,
    /// Its number there.
    pub number: u64,
    /// Whether a call waits for it: then it gathers no others.
    pub is_awaited: bool,
}

/// A change of what is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreWrite {
    /// A binding is new or changed.
    Put(Box<StoredBinding>),
    /// Only its expiry changed: a small record.
    Extend {
        /// Which binding.
        key: BindingKey,
        /// Its new expiry, seconds since the Unix epoch.
        expires_unix: u64,
        /// When the device last registered, milliseconds since the Unix epoch.
        registered_ms: u64,
    },
    /// A binding is gone.
    Remove(BindingKey),
    /// A call waits for a phone.
    Hold(Box<StoredCall>),
    /// It waits no longer.
    Release(HeldId),
}

/// Names a call that waits for a phone: unique across restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeldId(pub u128);

/// A call that waits for a phone, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCall {
    /// Its name.
    pub id: HeldId,
    /// When it came, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Where it came from.
    pub flow: Flow,
    /// The INVITE as it came.
    pub request: Bytes,
}

/// An address-of-record's number: a keyed hash, stable across restarts. Its upper half is the
/// user's hash and picks the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AorId(pub u64);

/// A binding's number: random, stable across restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindingId(pub u64);

/// An app on a phone: what a push token wakes, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppId(pub u64);

/// An agent has registered an app on a phone: whoever had it before has it no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The app.
    pub app: AppId,
    /// Whose it is.
    pub by: BindingKey,
    /// The flow it registered on: an app with several accounts has them all on one.
    pub flow: FlowId,
    /// Whether it is known by its instance alone, which is no secret: whoever is awake keeps it.
    pub is_by_instance: bool,
    /// When its REGISTER arrived: whoever registered the app after that keeps it.
    pub asked: Instant,
}

/// Names a binding in all the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindingKey {
    /// Whose.
    pub aor: AorId,
    /// Which.
    pub binding: BindingId,
}

/// The two clocks at one moment, to turn durable times into monotonic ones and back.
#[derive(Clone, Copy, Debug)]
pub struct ClockAnchor {
    /// The monotonic clock.
    pub instant: Instant,
    /// The wall clock, milliseconds since the Unix epoch.
    pub unix_ms: u64,
}
