//! Which device a REGISTER speaks of, beside what the location service knows (RFC 5626 §6, RFC 8599
//! §5.6.2): one whose first REGISTER is under way, and one that is woken after its binding ended.

use crate::proto::aor::Aor;
use crate::proto::proxy::Proxy;
use crate::proto::proxy::response_context::Kind;
use crate::proto::push::params::PushParams;
use crate::proto::registration::relay::{Ask, DeviceAsk, Relay, user_of};
use crate::proto::reject::Reject;
use crate::proto::sip::Message;
use crate::proto::{BindingKey, Flow, FlowId};

impl Proxy {
    /// Reads a REGISTER: for which agent and upstream, and which of its devices are known.
    pub(super) fn read_register(
        &self,
        flow: &Flow,
        request: &Message,
    ) -> Result<(Relay, u16), Reject> {
        let to = request.to().map_err(|_| Reject::Malformed)?;
        let user = user_of(&to)?;
        let host = to
            .parse_uri()
            .ok()
            .and_then(|uri| uri.host)
            .ok_or(Reject::Malformed)?;
        let (upstream, domain) = self
            .upstreams
            .of_domain(host)
            .ok_or(Reject::UnknownDomain)?;
        let aor = Aor { user, domain };
        let mut relay = Relay::read(request, aor, upstream, &self.settings)?;
        if let Some(agent) = self.location.agent(relay.aor.id()) {
            relay.recognise(agent, flow.id);
        }
        self.recognise_under_way(&mut relay, flow.id);
        self.recognise_woken(&mut relay);
        Ok((relay, upstream))
    }

    /// A device whose first REGISTER is under way is still the same when it asks again, with a new
    /// instance or from another place: what waits for it must not wait for another.
    fn recognise_under_way(&self, relay: &mut Relay, flow: FlowId) {
        let aor = relay.aor.id();
        let Ask::Devices(devices) = &mut relay.ask else {
            return;
        };
        let under_way = self.registering.get(&aor).into_iter().flatten();
        for context in under_way.filter_map(|id| self.contexts.peek(*id)) {
            let Kind::Register(registration) = &context.kind else {
                continue;
            };
            let Ask::Devices(others) = &registration.relay.ask else {
                continue;
            };
            let is_known = |binding| self.location.binding(BindingKey { aor, binding }).is_some();
            for device in &mut *devices {
                if is_known(device.id) {
                    continue;
                }
                let is_there = context.flow.id == flow;
                // What has a binding already is not another before the upstream has granted that.
                let new = |other: &&DeviceAsk| other.expires > 0 && !is_known(other.id);
                let mut others = others.iter().filter(new);
                if let Some(same) = others.find(|other| other.is_same(device, is_there)) {
                    device.id = same.id;
                }
            }
        }
    }

    /// A device whose binding ended while it was being woken is still the one that is woken, by
    /// whatever instance it comes back: RFC 8599 §5.6.2 asks for its push parameters alone.
    pub(super) fn recognise_woken(&self, relay: &mut Relay) {
        let aor = relay.aor.id();
        let Ask::Devices(devices) = &mut relay.ask else {
            return;
        };
        for device in devices {
            let app = device.push.as_ref().ok().map(PushParams::wakes);
            let woken = app.and_then(|app| self.wakes.device_of(aor, app));
            let has_binding = |binding| {
                let key = BindingKey { aor, binding };
                self.location.binding(key).is_some()
            };
            if let Some(woken) = woken
                && !has_binding(device.id)
                && !has_binding(woken.binding)
            {
                device.id = woken.binding;
            }
        }
    }
}
