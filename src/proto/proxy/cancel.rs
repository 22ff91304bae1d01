//! CANCEL (RFC 3261 §9.2, §16.10): toward those that ring, and for those that are still asleep.

use crate::proto::effects::Effects;
use crate::proto::proxy::best_response::{Best, better};
use crate::proto::proxy::branch::{calling, set_state};
use crate::proto::proxy::missed::is_elsewhere;
use crate::proto::proxy::response_context::{
    Branch, BranchState, Cancelling, Phase, ResponseContext,
};
use crate::proto::proxy::{Proxy, stamp};
use crate::proto::reject::Reject;
use crate::proto::sip::{HeaderName, Message, Reply};
use crate::proto::timer::{ContextTimer, Timer};
use crate::proto::transaction::ServerId;
use crate::proto::{Event, Flow};

/// The Reason of a CANCEL after somebody else answered (RFC 3326 §3.1).
pub(super) const ELSEWHERE: &[u8] = b"SIP;cause=200;text=\"Call completed elsewhere\"";

impl Proxy {
    /// Answers a CANCEL, and ends the branches of its INVITE.
    pub(super) fn on_cancel(
        &mut self,
        fx: &mut Effects<'_>,
        flow: &Flow,
        request: &Message,
        cancel: ServerId,
        invite: Option<ServerId>,
    ) {
        let Some(invite) = invite else {
            // Another shard has its INVITE, or none has: then nobody answers.
            if self.is_for_all(request) && !self.location.is_bound(flow.id) {
                self.transactions.discard(cancel);
                return;
            }
            self.refuse(fx, flow, request, cancel, Reject::NoSuchTransaction);
            return;
        };
        let mut reply = Reply::new(request, 200, "OK");
        stamp(&mut reply, flow, request);
        reply.to_tag(self.tags.of(request));
        let reply = reply.finish();
        self.transactions.respond(fx, cancel, 200, reply);
        let Some(context) = self.servers.get(&invite).copied() else {
            return self.cancel_early(fx, invite);
        };
        let reasons: Vec<Vec<u8>> = request
            .values(HeaderName::Reason)
            .map(<[u8]>::to_vec)
            .collect();
        self.with_context(fx, context, |proxy, fx, context| {
            if context.phase != Phase::Open {
                return;
            }
            context.phase = Phase::Closing;
            context.is_elsewhere = reasons.iter().any(|reason| is_elsewhere(reason));
            if !context.is_in_dialog {
                fx.event(Event::CallCancelled {
                    call: context.number(),
                    is_elsewhere: context.is_elsewhere,
                });
            }
            let best = Best::Local(Reject::Cancelled);
            context.best = Some(better(context.best.take(), best));
            let reasons: Vec<&[u8]> = reasons.iter().map(Vec::as_slice).collect();
            proxy.close_branches(fx, context, &reasons);
        });
    }

    /// Ends all branches: those that wait at once, those that are out by a CANCEL. A request other
    /// than INVITE cannot be cancelled: its branches end without a word (RFC 3261 §9.1).
    pub(super) fn close_branches(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        reasons: &[&[u8]],
    ) {
        for at in 0..context.branches.len() {
            let Ok(index) = u16::try_from(at) else { return };
            let Some(branch) = context.branches.get(at) else {
                return;
            };
            let key = branch.device();
            match &branch.state {
                BranchState::Final | BranchState::Late(_) | BranchState::Cancelling(_) => {}
                BranchState::Idle => set_state(context, index, BranchState::Final),
                BranchState::Probing { .. } => self.finish_branch(fx, context, index),
                BranchState::Waking { .. } => {
                    if let (true, Some(key)) = (context.is_invite() && !context.is_in_dialog, key) {
                        self.push_cancel(fx, context, key, reasons);
                        self.end_waking(fx, context, index, key, reasons);
                    } else {
                        self.finish_branch(fx, context, index);
                    }
                }
                BranchState::Calling(_) if context.is_invite() => {
                    self.cancel_branch(fx, context, index, reasons);
                }
                BranchState::Calling(_) => self.finish_branch(fx, context, index),
            }
        }
    }

    /// Ends a branch whose INVITE is out.
    fn cancel_branch(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        reasons: &[&[u8]],
    ) {
        let key = context.branches.get(usize::from(index));
        let key = key.and_then(Branch::device);
        let Some(calling) = calling(context, index) else {
            return;
        };
        let (client, leg) = (calling.client, calling.leg.clone());
        let (is_silent, is_woken) = (!calling.is_provisional, calling.wake.is_some());
        let timers = [calling.timer_c.take(), calling.grace.take()];
        timers
            .into_iter()
            .flatten()
            .for_each(|timer| fx.cancel(timer));
        self.transactions.cancel(fx, client, reasons);
        // Nobody answers on that flow and the device was pushed: the caller need not wait for
        // Timer B. Should a 1xx come after all, its CANCEL goes out.
        if let (true, Some(key)) = (is_silent && is_woken, key) {
            self.give_up(client, context.id, index, leg);
            self.push_cancel(fx, context, key, reasons);
            self.end_waking(fx, context, index, key, reasons);
            return;
        }
        self.stop_waiting(fx, context, index);
        // RFC 3261 §9.1: the caller takes its request for cancelled 64*T1 after its CANCEL, even if
        // ours has to wait for a 1xx before it leaves.
        let is_awaited = is_silent && context.phase == Phase::Closing;
        let timer = is_awaited.then(|| {
            let timer = Timer::Context(context.id, ContextTimer::Cancel(index));
            fx.arm(self.settings.timing.t1 * 64, timer)
        });
        let cancelling = Cancelling {
            client,
            leg,
            is_late: false,
            timer,
        };
        set_state(context, index, BranchState::Cancelling(cancelling));
    }

    /// The caller of a cancelled INVITE waits no longer for one who answered it late.
    pub(super) fn on_cancel_silent(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        let branch = context.branches.get(usize::from(index));
        let Some(BranchState::Cancelling(cancelling)) = branch.map(|branch| &branch.state) else {
            return;
        };
        let (client, leg) = (cancelling.client, cancelling.leg.clone());
        self.give_up(client, context.id, index, leg);
        self.fail_branch(fx, context, index, Reject::Cancelled);
    }
}
