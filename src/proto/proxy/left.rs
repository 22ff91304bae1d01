//! INVITEs that are out where perhaps nobody is any more.
//!
//! One was sent on a flow, drew no answer, and its device has registered on another, where the call
//! goes on; or its caller hung up and was told so at once. Either may be answered all the same: the
//! phone had it before it moved. A phone that has both of a call takes the first, and refuses the
//! second with 482 (RFC 3261 §8.2.2.2). So whichever rings first is the branch's, the other is
//! cancelled when it rings; a 2xx counts as long as the call goes on, and after that is hung up.
//! Invariant: what is here has a live client transaction and no entry in `Proxy::clients`.

use crate::proto::effects::Effects;
use crate::proto::proxy::Proxy;
use crate::proto::proxy::branch::calling;
use crate::proto::proxy::response_context::{Leg, Phase, ResponseContext};
use crate::proto::push::wake::Waiter;
use crate::proto::sip::Message;
use crate::proto::transaction::{ClientEvent, ClientId};
use crate::proto::{Destination, FlowId};

/// Where it went, and for whom.
#[derive(Clone, Debug)]
pub(super) struct Left {
    branch: Waiter,
    leg: Leg,
    is_cancelled: bool,
}

impl Proxy {
    /// Leaves a branch's silent INVITE where it is, without sending it again.
    pub(super) fn leave(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        let (id, is_invite) = (context.id, context.is_invite());
        let Some(calling) = calling(context, index).filter(|calling| !calling.is_provisional)
        else {
            return;
        };
        let (client, leg) = (calling.client, calling.leg.clone());
        if is_invite && self.clients.contains_key(&client) {
            self.transactions.hush(fx, client);
            self.give_up(client, id, index, leg);
        }
    }

    /// Nobody waits for the answer to an INVITE any more, though one may come.
    pub(super) fn give_up(&mut self, client: ClientId, context: u64, index: u16, leg: Leg) {
        self.clients.remove(&client);
        let branch = Waiter {
            context,
            branch: index,
        };
        let left = Left {
            branch,
            leg,
            is_cancelled: false,
        };
        self.left.insert(client, left);
    }

    /// Something is heard of one; returns whether it was one.
    pub(super) fn on_left_event(
        &mut self,
        fx: &mut Effects<'_>,
        client: ClientId,
        event: ClientEvent,
        response: Option<&Message>,
    ) -> bool {
        let Some(left) = self.left.get(&client).cloned() else {
            return false;
        };
        match (event, response) {
            (ClientEvent::Provisional, Some(response)) => {
                if !self.rings_first(fx, client, &left, response) {
                    if let Some(left) = self.left.get_mut(&client) {
                        left.is_cancelled = true;
                    }
                    self.transactions.cancel(fx, client, &[]);
                }
            }
            (ClientEvent::Final, Some(response)) => {
                self.left.remove(&client);
                match response.status() {
                    Some(status @ 200..=299) => {
                        self.on_left_answered(fx, client, &left, status, response);
                    }
                    Some(status @ 600..=699) if !self.settings.wake.no_global_decline => {
                        self.with_context(fx, left.branch.context, |proxy, fx, context| {
                            proxy.on_declined(fx, context, status, response);
                        });
                    }
                    Some(_) | None => {}
                }
            }
            (ClientEvent::Provisional | ClientEvent::Final, None) => {}
            (ClientEvent::Timeout | ClientEvent::TransportError, _) => {
                self.left.remove(&client);
            }
        }
        true
    }

    /// The phone rings where it was called first: that is the branch's INVITE again.
    fn rings_first(
        &mut self,
        fx: &mut Effects<'_>,
        client: ClientId,
        left: &Left,
        response: &Message,
    ) -> bool {
        let mut is_first = false;
        let index = left.branch.branch;
        self.with_context(fx, left.branch.context, |proxy, fx, context| {
            let is_open = context.phase == Phase::Open;
            let is_silent = calling(context, index).is_some_and(|now| !now.is_provisional);
            if is_open && is_silent {
                is_first = true;
                proxy.leave(fx, context, index);
                proxy.take_back(fx, context, index, client);
                proxy.on_provisional(fx, context, index, response);
            }
        });
        is_first
    }

    /// A phone has refused the second INVITE of a call, since it has the first: that is the
    /// branch's again. Returns whether there was one.
    pub(super) fn is_merged(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) -> bool {
        let wanted = Waiter {
            context: context.id,
            branch: index,
        };
        // There is one, or two after three moves: the newest is as good as any.
        let first = self.left.iter().find(|(_, left)| left.branch == wanted);
        let Some(client) = first.map(|(client, _)| *client) else {
            return false;
        };
        if context.phase != Phase::Open || calling(context, index).is_none() {
            return false;
        }
        self.take_back(fx, context, index, client);
        true
    }

    /// A branch whose device is on this flow again, where its INVITE is out still: that is the
    /// branch's again. Returns whether there is one.
    pub(super) fn is_out_on(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        flow: FlowId,
    ) -> bool {
        let wanted = Waiter {
            context: context.id,
            branch: index,
        };
        let to = Destination::Flow(flow);
        let there = self
            .left
            .iter()
            .find(|(_, left)| left.branch == wanted && left.leg.to == to && !left.is_cancelled);
        let Some(client) = there.map(|(client, _)| *client) else {
            return false;
        };
        let Some(calling) = calling(context, index) else {
            return false;
        };
        calling.is_provisional = false;
        self.take_back(fx, context, index, client);
        self.arm_grace(fx, context, index);
        true
    }

    fn take_back(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        client: ClientId,
    ) {
        let (Some(left), Some(calling)) = (self.left.remove(&client), calling(context, index))
        else {
            return;
        };
        calling.client = client;
        calling.leg = left.leg;
        if let Destination::Flow(flow) = calling.leg.to {
            self.watch(fx, flow, left.branch);
        }
        self.clients.insert(client, left.branch);
    }

    fn on_left_answered(
        &mut self,
        fx: &mut Effects<'_>,
        client: ClientId,
        left: &Left,
        status: u16,
        response: &Message,
    ) {
        let mut is_late = true;
        let index = left.branch.branch;
        self.with_context(fx, left.branch.context, |proxy, fx, context| {
            // The INVITE that is out where the phone is now ends with the other branches.
            match calling(context, index) {
                Some(_) => proxy.stop_waiting(fx, context, index),
                None => proxy.finish_branch(fx, context, index),
            }
            if context.phase != Phase::Answered {
                is_late = false;
                proxy.on_success(fx, context, client, status, response);
            }
        });
        if is_late {
            self.hang_up(fx, &left.leg, response);
        }
    }
}
