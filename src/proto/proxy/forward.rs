//! Request forwarding (RFC 3261 §16.6): what changes in a request on its way to one target.

use bytes::Bytes;

use crate::proto::effects::Effects;
use crate::proto::proxy::Proxy;
use crate::proto::proxy::oversize::Sized;
use crate::proto::proxy::response_context::{
    Branch, BranchState, Calling, Kind, Leg, Registration, ResponseContext, Target,
};
use crate::proto::proxy::sips;
use crate::proto::proxy::validate::{DEFAULT_MAX_FORWARDS, LOOP_PARAM, loop_hash, max_breadth};
use crate::proto::push::wake::Waiter;
use crate::proto::registration::flow::{FlowToken, NO_NODE};
use crate::proto::registration::outbound;
use crate::proto::registration::relay::{Ask, UpstreamContacts, contact_without_push};
use crate::proto::reject::Reject;
use crate::proto::settings::ContactMode;
use crate::proto::sip::{Decimal, Edit, HeaderName, Message, Method, Text, Value, With};
use crate::proto::timer::{ContextTimer, Timer};
use crate::proto::{BindingId, BindingKey, Destination, Event, Flow, ListenerId, Transport};

impl Proxy {
    /// Sends the request on a branch as a new client transaction (§16.6 steps 8 to 11).
    pub(super) fn send(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        leg: Leg,
    ) {
        if sips::is_promised(&context.request) && !leg.transport.is_secure() {
            return self.fail_branch(fx, context, index, Reject::SipsNotAllowed);
        }
        let client = self.transactions.reserve(fx);
        let branch = client.branch_bytes(self.shard);
        let Some(message) = self.write_request(fx, context, index, &leg, &branch) else {
            self.transactions.abandon(fx, client);
            self.finish_branch(fx, context, index);
            return;
        };
        let Sized {
            message,
            leg,
            datagram,
        } = self.by_size(fx, message, leg, &branch, &context.request);
        self.clients.insert(
            client,
            Waiter {
                context: context.id,
                branch: index,
            },
        );
        let timer_c = context.is_invite().then(|| {
            let timer = Timer::Context(context.id, ContextTimer::C(index));
            fx.arm(self.settings.timing.timer_c, timer)
        });
        if let Some(branch) = context.branches.get_mut(usize::from(index)) {
            branch.state = BranchState::Calling(Calling {
                client,
                leg: leg.clone(),
                datagram,
                is_provisional: false,
                timer_c,
                grace: None,
                is_pushed: false,
                wake: None,
            });
        }
        let key = context
            .branches
            .get(usize::from(index))
            .and_then(Branch::device);
        if let (true, false, Some(key), Destination::Flow(flow)) =
            (context.is_invite(), context.is_in_dialog, key, &leg.to)
        {
            fx.event(Event::CallForwarded {
                call: context.number(),
                call_id: context.call_id(),
                key,
                flow: *flow,
            });
        }
        let method = context.request.method().unwrap_or(Method::Other(b""));
        let is_reliable = leg.transport.is_reliable();
        self.transactions
            .start_written(fx, client, (method, &message), leg.to, is_reliable);
    }

    /// Writes the request for a target.
    fn write_request(
        &self,
        fx: &Effects<'_>,
        context: &ResponseContext,
        index: u16,
        leg: &Leg,
        branch_param: &[u8],
    ) -> Option<Bytes> {
        let branch = context.branches.get(usize::from(index))?;
        let request = &context.request;
        let mut edit = self.common_edits(context, leg, branch_param)?;
        match branch.target {
            Target::Device(key) => {
                if !context.is_in_dialog {
                    edit.request_uri(self.location.binding(key)?.contact_uri());
                }
            }
            Target::Upstream { .. } => match &context.kind {
                Kind::Register(registration) => {
                    self.register_edits(fx, &mut edit, request, registration, leg)?;
                }
                Kind::Invite | Kind::NonInvite => {
                    if let Some(contact) = contact_without_push(request) {
                        edit.replace_value(HeaderName::Contact, 0, contact);
                    }
                }
            },
        }
        let parallel = u32::try_from(context.branches.len()).unwrap_or(u32::MAX);
        breadth_edit(&mut edit, request, parallel);
        // A method that we do not know may open a dialog (§16.6 step 4).
        if !context.is_in_dialog
            && let Some(Method::Invite | Method::Subscribe | Method::Refer | Method::Other(_)) =
                request.method()
            && let Some(key) = self.dialog_device(context, branch)
        {
            let contact = branch.device().and_then(|key| self.location.binding(key));
            let is_sips = sips::is_promised(request)
                || contact.is_some_and(|binding| sips::is_sips(&binding.contact_uri()));
            self.record_route(&mut edit, key, &context.flow, leg, is_sips)?;
        }
        Some(edit.finish())
    }

    /// What changes in every request: Routes of ours, the sender's Via, Max-Forwards, our Via.
    fn common_edits<'m>(
        &self,
        context: &'m ResponseContext,
        leg: &Leg,
        branch_param: &[u8],
    ) -> Option<Edit<'m>> {
        let request = &context.request;
        let mut edit = Edit::new(request);
        for route in 0..context.own_routes {
            edit.remove_value(HeaderName::Route, route);
        }
        if let Some(uri) = &context.strict_uri {
            edit.request_uri(uri);
            let last = request.values(HeaderName::Route).count().checked_sub(1)?;
            if last >= context.own_routes {
                edit.remove_value(HeaderName::Route, last);
            }
        }
        if let Some(via) = request.top_via().ok()?.stamped(context.flow.remote) {
            edit.replace_value(HeaderName::Via, 0, via);
        }
        edit.replace(HeaderName::MaxForwards, next_max_forwards(request));
        if leg.transport.is_reliable() {
            length_edit(&mut edit, request);
        }
        edit.prepend(
            HeaderName::Via,
            self.via(leg, branch_param, loop_hash(request))?,
        );
        Some(edit)
    }

    /// A device takes part in a call.
    pub(super) fn took_part(&mut self, fx: &Effects<'_>, key: BindingKey) {
        if let Some(binding) = self.location.binding_mut(key) {
            binding.set_last_call(Some(fx.now));
        }
    }

    /// Our Via value toward a leg.
    pub(super) fn via<'p>(
        &'p self,
        leg: &Leg,
        branch: &'p [u8],
        mark: u64,
    ) -> Option<impl Value + use<'p>> {
        let listener = self.upstreams.listener_settings(leg.listener)?;
        let transport = leg.transport.via_token();
        Some(With(move |out: &mut Text| {
            out.push("SIP/2.0/").push(transport).push(" ");
            out.push(&*listener.advertise_host).push(":");
            out.decimal(listener.advertise_port);
            out.push(";branch=").push(branch).push(";rport;");
            out.push(LOOP_PARAM).push("=").hex(mark);
        }))
    }

    /// The device whose dialog a request opens: the called one, or the caller's.
    fn dialog_device(&self, context: &ResponseContext, branch: &Branch) -> Option<BindingKey> {
        branch.device().or_else(|| self.caller(context))
    }

    /// The binding of a request that came from a phone: the one of its flow that its From names.
    pub(super) fn caller(&self, context: &ResponseContext) -> Option<BindingKey> {
        self.caller_on(&context.request, context.flow.id)
    }

    /// Our Record-Route: one URI if both sides reach us at the same address, else one for each; the
    /// far side's comes first on the wire (RFC 5658 §5).
    fn record_route(
        &self,
        edit: &mut Edit<'_>,
        key: BindingKey,
        flow: &Flow,
        leg: &Leg,
        is_sips: bool,
    ) -> Option<()> {
        let node = leg.node.unwrap_or(NO_NODE);
        let token = self.signer.sign(FlowToken { key, node });
        // §16.6 step 4: a sips URI is recorded as one, where TLS is what reaches us.
        let scheme = |transport: Transport| {
            if is_sips && transport.is_secure() {
                "sips"
            } else {
                "sip"
            }
        };
        let near = (flow.listener, flow.transport);
        let far = (leg.listener, leg.transport);
        // A line for each: some phones repeat the last value of a line that has more.
        let value = self.route_uri(scheme(near.1), &token, near)?;
        edit.prepend(HeaderName::RecordRoute, value);
        if near != far {
            let value = self.route_uri(scheme(far.1), &token, far)?;
            edit.prepend(HeaderName::RecordRoute, value);
        }
        Some(())
    }

    /// A Route value of ours.
    pub(super) fn route_uri<'p>(
        &'p self,
        scheme: &'p str,
        token: &'p [u8],
        (listener, transport): (ListenerId, Transport),
    ) -> Option<impl Value + use<'p>> {
        let address = self.our_address(listener, transport)?;
        Some(With(move |out: &mut Text| {
            out.push("<").push(scheme).push(":").push(token).push("@");
            address.put(out);
            out.push(";lr>");
        }))
    }

    /// `host:port`, with a transport parameter unless it is UDP.
    pub(super) fn our_address(
        &self,
        listener: ListenerId,
        transport: Transport,
    ) -> Option<impl Value + use<'_>> {
        let listener = self.upstreams.listener_settings(listener)?;
        Some(With(move |out: &mut Text| {
            out.push(&*listener.advertise_host).push(":");
            out.decimal(listener.advertise_port);
            match transport {
                Transport::Udp => {}
                Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                    out.push(";transport=").push(transport.uri_value());
                }
            }
        }))
    }

    /// What changes in a REGISTER: Contact, Expires, Path (RFC 3327 §5.1).
    fn register_edits(
        &self,
        fx: &Effects<'_>,
        edit: &mut Edit<'_>,
        request: &Message,
        registration: &Registration,
        leg: &Leg,
    ) -> Option<()> {
        let relay = &registration.relay;
        let group = self.settings.upstreams.get(usize::from(relay.upstream))?;
        let address = Text::of(self.our_address(leg.listener, leg.transport)?).to_string();
        let others = relay.others_stay(self.location.agent(relay.aor.id()), fx.now);
        match relay.upstream_contacts(&address, group.expires, others) {
            UpstreamContacts::AsSent => {}
            UpstreamContacts::Ours { values, expires } => {
                edit.replace(HeaderName::Contact, values.join(", "));
                edit.replace(HeaderName::Expires, Decimal(expires));
                for old in relay.replaced_contacts(self.location.agent(relay.aor.id()), &address) {
                    edit.append(HeaderName::Contact, old);
                }
            }
        }
        for caps in relay.offer.to_upstream() {
            edit.append(HeaderName::FeatureCaps, caps);
        }
        if relay.is_outbound {
            outbound::strip_require(edit, request);
        }
        if relay.mode == ContactMode::Path
            && let Some(id) = first_device(&relay.ask)
        {
            let key = BindingKey {
                aor: relay.aor.id(),
                binding: id,
            };
            let token = self.signer.sign(FlowToken {
                key,
                node: leg.node.unwrap_or(NO_NODE),
            });
            let path = self.route_uri("sip", &token, (leg.listener, leg.transport))?;
            edit.prepend(HeaderName::Path, path);
            // PJSIP answers 420 to a Path whose UA does not list it.
            if !request.lists(HeaderName::Supported, "path") {
                edit.append(HeaderName::Supported, "path");
            }
        }
        Some(())
    }
}

fn first_device(ask: &Ask) -> Option<BindingId> {
    match ask {
        Ask::Query | Ask::RemoveAll => None,
        Ask::Devices(devices) => {
            let adds = devices.iter().find(|device| device.expires > 0);
            adds.or_else(|| devices.first()).map(|device| device.id)
        }
    }
}

/// Shares Max-Breadth among so many branches; every request that is forwarded has one (RFC 5393
/// §5.3.3).
pub(super) fn breadth_edit(edit: &mut Edit<'_>, request: &Message, branches: u32) {
    let breadth = max_breadth(request).unwrap_or(1);
    let share = (breadth / branches.max(1)).max(1);
    edit.replace(HeaderName::MaxBreadth, Decimal(share));
}

/// Says how long the body is, if nobody did: on a stream it has no other end (§16.6 step 9).
pub(super) fn length_edit(edit: &mut Edit<'_>, message: &Message) {
    if message.content_length().is_none() {
        let length = u32::try_from(message.body().len()).unwrap_or(u32::MAX);
        edit.append(HeaderName::ContentLength, Decimal(length));
    }
}

/// Max-Forwards after this hop (§16.6 step 3).
pub(super) fn next_max_forwards(request: &Message) -> impl Value + use<> {
    let next = match request.max_forwards() {
        Ok(Some(value)) => value.saturating_sub(1),
        Ok(None) | Err(_) => DEFAULT_MAX_FORWARDS,
    };
    Decimal(u32::from(next))
}
