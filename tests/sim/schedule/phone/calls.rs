//! The calls of a phone: how it rings and is answered, what it calls itself, and how it hangs up.

use rouse::proto::Flow;
use rouse::proto::sip::{HeaderName, Message};

use super::Phone;
use crate::schedule::cast::{Errand, Hands, tag};
use crate::schedule::dialog::Dialog;
use crate::schedule::text::{self, Draft};

/// An INVITE that came.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) branch: String,
    pub(super) invite: Message,
    pub(super) flow: Flow,
    pub(super) tag: String,
    pub(super) is_over: bool,
}

/// A call of its own.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) call: String,
    pub(super) branch: String,
}

impl Phone {
    pub(super) fn on_ack(&mut self, request: &Message) {
        let call = text::header(request, HeaderName::CallId);
        self.endpoint.established_call(&call);
    }

    pub(super) fn on_invite(
        &mut self,
        hands: &mut Hands<'_>,
        flow: Flow,
        invite: &Message,
        branch: String,
    ) {
        if self.rings.iter().any(|ring| ring.branch == branch) {
            return;
        }
        *hands.number += 1;
        self.rings.push(Ring {
            branch: branch.clone(),
            invite: invite.clone(),
            flow,
            tag: tag(*hands.number),
            is_over: false,
        });
        let phone = self.id;
        match hands.chance.below(20) {
            // An app that hangs.
            0 => {}
            1 => hands.after(0, 5_000, Errand::Decide { phone, branch }),
            2 => hands.after(1_500, 6_000, Errand::Ring { phone, branch }),
            _ => hands.after(5, 700, Errand::Ring { phone, branch }),
        }
    }

    /// It begins to ring.
    pub fn ring(&mut self, hands: &mut Hands<'_>, branch: &str) {
        let status =
            hands
                .chance
                .pick(&["180 Ringing", "180 Ringing", "183 Progress", "100 Trying"]);
        self.answer(hands, branch, status);
        let phone = self.id;
        let branch = branch.to_owned();
        // Who does not decide rings until the caller has had enough.
        match hands.chance.below(10) {
            0 => {}
            1..4 => hands.after(100, 1_500, Errand::Decide { phone, branch }),
            _ => hands.after(500, 20_000, Errand::Decide { phone, branch }),
        }
    }

    /// The user decides.
    pub fn decide(&mut self, hands: &mut Hands<'_>, branch: &str) {
        let status = match hands.chance.below(20) {
            0 => "603 Decline",
            1..3 => "486 Busy Here",
            3 => "480 Away",
            4 => "503 Overloaded",
            5 => "302 Elsewhere",
            _ => "200 OK",
        };
        self.answer(hands, branch, status);
    }

    pub(super) fn answer(&mut self, hands: &mut Hands<'_>, branch: &str, status: &'static str) {
        let mut rings = self.rings.iter_mut();
        let ring = rings.find(|ring| ring.branch == branch && !ring.is_over);
        let (Some(ring), true) = (ring, self.is_awake) else {
            return;
        };
        let (flow, invite, tag) = (ring.flow, ring.invite.clone(), ring.tag.clone());
        ring.is_over = !status.starts_with('1');
        if status.starts_with('2') {
            let dialog = Dialog::of_callee(&invite, &tag);
            let (phone, call) = (Some(self.id), dialog.call.clone());
            self.talks.push(dialog);
            if hands.chance.percent(50) {
                hands.after(1_000, 30_000, Errand::HangUp { phone, call });
            }
        }
        self.respond(hands, flow, (&invite, status), &tag);
    }

    pub(super) fn on_cancel(
        &mut self,
        hands: &mut Hands<'_>,
        flow: Flow,
        cancel: &Message,
        branch: &str,
    ) {
        let mut rings = self.rings.iter_mut();
        let ring = rings.find(|ring| ring.branch == branch);
        let Some(ring) = ring else {
            self.respond(hands, flow, (cancel, "481 Unknown"), "x");
            return;
        };
        let (invite, tag, was_over) = (ring.invite.clone(), ring.tag.clone(), ring.is_over);
        ring.is_over = true;
        self.respond(hands, flow, (cancel, "200 OK"), "x");
        if !was_over {
            self.respond(hands, flow, (&invite, "487 Request Terminated"), &tag);
        }
    }

    pub(super) fn acknowledge(&mut self, hands: &mut Hands<'_>, success: &Message, is_new: bool) {
        let Some(flow) = self.flow else { return };
        let mut dialog = Dialog::of_caller(success);
        let branch = hands.branch();
        hands
            .out
            .push((flow, dialog.request("ACK", &self.via(), &branch)));
        if is_new {
            let (phone, call) = (Some(self.id), dialog.call.clone());
            self.talks.push(dialog);
            hands.after(500, 20_000, Errand::HangUp { phone, call });
        }
    }

    pub fn call(&mut self, hands: &mut Hands<'_>) {
        let (Some(flow), true) = (self.flow, self.is_awake) else {
            return;
        };
        let branch = hands.branch();
        let call = format!("out{}", hands.number);
        let invite = Draft {
            method: "INVITE",
            uri: "sip:600@pbx.example.com",
            via: &self.via(),
            branch: &branch,
            from: &format!("{};tag=o{}", self.name(), hands.number),
            to: "<sip:600@pbx.example.com>",
            call: &call,
            cseq: 7,
            more: &format!("Contact: <{}>\r\n", self.contact()),
            body: "v=0\r\n",
            ..Draft::default()
        }
        .write();
        self.outgoing.push(Outgoing {
            call: call.clone(),
            branch: branch.clone(),
        });
        self.send(hands, flow, ("INVITE", &branch, &call), invite);
    }

    /// Gives up a call of its own that rings; returns whether it is one.
    pub fn cancel(&mut self, hands: &mut Hands<'_>, call: &str) -> bool {
        let known = self.outgoing.iter().find(|own| own.call == call);
        let Some(Outgoing { call, branch }) = known else {
            return false;
        };
        let (call, branch) = (call.clone(), branch.clone());
        let Some((flow, cancel)) = self.endpoint.cancel_of(&branch, &self.via(), true) else {
            return true;
        };
        self.send(hands, flow, ("CANCEL", &branch, &call), cancel);
        true
    }

    /// Hangs up.
    pub fn hang_up(&mut self, hands: &mut Hands<'_>, call: &str) {
        let Some(at) = self.talks.iter().position(|talk| talk.call == call) else {
            return;
        };
        let mut dialog = self.talks.remove(at);
        let (Some(flow), true) = (self.flow, self.is_awake) else {
            return;
        };
        let branch = hands.branch();
        let bye = dialog.request("BYE", &self.via(), &branch);
        self.send(hands, flow, ("BYE", &branch, call), bye);
    }
}
