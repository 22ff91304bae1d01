//! Calls that wait for a phone outlive the process: each is in the store for as long as all that
//! is known of it is that it waits, and the next process takes it up where it came in.
//!
//! Once the INVITE is out toward a device the record goes: a second INVITE of the same call would
//! ring twice. Only calls that came by datagram are kept: a connection's end tells its sender.

use std::time::{Duration, Instant};

use crate::proto::effects::Effects;
use crate::proto::proxy::Proxy;
use crate::proto::proxy::response_context::{Branch, BranchState, Hold, Phase, ResponseContext};
use crate::proto::sip::Message;
use crate::proto::{FlowId, HeldId, Output, StoreWrite, StoredCall};

impl Proxy {
    /// Has the store keep a call that has begun to wait, or forget one that waits no longer.
    pub(super) fn keep_call(&mut self, fx: &mut Effects<'_>, context: &mut ResponseContext) {
        let is_waiting = is_waiting(context);
        let write = match (context.held, is_waiting) {
            (None, false) | (Some(_), true) => return,
            (Some(id), false) => {
                context.held = None;
                StoreWrite::Release(id)
            }
            (None, true) => {
                let low = context.id ^ (u64::from(self.shard) << 56);
                let id = HeldId(u128::from(fx.unix_ms) << 64 | u128::from(low));
                context.held = Some(id);
                let waited = fx.now.saturating_duration_since(context.started);
                let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
                StoreWrite::Hold(Box::new(StoredCall {
                    id,
                    since_ms: fx.unix_ms.saturating_sub(waited),
                    flow: context.flow,
                    request: context.request.raw().clone(),
                }))
            }
        };
        fx.output(Output::Store {
            ticket: None,
            write,
        });
    }

    /// Takes up a call that waited in an earlier process; its phone is woken once more, for nobody
    /// knows how far the first push came.
    pub(in crate::proto) fn resume(&mut self, fx: &mut Effects<'_>, call: StoredCall) {
        // Its record goes; if it goes on waiting there will be another.
        let (ticket, write) = (None, StoreWrite::Release(call.id));
        fx.output(Output::Store { ticket, write });
        let Ok(message) = Message::parse(call.request) else {
            return;
        };
        let waited = fx.unix_ms.saturating_sub(call.since_ms);
        self.resumed = fx.now.checked_sub(Duration::from_millis(waited));
        self.on_message(fx, call.flow, message);
        self.resumed = None;
    }

    /// When a request that is taken up began, and until when it may wait for phones.
    pub(super) fn began(&self, now: Instant) -> (Instant, Option<Instant>) {
        match self.resumed {
            Some(began) => (began, began.checked_add(self.settings.wake.timeout)),
            None => (now, None),
        }
    }
}

/// Whether a call waits for phones, and has not reached any.
fn is_waiting(context: &ResponseContext) -> bool {
    let is_waking = |branch: &Branch| matches!(branch.state, BranchState::Waking { .. });
    let is_quiet = |branch: &Branch| match branch.state {
        BranchState::Idle | BranchState::Waking { .. } | BranchState::Final => true,
        BranchState::Probing { .. }
        | BranchState::Calling(_)
        | BranchState::Cancelling { .. }
        | BranchState::Late(_) => false,
    };
    context.hold == Hold::Call
        && context.phase == Phase::Open
        && matches!(context.flow.id, FlowId::Datagram { .. })
        && context.branches.iter().any(is_waking)
        && context.branches.iter().all(is_quiet)
}
