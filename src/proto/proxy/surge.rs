//! More arrives than can be handled: what goes first, and how the rest is refused.
//!
//! Only what is in the message and in the tables is looked at, and a refusal keeps nothing: it must
//! cost a small part of what it spares.

use crate::proto::Flow;
use crate::proto::effects::Effects;
use crate::proto::line::Urgency;
use crate::proto::proxy::{Proxy, Source};
use crate::proto::reject::Reject;
use crate::proto::sip::{Message, Method};

impl Proxy {
    /// Whether a message belongs to something that was begun, and if not, whose it is.
    pub(in crate::proto) fn urgency(&self, flow: &Flow, message: &Message) -> Urgency {
        if !message.is_request() {
            return Urgency::Begun;
        }
        let method = message.method();
        let is_in_dialog = || message.to().is_ok_and(|to| to.tag().is_some());
        match (self.source(flow), method) {
            // Asterisk asks in this way whether a phone is there: without an answer none is.
            (
                Source::Upstream(_) | Source::Device,
                Some(Method::Ack | Method::Cancel | Method::Options | Method::Register),
            ) => Urgency::Begun,
            (Source::Upstream(_) | Source::Device, _) if is_in_dialog() => Urgency::Begun,
            (Source::Upstream(_) | Source::Device, _) => Urgency::Call,
            (Source::Stranger, Some(Method::Register)) => {
                let read = self.read_register(flow, message);
                match read {
                    Ok((relay, _)) if self.is_known_device(&relay) => Urgency::Begun,
                    Ok(_) | Err(_) => Urgency::Registration,
                }
            }
            // A phone may go on with its call from elsewhere: the token says so.
            (Source::Stranger, _) if is_in_dialog() => {
                let routes = self.preprocess(message);
                match routes {
                    Ok(routes) if routes.token.is_some() => Urgency::Begun,
                    Ok(_) | Err(_) => Urgency::Stranger,
                }
            }
            (Source::Stranger, Some(Method::Ack | Method::Cancel))
                if self.transactions.knows(flow, message) =>
            {
                Urgency::Begun
            }
            (Source::Stranger, _) => Urgency::Stranger,
        }
    }

    /// Refuses what has waited for too long, unless it is a copy of what is worked on.
    pub(in crate::proto) fn shed(&mut self, fx: &mut Effects<'_>, flow: Flow, message: Message) {
        if !message.is_request() || self.transactions.knows(&flow, &message) {
            return self.on_message(fx, flow, message);
        }
        self.heard(fx, flow.id);
        let source = self.source(&flow);
        if self.admit(fx, &flow, &message, source) {
            self.turn_away(fx, &flow, &message, source, Reject::Shed);
        }
    }
}
