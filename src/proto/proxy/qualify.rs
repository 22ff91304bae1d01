//! OPTIONS (RFC 3261 §11): the upstream's qualify is answered for the device, which it never wakes
//! and never reaches; a ping of the gateway itself is answered too.

use bytes::Bytes;

use crate::proto::effects::Effects;
use crate::proto::proxy::{Proxy, stamp, validate};
use crate::proto::registration::flow::FlowToken;
use crate::proto::reject::Reject;
use crate::proto::sip::{HeaderName, Message, Method, Reply};
use crate::proto::transaction::ServerId;
use crate::proto::{BindingKey, Flow};

/// What a device behind us may be sent.
const ALLOW: &str =
    "INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, MESSAGE, REFER, INFO, UPDATE, PRACK, SUBSCRIBE";

impl Proxy {
    /// Answers for an agent's devices: 200 while one can be reached or woken.
    pub(super) fn qualify(
        &mut self,
        fx: &mut Effects<'_>,
        flow: &Flow,
        request: &Message,
        server: ServerId,
        upstream: u16,
        token: Option<FlowToken>,
    ) -> Result<(), Reject> {
        let (aor, binding) = match self.called_agent(request, upstream, token) {
            Ok(called) => called,
            Err(Reject::UnknownAgent) => return Err(Reject::NoDevice),
            Err(reject) => return Err(reject),
        };
        let is_there = match binding {
            Some(binding) => self.location.binding(BindingKey { aor, binding }).is_some(),
            None => self.location.agent(aor).is_some(),
        };
        // chan_sip qualifies a new peer before it answers its REGISTER.
        if is_there || self.registering.contains_key(&aor) {
            self.answer_options(fx, flow, request, server)
        } else {
            Err(Reject::NoDevice)
        }
    }

    /// Whether a request is an OPTIONS for the gateway itself: no user, and one of our addresses.
    pub(super) fn is_ping(&self, request: &Message) -> bool {
        request.method() == Some(Method::Options)
            && request.parsed_uri().is_some_and(|uri| {
                uri.user.is_none() && uri.host.is_some_and(|h| self.upstreams.is_own_host(h))
            })
    }

    /// 200 to an OPTIONS.
    fn answer_options(
        &mut self,
        fx: &mut Effects<'_>,
        flow: &Flow,
        request: &Message,
        server: ServerId,
    ) -> Result<(), Reject> {
        let reply = options_reply(self.tags, flow, request, true);
        self.transactions.respond(fx, server, 200, reply);
        Ok(())
    }

    /// Writes the 200 for a ping; in short if a long one would serve who sends in another's name.
    pub(super) fn ping_reply(&self, flow: &Flow, request: &Message) -> Bytes {
        let reply = options_reply(self.tags, flow, request, true);
        if self.amplifies(flow, request, reply.len()) {
            return options_reply(self.tags, flow, request, false);
        }
        reply
    }
}

/// Writes a 200 to an OPTIONS, with or without what can be sent here (RFC 3261 §11.2).
fn options_reply(tags: validate::Tags, flow: &Flow, request: &Message, is_full: bool) -> Bytes {
    let mut reply = Reply::new(request, 200, "OK");
    stamp(&mut reply, flow, request);
    reply.to_tag(tags.of(request));
    if is_full {
        reply.header(HeaderName::Allow, ALLOW);
        reply.header(HeaderName::Accept, "application/sdp");
    }
    reply.finish()
}
