//! Response processing (RFC 3261 §16.7), and what takes a response's place: timeouts (§16.8),
//! transport errors (§16.9), Timer C.

use crate::proto::effects::Effects;
use crate::proto::event::{Drop, Step};
use crate::proto::proxy::best_response::{Best, better};
use crate::proto::proxy::branch::{calling, set_state};
use crate::proto::proxy::forward::length_edit;
use crate::proto::proxy::response_context::{
    Branch, BranchState, Cancelling, Kind, Leg, Phase, ResponseContext, Target,
};
use crate::proto::proxy::waking::report_step;
use crate::proto::proxy::{Proxy, cancel};
use crate::proto::registration::relay::contact_without_push;
use crate::proto::reject::Reject;
use crate::proto::sip::{Edit, HeaderName, Message};
use crate::proto::timer::{ContextTimer, Timer};
use crate::proto::transaction::{ClientEvent, ClientId, ServerId};
use crate::proto::{Event, Flow};

impl Proxy {
    /// Takes a response.
    pub(super) fn on_response(&mut self, fx: &mut Effects<'_>, flow: &Flow, response: &Message) {
        // RFC 3261 §18.3: a datagram that ends within its body is no response.
        let length = response.content_length().unwrap_or(0);
        if usize::try_from(length).is_ok_and(|length| length > response.body().len()) {
            fx.event(Event::Dropped {
                place: Drop::Malformed,
                flow: Some(flow.id),
            });
            return;
        }
        if let Some((client, event)) = self.transactions.handle_response(fx, flow, response) {
            self.on_client_event(fx, client, event, Some(response));
        }
    }

    /// Takes what a client transaction says.
    pub(super) fn on_client_event(
        &mut self,
        fx: &mut Effects<'_>,
        client: ClientId,
        event: ClientEvent,
        response: Option<&Message>,
    ) {
        let Some(owner) = self.clients.get(&client).copied() else {
            if !self.on_checked(fx, client, event, response)
                && !self.on_refreshed(fx, client, event, response)
                && !self.on_left_event(fx, client, event, response)
            {
                self.on_late_answer(fx, client, response);
            }
            return;
        };
        let index = owner.branch;
        match (event, response) {
            (ClientEvent::Provisional, Some(response)) => {
                self.with_context(fx, owner.context, |proxy, fx, context| {
                    proxy.on_provisional(fx, context, index, response);
                });
            }
            (ClientEvent::Final, Some(response)) => {
                self.clients.remove(&client);
                self.with_context(fx, owner.context, |proxy, fx, context| {
                    proxy.on_final(fx, context, index, client, response);
                });
            }
            (ClientEvent::Timeout, _) => {
                self.clients.remove(&client);
                self.with_context(fx, owner.context, |proxy, fx, context| {
                    proxy.on_no_answer(fx, context, index, true);
                });
            }
            (ClientEvent::TransportError, _) => {
                self.clients.remove(&client);
                self.with_context(fx, owner.context, |proxy, fx, context| {
                    proxy.on_no_answer(fx, context, index, false);
                });
            }
            (ClientEvent::Provisional | ClientEvent::Final, None) => {}
        }
    }

    /// A request could not be sent.
    pub(in crate::proto) fn on_send_failed(&mut self, fx: &mut Effects<'_>, client: ClientId) {
        if let Some(event) = self.transactions.handle_send_failed(fx, client) {
            self.on_client_event(fx, client, event, None);
        }
    }

    /// A further 2xx of an INVITE that is answered already (§16.7 step 5, RFC 6026 §8.4).
    fn on_late_answer(
        &mut self,
        fx: &mut Effects<'_>,
        client: ClientId,
        response: Option<&Message>,
    ) {
        let Some(server) = self.late_answers.get(&client).copied() else {
            return;
        };
        if let Some(response) = response
            && let Some(status @ 200..=299) = response.status()
            && let Some(bytes) = without_our_via(fx, response)
        {
            self.transactions.respond(fx, server, status, bytes);
        }
    }

    pub(super) fn on_provisional(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        response: &Message,
    ) {
        let status = response.status().unwrap_or(100);
        self.absolve(fx, context, index);
        reached(context, index);
        self.stop_waiting(fx, context, index);
        let timer_c = self.settings.timing.timer_c;
        let id = context.id;
        if let Some(calling) = calling(context, index) {
            calling.is_provisional = true;
            if let Some(grace) = calling.grace.take() {
                fx.cancel(grace);
            }
            // §16.7 step 2: each 1xx but 100 starts Timer C anew.
            if status > 100
                && let Some(old) = calling.timer_c.take()
            {
                fx.cancel(old);
                let timer = Timer::Context(id, ContextTimer::C(index));
                calling.timer_c = Some(fx.arm(timer_c, timer));
            }
        }
        if status > 100 {
            tell(fx, context, index, Step::Ringing(status));
        }
        if status > 100 && context.phase == Phase::Open {
            self.pass_on(fx, context.server, status, response);
        }
    }

    fn on_final(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        client: ClientId,
        response: &Message,
    ) {
        let status = response.status().unwrap_or(500);
        if status == 503 && self.fail_over(fx, context, index) {
            return;
        }
        if status == 482 && self.is_merged(fx, context, index) {
            return;
        }
        let begins_call = context.is_invite() && !context.is_in_dialog;
        let branch = context.branches.get(usize::from(index));
        if status == 408 && begins_call && branch.is_some_and(Branch::is_unheard) {
            // Somebody between us and the device could not reach it: it has to be woken.
            return self.on_device_lost(fx, context, index, Reject::NoAnswer);
        }
        self.absolve(fx, context, index);
        reached(context, index);
        tell(fx, context, index, Step::Answered(status));
        let branch = context.branches.get(usize::from(index));
        let late = branch.filter(|branch| branch.is_late());
        let late = late.and_then(Branch::leg).cloned();
        self.finish_branch(fx, context, index);
        if let (Some(leg), 200..=299) = (late, status) {
            return self.hang_up(fx, &leg, response);
        }
        if let Kind::Register(_) = context.kind {
            self.on_register_answered(fx, context, status, response);
            return;
        }
        if context.may_be_kept() {
            self.on_kept_answered(fx, context, index, status);
        }
        match status {
            200..=299 => self.on_success(fx, context, client, status, response),
            600..=699 if !context.may_be_kept() && !self.settings.wake.no_global_decline => {
                self.on_declined(fx, context, status, response);
            }
            _ => self.record(fx, context, status, response),
        }
    }

    /// A 6xx ends the other branches; the answer waits for them (§16.7 step 5).
    pub(super) fn on_declined(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        status: u16,
        response: &Message,
    ) {
        self.record(fx, context, status, response);
        context.phase = match context.phase {
            Phase::Open | Phase::Closing => Phase::Closing,
            Phase::Answered => Phase::Answered,
        };
        self.close_branches(fx, context, &[]);
    }

    /// A 2xx goes up at once, each of an INVITE's (§16.7 step 5); the other branches end.
    pub(super) fn on_success(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        client: ClientId,
        status: u16,
        response: &Message,
    ) {
        if context.is_invite() {
            self.late_answers.insert(client, context.server);
            fx.arm(self.settings.timing.t1 * 64, Timer::LateAnswer(client));
        } else if context.phase == Phase::Answered {
            return;
        }
        self.pass_on(fx, context.server, status, response);
        self.answered(fx, context, status);
        // What is kept goes to every device.
        if !context.may_be_kept() {
            self.close_branches(fx, context, &[cancel::ELSEWHERE]);
        }
    }

    /// Remembers a final response if it is the best so far (§16.7 step 6).
    fn record(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        status: u16,
        response: &Message,
    ) {
        let new = if status == 503 {
            Best::Local(Reject::CalleeUnavailable)
        } else if status == 408 && !context.is_invite() {
            // RFC 4320 §4.2: 408 is for INVITE alone.
            Best::Local(Reject::UpstreamSilent)
        } else {
            let Some(response) = without_our_via(fx, response) else {
                return;
            };
            // By choice a 6xx speaks for its device alone, as a 4xx does.
            let is_one_of_many = self.settings.wake.no_global_decline && status >= 600;
            let weight = if is_one_of_many { 486 } else { status };
            Best::Received {
                status,
                weight,
                response,
            }
        };
        context.best = Some(better(context.best.take(), new));
    }

    /// The context's final response has gone.
    pub(super) fn answered(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        status: u16,
    ) {
        if context.phase == Phase::Answered {
            return;
        }
        context.phase = Phase::Answered;
        if context.is_invite() && !context.is_in_dialog {
            self.tell_missed(fx, context, status);
            let after = fx.now.saturating_duration_since(context.started);
            fx.event(Event::CallAnswered {
                call: context.number(),
                call_id: context.call_id(),
                status,
                after,
            });
        }
    }

    /// A branch got no final response (§16.8, §16.9).
    fn on_no_answer(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        is_timeout: bool,
    ) {
        let Some(branch) = context.branches.get(usize::from(index)) else {
            return;
        };
        let is_cancelling = matches!(branch.state, BranchState::Cancelling(_));
        let reject = match (
            is_cancelling,
            context.is_invite(),
            is_timeout,
            &branch.target,
        ) {
            (true, ..) => Reject::Cancelled,
            (false, true, true, _) => Reject::NoAnswer,
            (false, true, false, Target::Device(_)) => Reject::NoDevice,
            (false, false, true, _) => Reject::UpstreamSilent,
            (false, false, false, Target::Device(_)) => Reject::NoDevice,
            (false, _, false, Target::Upstream { .. }) => Reject::NoUpstream,
        };
        match branch.target {
            Target::Device(_) if !is_cancelling => self.on_device_lost(fx, context, index, reject),
            Target::Device(_) => self.fail_branch(fx, context, index, reject),
            Target::Upstream { .. } => {
                if !is_cancelling && !is_timeout && self.fall_back(fx, context, index) {
                    return;
                }
                if is_cancelling || !self.fail_over(fx, context, index) {
                    self.fail_branch(fx, context, index, reject);
                }
            }
        }
    }

    /// Tries an upstream's next node; returns whether there was one.
    fn fail_over(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) -> bool {
        let Some(branch) = context.branches.get(usize::from(index)) else {
            return false;
        };
        let Target::Upstream { hops, next } = &branch.target else {
            return false;
        };
        let tried = next
            .checked_sub(1)
            .and_then(|tried| hops.get(tried))
            .map(|hop| hop.node);
        let has_more = *next < hops.len() && context.phase == Phase::Open;
        if let Some(node) = tried {
            self.on_node_silent(fx, node);
        }
        if !has_more {
            return false;
        }
        if let Some(calling) = calling(context, index)
            && let Some(timer) = calling.timer_c.take()
        {
            fx.cancel(timer);
        }
        self.try_next_hop(fx, context, index);
        true
    }

    /// Sends to an upstream's next node.
    pub(super) fn try_next_hop(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        let Some(branch) = context.branches.get_mut(usize::from(index)) else {
            return;
        };
        let Target::Upstream { hops, next } = &mut branch.target else {
            return;
        };
        let leg = hops.get(*next).map(Leg::upstream);
        *next += 1;
        match leg {
            Some(leg) => self.send(fx, context, index, leg),
            None => self.fail_branch(fx, context, index, Reject::NoUpstream),
        }
    }

    /// An upstream's node answered: it is well.
    fn absolve(&mut self, fx: &Effects<'_>, context: &mut ResponseContext, index: u16) {
        self.on_stream_answered(fx, context, index);
        let branch = context.branches.get(usize::from(index));
        if let Some(Target::Upstream { hops, next }) = branch.map(|branch| &branch.target)
            && let Some(hop) = next.checked_sub(1).and_then(|tried| hops.get(tried))
        {
            self.upstreams.absolve(hop.node);
        }
    }

    /// Timer C fired: CANCEL if the callee said anything, else as if it had answered 408.
    pub(super) fn on_timer_c(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        let Some(calling) = calling(context, index) else {
            return;
        };
        calling.timer_c = None;
        let (client, leg) = (calling.client, calling.leg.clone());
        if calling.is_provisional {
            self.transactions.cancel(fx, client, &[]);
            let cancelling = Cancelling {
                client,
                leg,
                is_late: false,
                timer: None,
            };
            set_state(context, index, BranchState::Cancelling(cancelling));
            context.best = Some(better(context.best.take(), Best::Local(Reject::NoAnswer)));
        } else {
            self.fail_branch(fx, context, index, Reject::NoAnswer);
        }
    }

    /// Sends a response on without our Via.
    pub(super) fn pass_on(
        &mut self,
        fx: &mut Effects<'_>,
        server: ServerId,
        status: u16,
        response: &Message,
    ) {
        if let Some(bytes) = without_our_via(fx, response) {
            self.transactions.respond(fx, server, status, bytes);
        }
    }

    /// Answers for a context all of whose branches have ended, and lets it go.
    pub(super) fn settle(&mut self, fx: &mut Effects<'_>, mut context: Box<ResponseContext>) {
        if context.phase == Phase::Open {
            // A late phone has had its turn: those of a lower q do not wait for it.
            let is_waiting = |branch: &Branch| {
                !matches!(branch.state, BranchState::Idle) && !branch.has_answered()
            };
            if !context.branches.iter().any(is_waiting) {
                self.start_next_group(fx, &mut context);
            }
        }
        if context.may_be_kept() {
            self.answer_kept(fx, &mut context);
        }
        self.keep_call(fx, &mut context);
        self.listen(&mut context);
        let has_answers = context.branches.iter().all(Branch::has_answered);
        if !has_answers || self.awaits_store(&context) {
            self.contexts.put(context);
            return;
        }
        if context.phase != Phase::Answered {
            self.answer_best(fx, &mut context);
        }
        if !context.branches.iter().all(Branch::is_final) {
            self.contexts.put(context);
            return;
        }
        if context.is_invite() {
            self.servers.remove(&context.server);
        }
        self.forget_registering(fx, &context);
        if let (Some(aor), true) = (context.agent(), context.kept > 0) {
            self.shelf.give_back(aor, context.kept);
        }
        self.contexts.free(context.id);
    }

    fn answer_best(&mut self, fx: &mut Effects<'_>, context: &mut ResponseContext) {
        let best = context.best.take().unwrap_or(Best::Local(Reject::NoDevice));
        let status = best.status();
        match best {
            Best::Received {
                status, response, ..
            } => {
                self.transactions
                    .respond(fx, context.server, status, response);
            }
            Best::Local(reject) => {
                let (flow, request) = (context.flow, context.request.clone());
                self.refuse(fx, &flow, &request, context.server, reject);
            }
        }
        self.answered(fx, context, status);
    }
}

/// Notes a step of a call on a branch to a device.
fn tell(fx: &mut Effects<'_>, context: &ResponseContext, index: u16, step: Step) {
    let branch = context.branches.get(usize::from(index));
    if let Some(key) = branch.and_then(Branch::device) {
        report_step(fx, context, key, step);
    }
}

/// A device, or an upstream, has said something to the request.
fn reached(context: &mut ResponseContext, index: u16) {
    if let Some(branch) = context.branches.get_mut(usize::from(index)) {
        branch.is_reached = true;
    }
}

/// A response without its top Via, and without the device's push parameters; dropped if no Via is
/// left (§16.7 step 3).
pub(super) fn without_our_via(fx: &mut Effects<'_>, response: &Message) -> Option<bytes::Bytes> {
    if response.values(HeaderName::Via).nth(1).is_none() {
        fx.event(Event::Dropped {
            place: Drop::NoNextVia,
            flow: None,
        });
        return None;
    }
    let mut edit = Edit::new(response);
    edit.remove_value(HeaderName::Via, 0);
    length_edit(&mut edit, response);
    if let Some(contact) = contact_without_push(response) {
        edit.replace_value(HeaderName::Contact, 0, contact);
    }
    Some(edit.finish())
}
