//! Requests too large for a datagram (RFC 3261 §18.1.1): toward an upstream they go over a
//! connection first, and as a datagram only where there is none to be had. A phone is reached over
//! its flow, however large the request is.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::proto::effects::Effects;
use crate::proto::event::Oversize;
use crate::proto::proxy::Proxy;
use crate::proto::proxy::branch::calling;
use crate::proto::proxy::forward::length_edit;
use crate::proto::proxy::response_context::{Leg, Phase, ResponseContext};
use crate::proto::proxy::validate::loop_hash;
use crate::proto::sip::{Edit, HeaderName, Message};
use crate::proto::{Destination, Event, FlowId, Transport};

/// The largest request for a datagram on a path whose MTU is unknown (RFC 3261 §18.1.1).
const LARGEST: usize = 1300;

/// A written request and the way that it takes.
#[derive(Debug)]
pub(super) struct Sized {
    pub(super) message: Bytes,
    pub(super) leg: Leg,
    /// The datagram's leg, if a connection is tried in its place.
    pub(super) datagram: Option<Box<Leg>>,
}

impl Proxy {
    /// Chooses the way of a request that was written for `leg` with this branch. Only our Via names
    /// the transport that it takes: in dialogs, and for its own requests, the upstream still
    /// reaches us as it does otherwise.
    pub(super) fn by_size(
        &self,
        fx: &mut Effects<'_>,
        message: Bytes,
        leg: Leg,
        branch: &[u8],
        request: &Message,
    ) -> Sized {
        let bytes = message.len();
        if leg.transport != Transport::Udp || bytes <= LARGEST {
            return Sized {
                message,
                leg,
                datagram: None,
            };
        }
        let stream = self.stream_beside(fx, &leg).and_then(|stream| {
            let parsed = Message::parse(message.clone()).ok()?;
            let mut edit = Edit::new(&parsed);
            length_edit(&mut edit, &parsed);
            let via = self.via(&stream, branch, loop_hash(request))?;
            edit.replace_value(HeaderName::Via, 0, via);
            Some((edit.finish(), stream))
        });
        let way = match (&stream, leg.node) {
            (Some(_), _) => Oversize::Stream,
            (None, Some(_)) => Oversize::Datagram,
            (None, None) => Oversize::Phone,
        };
        fx.event(Event::Oversize { way, bytes });
        match stream {
            Some((message, stream)) => Sized {
                message,
                leg: stream,
                datagram: Some(Box::new(leg)),
            },
            None => Sized {
                message,
                leg,
                datagram: None,
            },
        }
    }

    /// Whether an ACK of a 2xx, which nobody hears to be lost, is better sent over a connection.
    pub(super) fn acks_by_stream(&self, leg: &Leg, bytes: usize) -> Option<Leg> {
        let (remote, node) = upstream_datagram(leg)?;
        (bytes > LARGEST && self.upstreams.has_stream(remote))
            .then(|| self.upstreams.stream(node, remote))?
            .map(|hop| Leg::upstream(&hop))
    }

    /// The connection to the same address of an upstream, unless it was refused lately.
    fn stream_beside(&self, fx: &Effects<'_>, leg: &Leg) -> Option<Leg> {
        let (remote, node) = upstream_datagram(leg)?;
        if self.upstreams.refuses_stream(fx.now, remote) {
            return None;
        }
        let hop = self.upstreams.stream(node, remote)?;
        Some(Leg::upstream(&hop))
    }

    /// A request could not be sent: one that was too large for a datagram is sent as one all the
    /// same. Returns whether it was such a one.
    pub(super) fn fall_back(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) -> bool {
        let is_open = context.phase == Phase::Open;
        let Some(calling) = calling(context, index) else {
            return false;
        };
        let Some(leg) = calling.datagram.take() else {
            return false;
        };
        let timer_c = calling.timer_c.take();
        if let Some((remote, _)) = upstream_datagram(&leg) {
            self.upstreams.on_stream(fx.now, remote, false);
        }
        if !is_open {
            return false;
        }
        if let Some(timer) = timer_c {
            fx.cancel(timer);
        }
        self.send(fx, context, index, *leg);
        true
    }

    /// A request was answered: if it went over a connection instead, there is one to be had.
    pub(super) fn on_stream_answered(
        &mut self,
        fx: &Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        if let Some(calling) = calling(context, index)
            && let Some(leg) = calling.datagram.take()
            && let Some((remote, _)) = upstream_datagram(&leg)
        {
            self.upstreams.on_stream(fx.now, remote, true);
        }
    }
}

/// The address and the node of an upstream that a leg reaches by datagrams.
fn upstream_datagram(leg: &Leg) -> Option<(SocketAddr, u16)> {
    match leg.to {
        Destination::Flow(FlowId::Datagram { remote, .. }) => Some((remote, leg.node?)),
        Destination::Flow(FlowId::Stream(_)) | Destination::Hop(_) => None,
    }
}
