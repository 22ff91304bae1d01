//! Determining the targets of a request (RFC 3261 §16.5): devices of an agent, or an upstream.

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use crate::proto::aor::{Aor, CONTACT_PARAM, parse_contact_param};
use crate::proto::effects::Effects;
use crate::proto::event::Drop;
use crate::proto::proxy::preprocess::Routes;
use crate::proto::proxy::response_context::{Branch, Kind, Leg, Phase, ResponseContext, Target};
use crate::proto::proxy::upstream::UpstreamHop;
use crate::proto::proxy::validate::{loop_hash, max_breadth, stateless_branch};
use crate::proto::proxy::{Proxy, Source, forward, sips, stamp};
use crate::proto::push::wake::Waiter;
use crate::proto::registration::flow::FlowToken;
use crate::proto::registration::relay::contact_without_push;
use crate::proto::reject::Reject;
use crate::proto::settings::Qualify;
use crate::proto::sip::{Edit, HeaderName, Host, Message, Method, Reply, Scheme, Uri};
use crate::proto::transaction::ServerId;
use crate::proto::{AorId, BindingId, BindingKey, Event, Flow, Hop, Output, Transport};

/// How often a call may come by without an answer; the next pass is refused.
const PASSES: usize = 5;
/// Users of From that many callers share (RFC 3323 §4.1; Asterisk without a caller's number).
const NOBODY: [&[u8]; 4] = [b"", b"anonymous", b"asterisk", b"unknown"];

impl Proxy {
    /// Proxies a request other than REGISTER that opened a server transaction.
    pub(super) fn proxy_request(
        &mut self,
        fx: &mut Effects<'_>,
        flow: Flow,
        request: &Message,
        server: ServerId,
        source: Source,
        routes: Routes,
    ) -> Result<(), Reject> {
        let is_in_dialog = request.to().is_ok_and(|to| to.tag().is_some());
        let is_invite = request.method() == Some(Method::Invite);
        let mut own_routes = routes.own;
        let branches = match (is_in_dialog, routes.token) {
            (true, Some(token)) => {
                smallvec![Branch::new(
                    self.dialog_target(fx, request, source, token, routes.own)?,
                    1000
                )]
            }
            (true, None) | (false, _) => {
                if is_invite && self.is_draining {
                    return Err(Reject::Draining);
                }
                match source {
                    Source::Upstream(upstream) if request.method() == Some(Method::Options) => {
                        let asked = self.qualified_devices(fx, request, upstream, routes.token);
                        if asked.is_empty() {
                            return self.qualify(
                                fx,
                                &flow,
                                request,
                                server,
                                upstream,
                                routes.token,
                            );
                        }
                        asked
                    }
                    Source::Upstream(upstream) => {
                        self.device_targets(fx, request, upstream, routes.token)?
                    }
                    Source::Device => {
                        // It names its way; only its upstream is ours to give.
                        own_routes = request.routes().count();
                        smallvec![self.upstream_target(fx, request, &flow)?]
                    }
                    Source::Stranger => return Err(Reject::Forbidden),
                }
            }
        };
        if is_in_dialog && request.method() == Some(Method::Bye) {
            let call_id = request.call_id().unwrap_or_default();
            fx.event(Event::CallEnded {
                call_id: String::from_utf8_lossy(call_id).into(),
                is_phone: !matches!(source, Source::Upstream(_)),
            });
        }
        let hold = self.hold_of(request, is_in_dialog, branches.first());
        let (started, wake_by) = self.began(fx.now);
        let context = Box::new(ResponseContext {
            id: self.contexts.reserve(),
            server,
            request: request.clone(),
            flow,
            started,
            kind: if is_invite {
                Kind::Invite
            } else {
                Kind::NonInvite
            },
            phase: Phase::Open,
            branches,
            best: None,
            own_routes,
            strict_uri: routes.strict_uri,
            is_in_dialog,
            hold,
            kept: 0,
            held: None,
            wake_by,
            is_elsewhere: false,
        });
        self.open(fx, context);
        Ok(())
    }

    /// Begins a context: 100 for an INVITE, then its branches.
    pub(super) fn open(&mut self, fx: &mut Effects<'_>, mut context: Box<ResponseContext>) {
        if context.is_invite() {
            self.servers.insert(context.server, context.id);
            // RFC 3261 §16.2: 100 at once; Asterisk sends no CANCEL without a provisional.
            let mut trying = Reply::new(&context.request, 100, "Trying");
            stamp(&mut trying, &context.flow, &context.request);
            let trying = trying.finish();
            self.transactions.respond(fx, context.server, 100, trying);
            self.report_call(fx, &context);
        }
        self.start_next_group(fx, &mut context);
        self.settle(fx, context);
    }

    fn report_call(&self, fx: &mut Effects<'_>, context: &ResponseContext) {
        let Some(agent) = context.agent().and_then(|aor| self.location.agent(aor)) else {
            return;
        };
        if context.is_in_dialog {
            return;
        }
        let asleep = context
            .branches
            .iter()
            .filter_map(Branch::device)
            .filter(|key| {
                self.location
                    .binding(*key)
                    .is_some_and(|b| b.flow().is_none())
            })
            .count();
        fx.event(Event::CallReceived {
            call: context.number(),
            caller: caller_of(&context.request),
            call_id: context.call_id(),
            aor: agent.aor.to_string().into(),
            devices: context.branches.len(),
            asleep,
        });
    }

    /// Tells of an upstream's call that goes to nobody.
    pub(super) fn report_refused(
        fx: &mut Effects<'_>,
        request: &Message,
        source: Source,
        reject: Reject,
    ) {
        let is_call = request.method() == Some(Method::Invite)
            && request.to().is_ok_and(|to| to.tag().is_none());
        if !is_call || !matches!(source, Source::Upstream(_)) {
            return;
        }
        let text = |bytes: &[u8]| -> Box<str> { String::from_utf8_lossy(bytes).into() };
        let user = request.request_uri().and_then(|uri| Uri::parse(uri).ok());
        fx.event(Event::CallRefused {
            call_id: text(request.call_id().unwrap_or_default()),
            user: text(user.and_then(|uri| uri.user).unwrap_or_default()),
            caller: caller_of(request),
            reject,
        });
    }

    /// The devices of the agent that an upstream's request is for.
    fn device_targets(
        &self,
        fx: &Effects<'_>,
        request: &Message,
        upstream: u16,
        token: Option<FlowToken>,
    ) -> Result<SmallVec<[Branch; 1]>, Reject> {
        let (aor, binding) = self.called_agent(request, upstream, token)?;
        let agent = self.location.agent(aor).ok_or(Reject::NoDevice)?;
        if agent.upstream != upstream {
            return Err(Reject::Forbidden);
        }
        let mut branches: SmallVec<[Branch; 1]> = SmallVec::new();
        let mut instances: SmallVec<[Box<str>; 2]> = SmallVec::new();
        // Of several flows of one device (RFC 5626 §5.3) the one that was heard last stands for it.
        let mut order: SmallVec<[_; 2]> = agent.bindings.iter().collect();
        order.sort_by_key(|b| {
            std::cmp::Reverse((b.q, b.flow().is_some(), self.location.last_heard(b)))
        });
        for device in order {
            if binding.is_some_and(|wanted| wanted != device.id) || device.expires() <= fx.now {
                continue;
            }
            if let Some(instance) = device.instance() {
                if instances.contains(&instance) {
                    continue;
                }
                instances.push(instance);
            }
            let key = BindingKey {
                aor,
                binding: device.id,
            };
            branches.push(Branch::new(Target::Device(key), device.q));
        }
        if branches.is_empty() {
            return Err(Reject::NoDevice);
        }
        let breadth = usize::try_from(max_breadth(request)?).unwrap_or(usize::MAX);
        if branches.len() > breadth {
            return Err(Reject::MaxBreadth);
        }
        let is_invite = request.method() == Some(Method::Invite);
        if is_invite && self.held_calls(aor) >= self.settings.limits.held_per_agent {
            return Err(Reject::TooManyHeld);
        }
        if is_invite && self.goes_round(aor, request) {
            return Err(Reject::LoopDetected);
        }
        Ok(branches)
    }

    /// Whether a call has come by so often, and has no answer yet, that it must be one that goes
    /// round: Asterisk counts the hops anew on each pass (a back-to-back user agent has no other
    /// choice), but names the same caller.
    fn goes_round(&self, aor: AorId, request: &Message) -> bool {
        let Some(caller) = user_of_caller(request) else {
            return false;
        };
        let Some(agent) = self.location.agent(aor) else {
            return false;
        };
        let is_same = |waiter: &&Waiter| {
            let context = self.contexts.peek(waiter.context);
            context.is_some_and(|context| {
                context.is_invite()
                    && !context.is_in_dialog
                    && user_of_caller(&context.request).as_deref() == Some(&*caller)
            })
        };
        agent.bindings.iter().any(|binding| {
            let key = BindingKey {
                aor,
                binding: binding.id,
            };
            let waiters = self.by_device.get(&key).into_iter().flatten();
            waiters.filter(is_same).take(PASSES).count() == PASSES
        })
    }

    /// The devices that an upstream's OPTIONS travels to: none if the gateway answers.
    fn qualified_devices(
        &self,
        fx: &Effects<'_>,
        request: &Message,
        upstream: u16,
        token: Option<FlowToken>,
    ) -> SmallVec<[Branch; 1]> {
        let group = self.settings.upstreams.get(usize::from(upstream));
        match group.map_or(Qualify::Local, |group| group.qualify) {
            Qualify::Local => SmallVec::new(),
            Qualify::Forward => {
                let mut asked = self
                    .device_targets(fx, request, upstream, token)
                    .unwrap_or_default();
                asked.retain(|branch| {
                    let device = branch.device().and_then(|key| self.location.binding(key));
                    device.is_some_and(|binding| binding.flow().is_some())
                });
                asked
            }
        }
    }

    /// The agent, and perhaps the device, that a request names: by our token (Path), by a PURR (RFC
    /// 8599 §7), by our parameter in the Request-URI, or by its user and domain.
    pub(super) fn called_agent(
        &self,
        request: &Message,
        upstream: u16,
        token: Option<FlowToken>,
    ) -> Result<(AorId, Option<BindingId>), Reject> {
        if let Some(token) = token {
            return Ok((token.key.aor, Some(token.key.binding)));
        }
        let uri = request.parsed_uri().ok_or(Reject::Malformed)?;
        if let Some(key) = self.purrs.device_of(request) {
            return Ok((key.aor, Some(key.binding)));
        }
        if let Some(value) = uri.params.value(CONTACT_PARAM) {
            return parse_contact_param(value).ok_or(Reject::NoDevice);
        }
        let user = uri.user_unescaped().ok_or(Reject::UnknownAgent)?;
        let user = std::str::from_utf8(&user).map_err(|_| Reject::UnknownAgent)?;
        if let Some((group, domain)) = uri.host.and_then(|host| self.upstreams.of_domain(host))
            && group == upstream
        {
            let id = Aor {
                user: user.into(),
                domain,
            }
            .id();
            if self.location.agent(id).is_some() {
                return Ok((id, None));
            }
        }
        let mut agents = self.location.agents_of_user(upstream, user);
        match (agents.next(), agents.next()) {
            (Some(id), None) => Ok((id, None)),
            (None, _) | (Some(_), Some(_)) => Err(Reject::UnknownAgent),
        }
    }

    /// How many calls wait for devices of an agent.
    fn held_calls(&self, aor: AorId) -> usize {
        let Some(agent) = self.location.agent(aor) else {
            return 0;
        };
        agent
            .bindings
            .iter()
            .map(|b| self.calls_for(BindingKey { aor, binding: b.id }).len())
            .max()
            .unwrap_or(0)
    }

    /// The upstream of the phone that sent a request outside a dialog.
    fn upstream_target(
        &mut self,
        fx: &Effects<'_>,
        request: &Message,
        flow: &Flow,
    ) -> Result<Branch, Reject> {
        let caller = self.caller_on(request, flow.id).ok_or(Reject::Forbidden)?;
        if request.method() == Some(Method::Invite) {
            self.took_part(fx, caller);
        }
        let upstream = self
            .location
            .agent(caller.aor)
            .ok_or(Reject::Forbidden)?
            .upstream;
        let hops = sips::hops_of(request, self.upstreams.hops(fx.now, upstream))?;
        if hops.is_empty() {
            return Err(Reject::NoUpstream);
        }
        Ok(Branch::new(Target::Upstream { hops, next: 0 }, 1000))
    }

    /// Where a request inside a dialog goes: to the device if the upstream sent it, else to the
    /// upstream.
    fn dialog_target(
        &self,
        fx: &Effects<'_>,
        request: &Message,
        source: Source,
        token: FlowToken,
        own_routes: usize,
    ) -> Result<Target, Reject> {
        match source {
            Source::Upstream(_) => Ok(Target::Device(self.dialog_device_now(token))),
            Source::Device | Source::Stranger => {
                let hops =
                    sips::hops_of(request, self.dialog_hops(fx, request, token, own_routes))?;
                if hops.is_empty() {
                    return Err(Reject::NoUpstream);
                }
                Ok(Target::Upstream { hops, next: 0 })
            }
        }
    }

    /// The binding that a dialog's device has: the one it was opened with, or, for a device that
    /// names itself by its Contact alone and came back with another, the agent's only one. One that
    /// is not there may be about to register again.
    fn dialog_device_now(&self, token: FlowToken) -> BindingKey {
        let Some(agent) = self.location.agent(token.key.aor) else {
            return token.key;
        };
        if agent.binding(token.key.binding).is_some() {
            return token.key;
        }
        match agent.bindings.as_slice() {
            [only] => BindingKey {
                aor: token.key.aor,
                binding: only.id,
            },
            _ => token.key,
        }
    }

    /// The upstream side of a dialog: the address that its remote target names if it is one that
    /// the upstream vouches for, else the node of the dialog, else the group's nodes.
    fn dialog_hops(
        &self,
        fx: &Effects<'_>,
        request: &Message,
        token: FlowToken,
        own_routes: usize,
    ) -> Vec<UpstreamHop> {
        let upstream = self
            .location
            .agent(token.key.aor)
            .map(|agent| agent.upstream);
        // RFC 3261 §16.6 step 7: the first Route that is not ours, else the Request-URI.
        let next_route = request.routes().nth(own_routes).and_then(Result::ok);
        let by_target = match next_route {
            Some(route) => self.trusted_hop(route.uri, token.node),
            None => request
                .request_uri()
                .and_then(|uri| self.trusted_hop(uri, token.node)),
        };
        let by_node = || self.upstreams.node_hop(token.node);
        match (by_target.or_else(by_node), upstream) {
            (Some(hop), _) => vec![hop],
            (None, Some(upstream)) => self.upstreams.hops(fx.now, upstream),
            (None, None) => Vec::new(),
        }
    }

    /// The hop that a URI names by address, if an upstream trusts that address.
    fn trusted_hop(&self, uri: &[u8], node: u16) -> Option<UpstreamHop> {
        let uri = Uri::parse(uri).ok()?;
        let Some(Host::Address(address)) = uri.host else {
            return None;
        };
        self.upstreams.trusting(address)?;
        let transport = match uri.params.value("transport") {
            _ if matches!(uri.scheme, Scheme::Sips) => Transport::Tls,
            None => Transport::Udp,
            Some(name) if name.eq_ignore_ascii_case(b"udp") => Transport::Udp,
            Some(name) if name.eq_ignore_ascii_case(b"tcp") => Transport::Tcp,
            Some(name) if name.eq_ignore_ascii_case(b"tls") => Transport::Tls,
            Some(_) => return None,
        };
        let port = uri.port.unwrap_or_else(|| transport.default_port());
        // The node's own hop knows the name that its certificate carries.
        let known = self.upstreams.node_hop(node);
        if let Some(known) = known
            && self
                .upstreams
                .is_at(node, transport, (address, port).into())
        {
            return Some(known);
        }
        let hop = Hop {
            transport,
            address: (address, port).into(),
            server_name: None,
        };
        self.upstreams.upstream_hop(node, &hop)
    }

    /// Forwards an ACK of a 2xx (RFC 3261 §16.11: it has no transaction of its own).
    pub(super) fn on_ack(
        &mut self,
        fx: &mut Effects<'_>,
        flow: Flow,
        request: &Message,
        source: Source,
        routes: &Routes,
    ) {
        let target = routes
            .token
            .map(|token| self.dialog_target(fx, request, source, token, routes.own));
        let leg = match target {
            Some(Ok(Target::Device(key))) => self
                .location
                .binding(key)
                .and_then(|b| b.flow())
                .map(Leg::over),
            Some(Ok(Target::Upstream { hops, .. })) => hops.first().map(Leg::upstream),
            Some(Err(_)) | None => None,
        };
        let Some(mut leg) = leg else {
            fx.event(Event::Dropped {
                place: Drop::StrayAck,
                flow: Some(flow.id),
            });
            return;
        };
        let mut message = self.write_ack(request, &flow, routes, &leg);
        let bytes = message.as_ref().map_or(0, Bytes::len);
        if let Some(stream) = self.acks_by_stream(&leg, bytes) {
            message = self.write_ack(request, &flow, routes, &stream);
            leg = stream;
        }
        if let Some(message) = message {
            fx.output(Output::Send {
                to: leg.to,
                message,
                report: None,
            });
        }
    }

    fn write_ack(
        &self,
        request: &Message,
        flow: &Flow,
        routes: &Routes,
        leg: &Leg,
    ) -> Option<Bytes> {
        let mut edit = Edit::new(request);
        for route in 0..routes.own {
            edit.remove_value(HeaderName::Route, route);
        }
        if let Some(via) = request.top_via().ok()?.stamped(flow.remote) {
            edit.replace_value(HeaderName::Via, 0, via);
        }
        if leg.node.is_some()
            && let Some(contact) = contact_without_push(request)
        {
            edit.replace_value(HeaderName::Contact, 0, contact);
        }
        edit.replace(HeaderName::MaxForwards, forward::next_max_forwards(request));
        forward::breadth_edit(&mut edit, request, 1);
        if leg.transport.is_reliable() {
            forward::length_edit(&mut edit, request);
        }
        let branch = stateless_branch(request, self.shard);
        edit.prepend(
            HeaderName::Via,
            self.via(leg, branch.as_ref(), loop_hash(request))?,
        );
        Some(edit.finish())
    }
}

/// The URI of a request's From.
/// A caller who can be told from others: the user of From, unless it stands for nobody.
fn user_of_caller(request: &Message) -> Option<Vec<u8>> {
    let from = request.from().ok()?;
    let user = from.parse_uri().ok()?.user_unescaped()?.into_owned();
    let is_nobody = NOBODY.iter().any(|name| user.eq_ignore_ascii_case(name));
    (!is_nobody).then_some(user)
}

fn caller_of(request: &Message) -> Bytes {
    let raw = request.raw();
    request
        .from()
        .map_or_else(|_| Bytes::new(), |from| raw.slice_ref(from.uri))
}
