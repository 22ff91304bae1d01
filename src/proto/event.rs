//! What an operator counts or reads: one closed enum; `telemetry` maps it to a metric and a line.

use std::time::Duration;

use crate::proto::push::params::NoPush;
use crate::proto::push::{Pns, PushError};
use crate::proto::reject::Reject;
use crate::proto::{BindingKey, Flow, FlowId};

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A device registered or refreshed; `asleep_for` if it had no flow.
    Registered {
        key: BindingKey,
        aor: Box<str>,
        flow: Flow,
        expires: Duration,
        is_new: bool,
    },
    /// A device left.
    Unregistered { key: BindingKey, aor: Box<str> },
    /// A binding's time is over.
    Expired { key: BindingKey, aor: Box<str> },
    /// A device's flow closed; it can be woken.
    Asleep { key: BindingKey, aor: Box<str> },
    /// A Contact gave no way to wake its device.
    NoPush { aor: Box<str>, reason: NoPush },
    /// A call for an agent arrived.
    CallReceived {
        call_id: Box<str>,
        aor: Box<str>,
        devices: usize,
        asleep: usize,
    },
    /// A device is being woken for a call.
    WakeStarted {
        call_id: Box<str>,
        key: BindingKey,
        pns: Pns,
    },
    /// A push service took a push.
    PushAccepted {
        pns: Pns,
        notice: &'static str,
        after: Duration,
        provider_id: Box<str>,
    },
    /// A push failed.
    PushFailed {
        pns: Pns,
        notice: &'static str,
        error: PushError,
    },
    /// A device re-registered for a waiting call.
    Woken {
        call_id: Box<str>,
        key: BindingKey,
        after: Duration,
    },
    /// A device was not woken in time.
    WakeTimedOut {
        call_id: Box<str>,
        key: BindingKey,
        after: Duration,
    },
    /// The INVITE went out to a device.
    CallForwarded {
        call_id: Box<str>,
        key: BindingKey,
        flow: FlowId,
    },
    /// A call's INVITE got its final answer.
    CallAnswered {
        call_id: Box<str>,
        status: u16,
        after: Duration,
    },
    /// A request was refused.
    Rejected { reject: Reject, flow: Flow },
    /// Something was dropped.
    Dropped { place: Drop, flow: Option<FlowId> },
    /// Something durable could not be written.
    StoreFailed,
    /// An upstream's node has (no) address.
    NodeResolved { node: u16, hops: usize },
}

/// Where something was dropped: the label of the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Drop {
    /// A response that matches no client transaction.
    StrayResponse,
    /// A response that did not come from where the request went.
    ForgedResponse,
    /// An ACK that matches nothing.
    StrayAck,
    /// Bytes that are no message, and to which no answer can be built.
    Malformed,
    /// A request without a usable Via.
    NoVia,
    /// A UDP request from a stranger, by choice without an answer.
    Stranger,
    /// A response that we could not forward: no Via below ours.
    NoNextVia,
    /// A message for a flow that is gone.
    FlowGone,
}
