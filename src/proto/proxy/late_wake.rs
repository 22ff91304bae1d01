//! A phone that wakes for a call that is over.
//!
//! An iOS VoIP push has already obliged the app to show a call. When the app registers in time it
//! gets the INVITE and at once its CANCEL with the Reason, so that its call screen closes; unless
//! the device has taken part in another call since, which that would disturb. Should it answer all
//! the same, nobody is there any more: we acknowledge and hang up.

use bytes::Bytes;

use crate::proto::effects::Effects;
use crate::proto::event::Step;
use crate::proto::proxy::Proxy;
use crate::proto::proxy::branch::{calling, set_state};
use crate::proto::proxy::response_context::{BranchState, Cancelling, Late, Leg, ResponseContext};
use crate::proto::proxy::waking::report_step;
use crate::proto::registration::binding::Binding;
use crate::proto::sip::{Contact, Message, Text};
use crate::proto::timer::{ContextTimer, Timer};
use crate::proto::{BindingKey, Destination, Flow, Output};

impl Proxy {
    /// Ends a branch whose device is being woken, and remembers that the device may still come.
    pub(super) fn end_waking(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        key: BindingKey,
        reasons: &[&[u8]],
    ) {
        let push = self.location.binding(key).and_then(Binding::push);
        let is_shown = push.is_some_and(|push| push.pns.shows_calls());
        let late = self.settings.wake.late;
        if !is_shown || late.is_zero() || context.is_in_dialog || !context.is_invite() {
            self.finish_branch(fx, context, index);
            return;
        }
        self.stop_waiting(fx, context, index);
        let timer = fx.arm(late, Timer::Context(context.id, ContextTimer::Late(index)));
        let late = Late {
            timer,
            reasons: reasons.iter().map(|reason| reason.to_vec()).collect(),
            sent: calling(context, index).map(|calling| (calling.client, calling.leg.to.clone())),
        };
        set_state(context, index, BranchState::Late(late));
    }

    /// The device has come: it learns that the call is over.
    pub(super) fn on_late_device(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        key: BindingKey,
        flow: Flow,
    ) {
        let Some(branch) = context.branches.get_mut(usize::from(index)) else {
            return;
        };
        let BranchState::Late(late) = &mut branch.state else {
            return;
        };
        let reasons = std::mem::take(&mut late.reasons);
        let here = Destination::Flow(flow.id);
        let there = late.sent.take().filter(|(_, to)| *to == here);
        report_step(fx, context, key, Step::CameLate);
        let last_call = self.location.binding(key).and_then(Binding::last_call);
        let waiters = self.by_device.get(&key).cloned().unwrap_or_default();
        let has_another = last_call.is_some_and(|at| at > context.started)
            || waiters.iter().any(|waiter| self.contexts.is_live(*waiter));
        self.stop_branch(fx, context, index);
        if let Some((client, _)) = there {
            self.transactions.send_again(fx, client);
            set_state(context, index, BranchState::Final);
            return;
        }
        if has_another {
            set_state(context, index, BranchState::Final);
            return;
        }
        self.send(fx, context, index, Leg::over(flow));
        // This is no call that another late one could disturb.
        if let Some(binding) = self.location.binding_mut(key) {
            binding.set_last_call(last_call);
        }
        let Some(calling) = calling(context, index) else {
            return;
        };
        let (client, leg) = (calling.client, calling.leg.clone());
        if let Some(timer) = calling.timer_c.take() {
            fx.cancel(timer);
        }
        let reasons: Vec<&[u8]> = reasons.iter().map(Vec::as_slice).collect();
        self.transactions.cancel(fx, client, &reasons);
        let cancelling = Cancelling {
            client,
            leg,
            is_late: true,
            timer: None,
        };
        set_state(context, index, BranchState::Cancelling(cancelling));
    }

    /// A device answered a call that is over: ACK and BYE, in the caller's place.
    pub(super) fn hang_up(&mut self, fx: &mut Effects<'_>, leg: &Leg, response: &Message) {
        let ack = self.transactions.reserve(fx);
        let ack_branch = ack.branch_bytes(self.shard);
        self.transactions.abandon(fx, ack);
        if let Some(ack) = self.write_in_dialog("ACK", 0, response, leg, &ack_branch) {
            let (to, message) = (leg.to.clone(), ack.raw().clone());
            fx.output(Output::Send {
                to,
                message,
                report: None,
            });
        }
        let bye = self.transactions.reserve(fx);
        match self.write_in_dialog("BYE", 1, response, leg, &bye.branch_bytes(self.shard)) {
            Some(message) => {
                let is_reliable = leg.transport.is_reliable();
                let to = leg.to.clone();
                self.transactions.start(fx, bye, &message, to, is_reliable);
            }
            None => self.transactions.abandon(fx, bye),
        }
    }

    /// A request of the dialog that a 2xx opened, from the caller's side (RFC 3261 §12.2.1.1).
    fn write_in_dialog(
        &self,
        method: &str,
        later: u32,
        response: &Message,
        leg: &Leg,
        branch: &[u8],
    ) -> Option<Message> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let target = response.contacts().find_map(|contact| match contact {
            Ok(Contact::Address(address)) => Some(text(address.uri)),
            Ok(Contact::Star) | Err(_) => None,
        })?;
        let via = Text::of(self.via(leg, branch, 0)?);
        let (from, to) = (
            text(response.from().ok()?.raw),
            text(response.to().ok()?.raw),
        );
        let call_id = text(response.call_id().ok()?);
        let number = response.cseq().ok()?.number.checked_add(later)?;
        let message = format!(
            "{method} {target} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {from}\r\n\
             To: {to}\r\nCall-ID: {call_id}\r\nCSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(message)).ok()
    }
}
