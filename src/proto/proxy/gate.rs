//! What stands between strangers and the proxy: the guard's word, and what they may be answered.
//!
//! A datagram may be sent in anybody's name. Until its sender has proved to be where it says, it
//! causes one datagram at most, of at most half as many bytes again, and nothing is repeated by
//! itself: a stranger's INVITE makes no transaction, and a REGISTER's repeats no answer (RFC 3261
//! §17.2.2).

use bytes::{BufMut, Bytes, BytesMut};

use crate::proto::effects::Effects;
use crate::proto::event::Drop;
use crate::proto::guard::{Offence, is_stale};
use crate::proto::proxy::response::without_our_via;
use crate::proto::proxy::response_context::{Kind, ResponseContext};
use crate::proto::proxy::{Proxy, Source};
use crate::proto::registration::relay::{Ask, Relay};
use crate::proto::reject::Reject;
use crate::proto::sip::{HeaderName, Message};
use crate::proto::{Event, Flow, FlowId, Output};

/// What an answer cannot do without; a challenge is the point of it.
const ANSWER: [HeaderName; 9] = [
    HeaderName::Via,
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::WwwAuthenticate,
    HeaderName::ProxyAuthenticate,
    HeaderName::MinExpires,
    HeaderName::RetryAfter,
];

impl Proxy {
    /// Whether a request may go on; if not, all is done about it.
    pub(super) fn admit(
        &mut self,
        fx: &mut Effects<'_>,
        flow: &Flow,
        request: &Message,
        source: Source,
    ) -> bool {
        if source != Source::Stranger {
            return true;
        }
        match self.guard.admit(fx.now, flow, request) {
            Ok(()) => true,
            Err(reject) => {
                self.turn_away(fx, flow, request, source, reject);
                false
            }
        }
    }

    /// Refuses a request before anything is kept of it, and remembers who has sent it.
    pub(super) fn turn_away(
        &mut self,
        fx: &mut Effects<'_>,
        flow: &Flow,
        request: &Message,
        source: Source,
        reject: Reject,
    ) {
        if source == Source::Stranger && reject.is_offence() {
            let offence = self.guard.on_offence(fx.now, flow, request, reject);
            report(fx, flow, reject, offence);
        }
        let is_datagram = !flow.transport.is_reliable();
        let is_quiet = source == Source::Stranger && !self.guard.answers_strangers();
        if is_quiet && is_datagram && reject == Reject::Forbidden {
            fx.event(Event::Dropped {
                place: Drop::Stranger,
                flow: Some(flow.id),
            });
        } else if reject.is_silent() || (is_datagram && reject.is_flood()) {
            fx.event(Event::Rejected {
                reject,
                flow: *flow,
            });
        } else {
            self.refuse_stateless(fx, flow, request, reject);
        }
        if reject.is_silent() && !is_datagram {
            fx.output(Output::Close { flow: flow.id });
        }
    }

    /// Whether bytes of a stranger that are no message are worth an answer.
    pub(super) fn admit_malformed(&mut self, fx: &mut Effects<'_>, flow: &Flow) -> bool {
        if self.source(flow) != Source::Stranger {
            return true;
        }
        let Err(reject) = self.guard.admit_malformed(fx.now, flow) else {
            return true;
        };
        fx.event(Event::Rejected {
            reject,
            flow: *flow,
        });
        if reject.is_silent() && flow.transport.is_reliable() {
            fx.output(Output::Close { flow: flow.id });
        }
        false
    }

    /// Whether a registered agent may begin something once more.
    pub(super) fn admit_agent(
        &mut self,
        fx: &Effects<'_>,
        flow: &Flow,
        request: &Message,
    ) -> Result<(), Reject> {
        let is_in_dialog = request.to().is_ok_and(|to| to.tag().is_some());
        match self.location.on_flow(flow.id).first() {
            Some(key) if !is_in_dialog => self.guard.admit_agent(fx.now, key.aor),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a REGISTER may go on to its upstream.
    pub(super) fn admit_register(
        &mut self,
        fx: &Effects<'_>,
        flow: &Flow,
        request: &Message,
        relay: &Relay,
    ) -> Result<(), Reject> {
        if self.is_owner(flow, relay) {
            return Ok(());
        }
        let device = (relay.aor.id(), self.is_known_device(relay));
        self.guard.admit_register(fx.now, flow, request, device)
    }

    /// An answer that refuses a REGISTER goes to its phone; to a stranger no longer than it may be.
    pub(super) fn pass_on_refusal(
        &mut self,
        fx: &mut Effects<'_>,
        context: &ResponseContext,
        status: u16,
        response: &Message,
    ) {
        if let Kind::Register(registration) = &context.kind {
            let relay = &registration.relay;
            if !self.is_owner(&context.flow, relay) && !self.is_known_device(relay) {
                self.on_stranger_refused(fx, context, relay, status, response);
            }
        }
        let Some(mut bytes) = without_our_via(fx, response) else {
            return;
        };
        let (flow, request) = (&context.flow, &context.request);
        if self.amplifies(flow, request, bytes.len()) {
            bytes = in_short(status, &bytes);
        }
        if self.amplifies(flow, request, bytes.len()) {
            self.transactions.discard(context.server);
            fx.event(Event::Dropped {
                place: Drop::Reflection,
                flow: Some(flow.id),
            });
            return;
        }
        self.transactions.respond(fx, context.server, status, bytes);
    }

    fn on_stranger_refused(
        &mut self,
        fx: &mut Effects<'_>,
        context: &ResponseContext,
        relay: &Relay,
        status: u16,
        response: &Message,
    ) {
        let (flow, request) = (&context.flow, &context.request);
        let is_failure = match status {
            401 | 407 => crate::proto::guard::has_credentials(request) && !is_stale(response),
            403 | 404 => true,
            _ => false,
        };
        if is_failure {
            let offence = self.guard.on_refused(fx.now, flow, request, relay.aor.id());
            report(fx, flow, Reject::WrongCredentials, offence);
        }
        self.guard.on_challenged(flow, response);
    }

    /// Whether an answer of so many bytes to a datagram would be of use to somebody who sends in
    /// another's name.
    pub(super) fn amplifies(&self, flow: &Flow, request: &Message, bytes: usize) -> bool {
        bytes * 2 > request.raw().len() * 3
            && !flow.transport.is_reliable()
            && self.source(flow) == Source::Stranger
            && !self.guard.has_proved(flow, request)
    }

    /// Whether a REGISTER comes over a flow of the same agent, or from an upstream's address.
    fn is_owner(&self, flow: &Flow, relay: &Relay) -> bool {
        let aor = relay.aor.id();
        let keys = self.location.on_flow(flow.id);
        keys.iter().any(|key| key.aor == aor) || matches!(self.source(flow), Source::Upstream(_))
    }

    /// Whether a REGISTER names a device that its agent has, by what only that device knows.
    pub(super) fn is_known_device(&self, relay: &Relay) -> bool {
        let Ask::Devices(devices) = &relay.ask else {
            return false;
        };
        let agent = self.location.agent(relay.aor.id());
        devices.iter().any(|device| {
            let is_named = device.instance.is_some() || device.push.is_ok();
            is_named && agent.is_some_and(|agent| agent.binding(device.id).is_some())
        })
    }
}

fn report(fx: &mut Effects<'_>, flow: &Flow, reject: Reject, offence: Option<Offence>) {
    let Some(Offence { is_banned, is_told }) = offence else {
        return;
    };
    if is_banned || is_told {
        fx.event(Event::Offence {
            address: flow.remote.ip().to_canonical(),
            transport: flow.transport,
            reject,
            is_banned,
        });
    }
    if is_banned && let FlowId::Stream(_) = flow.id {
        fx.output(Output::Close { flow: flow.id });
    }
}

/// A response without all that its receiver can do without.
fn in_short(status: u16, response: &Bytes) -> Bytes {
    let Ok(message) = Message::parse(response.clone()) else {
        return response.clone();
    };
    let mut out = BytesMut::with_capacity(response.len());
    out.put_slice(format!("SIP/2.0 {status} ").as_bytes());
    out.put_slice(message.reason().unwrap_or_default());
    out.put_slice(b"\r\n");
    for line in message.headers().filter(|line| ANSWER.contains(&line.name)) {
        out.put_slice(line.name.as_str().as_bytes());
        out.put_slice(b": ");
        out.put_slice(line.value);
        out.put_slice(b"\r\n");
    }
    out.put_slice(b"Content-Length: 0\r\n\r\n");
    out.freeze()
}
